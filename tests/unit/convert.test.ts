// Converting models: the real one, sharded ones, which tensors are packed, and slices that cannot be seen in the result.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { packedArrays } from '../../core/checkpoint/packed_parts.js';
import { SLICE_BYTES } from '../../core/checkpoint/plain_weight.js';
import {
  bf16FromNumber,
  CoalescedInt4Tensor,
  type ConversionReport,
  dequantize,
  discardingSink,
  MemorySink,
  memoryFolder,
  memorySource,
  numberFromBf16,
  openModelCheckpoint,
  openSafetensors,
  openSamebitsFile,
  planConversion,
  quantizeInt4,
  type RandomAccessSink,
  runConversion,
  type SelectionOptions,
} from '../../core/index.js';
import { fileFolder } from '../../node/file_source.js';
import { entry, fileBytes, refusal } from './checkpoint_bytes.js';

const MODEL = join(import.meta.dirname, '../data/gemma4-kjv-6m');

interface Tensor {
  readonly name: string;
  readonly dtype: 'BF16' | 'F16' | 'F32' | 'I64';
  readonly shape: readonly number[];
  readonly data?: Uint8Array;
}

const ELEMENT_BYTES = { BF16: 2, F16: 2, F32: 4, I64: 8 } as const;

/** A safetensors file of these tensors; zeros where no data is given. */
function modelFile(tensors: readonly Tensor[]): Uint8Array {
  const entries: string[] = [];
  const parts: Uint8Array[] = [];
  let begin = 0;
  for (const { name, dtype, shape, data } of tensors) {
    const sizeBytes = shape.reduce((product, d) => product * d, ELEMENT_BYTES[dtype]);
    entries.push(entry(name, dtype, shape, begin, begin + sizeBytes));
    parts.push(data ?? new Uint8Array(sizeBytes));
    begin += sizeBytes;
  }
  return fileBytes(`{${entries.join()}}`, Buffer.concat(parts));
}

const bytesOf = (values: Uint16Array | Float32Array) =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

/** Compares whole arrays at once; element by element would take minutes for large ones. */
function expectSame(weight: CoalescedInt4Tensor, expected: CoalescedInt4Tensor, name: string): void {
  const arrays = ({ qdata, groups }: CoalescedInt4Tensor) =>
    packedArrays(qdata, groups).map((array) => Buffer.from(array.buffer, array.byteOffset, array.byteLength));
  const [actual, wanted] = [arrays(weight), arrays(expected)];
  expect(weight).toMatchObject({ form: expected.form, groupSize: expected.groupSize });
  for (const [i, bytes] of wanted.entries()) expect(Buffer.compare(actual[i]!, bytes), `${name}, array ${i}`).toBe(0);
}

async function openModel(tensors: readonly Tensor[], config?: object) {
  const files = new Map([['model.safetensors', modelFile(tensors)]]);
  if (config) files.set('config.json', new TextEncoder().encode(JSON.stringify(config)));
  return openModelCheckpoint(memoryFolder(files));
}

async function convertModel(tensors: readonly Tensor[], options: SelectionOptions = {}, config?: object) {
  const sink = new MemorySink();
  const report = await runConversion(await planConversion(await openModel(tensors, config), options), sink);
  return { report, bytes: sink.bytes, file: await openSamebitsFile(memorySource(sink.bytes)) };
}

describe('the real model', () => {
  let report: ConversionReport;
  let bytes: Uint8Array;

  const convertReal = async () => {
    const model = await openModelCheckpoint(fileFolder(MODEL));
    const sink = new MemorySink();
    report = await runConversion(await planConversion(model), sink);
    await model.close();
    return sink.bytes;
  };

  beforeAll(async () => {
    bytes = await convertReal();
  });

  test('has 42 packed weights: 41 linears and the tied head, which is kept plain too', async () => {
    const file = await openSamebitsFile(memorySource(bytes));
    expect(file.weights.size).toBe(42);
    expect(report.packedCount).toBe(42);
    expect([...file.weights.keys()].filter((name) => !/_proj\.weight$/.test(name))).toEqual([
      'model.embed_tokens.weight',
    ]);
    expect(report.tensors.find(({ keptPlain, packed }) => packed && keptPlain)?.name).toBe('model.embed_tokens.weight');
    expect([...new Set([...file.weights.values()].map(({ k }) => k))].sort()).toEqual([1024, 256, 512]);
    expect(file.convertedFrom).toBe('hf:bf16');
    expect(report.outputBytes).toBe(bytes.length);
  });

  test('packs what quantizeInt4 and fromInt4Tensor make of every weight, and copies the rest', async () => {
    const source = await openSafetensors(memorySource(readFileSync(join(MODEL, 'model.safetensors'))));
    const file = await openSamebitsFile(memorySource(bytes));
    for (const [name, { n, k }] of file.weights) {
      const weights = new Uint16Array((await source.read(name)).buffer);
      const native = quantizeInt4(weights, { n, k, groupSize: 32 });
      expectSame(await file.readWeight(name), CoalescedInt4Tensor.fromInt4Tensor(native), name);
    }
    const plain = [...source.tensors.keys()].filter((name) => !/_proj\.weight$/.test(name)).sort();
    const files = ['config.json', 'tokenizer.json', 'tokenizer_config.json'].map((name) => `files/${name}`);
    expect([...file.plainTensors.keys()].sort()).toEqual([...files, ...plain]);
    for (const name of files) {
      const bytes = readFileSync(join(MODEL, name.slice('files/'.length)));
      expect(Buffer.compare(await file.readPlain(name), bytes), name).toBe(0);
    }
    for (const name of plain) {
      expect(Buffer.compare(await file.readPlain(name), await source.read(name)), name).toBe(0);
    }
  });

  test('reports the change that was made', async () => {
    const source = await openSafetensors(memorySource(readFileSync(join(MODEL, 'model.safetensors'))));
    const file = await openSamebitsFile(memorySource(bytes));
    const name = 'model.layers.0.self_attn.k_proj.weight';
    const weights = Float64Array.from(new Uint16Array((await source.read(name)).buffer), numberFromBf16);
    const changes = dequantize(await file.readWeight(name)).map((w, i) => w - weights[i]!);
    const change = report.tensors.find((tensor) => tensor.name === name)?.change;
    expect(change?.largest).toBeCloseTo(Math.max(...changes.map(Math.abs)), 9);
    expect(change?.relativeRms).toBeCloseTo(Math.hypot(...changes) / Math.hypot(...weights), 6);
    expect(report.tensors.filter(({ packed, change: of }) => (packed === undefined) !== (of === undefined))).toEqual(
      [],
    );
  });

  test('gives the same bytes again', async () => {
    expect(Buffer.compare(await convertReal(), bytes)).toBe(0);
  });

  test('every tensor whose size is a multiple of 16 starts at one', async () => {
    const { tensors } = await openSafetensors(memorySource(bytes));
    const loose = [...tensors.values()].filter(({ offset, sizeBytes }) => sizeBytes % 16 === 0 && offset % 16 !== 0);
    expect(loose).toEqual([]);
  });
});

describe('which tensors are packed', () => {
  const matrix = (name: string, shape = [4, 64]): Tensor => ({ name, dtype: 'BF16', shape });
  const outcomes = async (tensors: readonly Tensor[], config: object | undefined, options: SelectionOptions = {}) => {
    const plan = await planConversion(await openModel([matrix('always.q_proj.weight'), ...tensors], config), options);
    return Object.fromEntries(
      plan.tensors
        .slice(1)
        .map(({ name, packed, keepPlain, reason }) => [
          name,
          `${packed ? (keepPlain ? 'both' : 'packed') : 'kept'}: ${reason}`,
        ]),
    );
  };

  test.each<[Tensor, string]>([
    [matrix('model.layers.0.mlp.up_proj.weight'), 'packed: linear'],
    [matrix('lm_head.weight'), 'packed: linear'],
    [matrix('embed_out.weight'), 'packed: linear'],
    [matrix('h.0.attention.query_key_value.weight'), 'packed: linear'],
    [matrix('encoder.layer.0.output.dense.weight'), 'packed: linear'],
    [matrix('layers.0.per_layer_input_gate.weight'), 'packed: linear'],
    [matrix('layers.0.mlp.gate.weight'), 'kept: a router'],
    [matrix('layers.0.mlp.shared_expert_gate.weight'), 'kept: a router'],
    [matrix('layers.0.router.proj.weight'), 'kept: a router'],
    [matrix('layers.0.mlp.experts.3.gate_proj.weight'), 'packed: linear'],
    [matrix('embeddings.word_embeddings.weight'), 'kept: an embedding'],
    [matrix('transformer.wpe.weight'), 'kept: an embedding'],
    [matrix('model.embed_tokens_per_layer.weight'), 'kept: an embedding'],
    [matrix('embed_vision.embedding_projection.weight'), 'packed: linear'],
    [matrix('norm.weight', [64]), 'kept: not a matrix, rank 1'],
    [matrix('conv.weight', [4, 2, 32]), 'kept: not a matrix, rank 3'],
    [matrix('conv1.weight', [4, 2, 4, 8]), 'kept: not a matrix, rank 4'],
    [matrix('mixer.A_log'), "kept: not a module's weight"],
    [{ name: 'a.weight', dtype: 'I64', shape: [4, 64] }, 'kept: dtype I64'],
    [matrix('a.weight', [4, 40]), 'kept: K = 40 is not a multiple of 32'],
    [matrix('a.weight', [4, 65536]), 'kept: K = 65536 is not supported'],
    [matrix('a.weight', [0, 64]), 'kept: N = 0 is not supported'],
  ])('%o', async (tensor, outcome) => {
    expect(await outcomes([tensor], { model_type: 'any' })).toEqual({ [tensor.name]: outcome });
  });

  test.each<[string, object | undefined, readonly string[], string]>([
    ['no head and no config', undefined, [], 'both: tied head'],
    ['a config that ties', { tie_word_embeddings: true }, [], 'both: tied head'],
    ['a multimodal config that ties', { text_config: { tie_word_embeddings: true } }, [], 'both: tied head'],
    ['a config that does not tie', { tie_word_embeddings: false }, [], 'kept: an embedding'],
    ['a text config that does not tie', { text_config: { tie_word_embeddings: false } }, [], 'kept: an embedding'],
    ['a head of its own', undefined, ['lm_head.weight'], 'kept: an embedding'],
    [
      'a head of its own though the config ties',
      { tie_word_embeddings: true },
      ['lm_head.weight'],
      'kept: an embedding',
    ],
  ])('the embedding with %s', async (_, config, others, outcome) => {
    const name = 'model.language_model.embed_tokens.weight';
    expect((await outcomes([matrix(name), ...others.map((other) => matrix(other))], config))[name]).toBe(outcome);
  });

  test('weights that GPT-2 stores transposed are kept, and elsewhere are linears', async () => {
    const tensor = matrix('h.0.attn.c_attn.weight');
    const kept = 'kept: perhaps stored transposed, [K, N]';
    expect(await outcomes([tensor], { model_type: 'gpt2' })).toEqual({ [tensor.name]: kept });
    expect(await outcomes([tensor], undefined)).toEqual({ [tensor.name]: kept });
    expect(await outcomes([tensor], { model_type: 'gpt_bigcode' })).toEqual({ [tensor.name]: 'packed: linear' });
  });

  test('patterns: include replaces the rule by name, exclude wins', async () => {
    const names = ['a.up_proj.weight', 'a.gate.weight', 'a.down_proj.weight'];
    const options = { include: ['a.*'], exclude: ['*.down_proj.*'] };
    expect(
      await outcomes(
        names.map((name) => matrix(name)),
        undefined,
        options,
      ),
    ).toEqual({
      'a.up_proj.weight': 'packed: included',
      'a.gate.weight': 'packed: included',
      'a.down_proj.weight': 'kept: excluded',
    });
    expect(
      await outcomes(
        names.map((name) => matrix(name)),
        undefined,
        { include: ['always*'] },
      ),
    ).toEqual(Object.fromEntries(names.map((name) => [name, 'kept: not included'])));
  });

  test('characters that mean something elsewhere mean themselves in patterns', async () => {
    const names = ['a(b)+[c].weight', 'aXb.weight'];
    expect(
      await outcomes(
        names.map((name) => matrix(name)),
        undefined,
        { exclude: ['a(b)+[c].weight'] },
      ),
    ).toEqual({
      'a(b)+[c].weight': 'kept: excluded',
      'aXb.weight': 'packed: linear',
    });
  });

  test.each<[string, SelectionOptions, string]>([
    ['a pattern that fits nothing', { exclude: ['nothing*'] }, 'ARGUMENT_INVALID'],
    ['a group size that the operator does not take', { groupSize: 48 }, 'GROUP_SIZE_UNSUPPORTED'],
    ['a group size of 8', { groupSize: 8 }, 'GROUP_SIZE_UNSUPPORTED'],
  ])('%s is refused', async (_, options, code) => {
    expect((await refusal(() => outcomes([], undefined, options))).code).toBe(code);
  });

  test('a group size that does not divide K leaves that weight plain', async () => {
    const large = matrix('b.weight', [4, 128]);
    const plan = await planConversion(await openModel([matrix('a.weight', [4, 96]), large]), { groupSize: 64 });
    expect(plan.tensors.map(({ reason }) => reason)).toEqual(['group size 64 does not divide K = 96', 'linear']);
  });
});

describe('sources', () => {
  const weights = Float32Array.from({ length: 4 * 64 }, (_, i) => Math.sin(i * i));

  test.each([16, 32, 64])('f32, f16 and bf16 in groups of %i give what quantizeInt4 gives', async (groupSize) => {
    const f16 = Uint16Array.from({ length: 4 * 64 }, (_, i) => 0x3000 + ((i * 7919) % 2048) + (i % 3 ? 0 : 0x8000));
    const f16Values = Float32Array.from(
      f16,
      (b) => (1024 + (b & 1023)) * 2 ** (((b >> 10) & 31) - 25) * (b & 0x8000 ? -1 : 1),
    );
    const bf16 = Uint16Array.from(weights, bf16FromNumber);
    const shape = [4, 64];
    for (const symmetric of [false, true]) {
      const { file } = await convertModel(
        [
          { name: 'f32.weight', dtype: 'F32', shape, data: bytesOf(weights) },
          { name: 'f16.weight', dtype: 'F16', shape, data: bytesOf(f16) },
          { name: 'bf16.weight', dtype: 'BF16', shape, data: bytesOf(bf16) },
        ],
        { groupSize, symmetric },
      );
      expect(file.convertedFrom).toBe('hf:bf16+f16+f32');
      for (const [name, values] of [
        ['f32.weight', weights],
        ['f16.weight', f16Values],
        ['bf16.weight', bf16],
      ] as const) {
        const native = quantizeInt4(values, { n: 4, k: 64, groupSize, symmetric });
        expect((await file.readWeight(name)).parts()).toEqual(CoalescedInt4Tensor.fromInt4Tensor(native).parts());
      }
    }
  });

  test('shards and one file of the same tensors give the same packed weights', async () => {
    const tensors: Tensor[] = ['a.weight', 'b.weight', 'norm.bias'].map((name, i) => ({
      name,
      dtype: 'F32',
      shape: [4, 64],
      data: bytesOf(weights.map((w) => w * (i + 1))),
    }));
    const map = { 'b.weight': 'x-2.safetensors', 'a.weight': 'x-1.safetensors', 'norm.bias': 'x-2.safetensors' };
    const folder = memoryFolder(
      new Map([
        [
          'model.safetensors.index.json',
          new TextEncoder().encode(JSON.stringify({ metadata: { total_size: 1.5 }, weight_map: map })),
        ],
        ['x-1.safetensors', modelFile(tensors.slice(0, 1))],
        ['x-2.safetensors', modelFile(tensors.slice(1))],
      ]),
    );
    const sink = new MemorySink();
    await runConversion(await planConversion(await openModelCheckpoint(folder)), sink);
    expect(Buffer.compare(sink.bytes, (await convertModel(tensors)).bytes)).toBe(0);
  });

  test('sources are closed when opening fails', async () => {
    let open = 0;
    const files = new Map([
      [
        'model.safetensors.index.json',
        new TextEncoder().encode('{"weight_map":{"a":"1.safetensors","b":"2.safetensors"}}'),
      ],
      ['1.safetensors', modelFile([{ name: 'a', dtype: 'F32', shape: [1] }])],
      ['2.safetensors', new Uint8Array(4)],
    ]);
    const inner = memoryFolder(files);
    const folder = {
      name: 'counted',
      open: async (fileName: string) => {
        const source = await inner.open(fileName);
        if (source) open++;
        return source && { ...source, close: async () => void open-- };
      },
    };
    expect((await refusal(() => openModelCheckpoint(folder))).code).toBe('FILE_TRUNCATED');
    expect(open).toBe(0);
  });
});

describe('slices', () => {
  // Rows of 64 f32 are 256 bytes: three slices, the last one short.
  const K = 64;
  const ROWS_PER_SLICE = SLICE_BYTES / (4 * K);
  const N = 2 * ROWS_PER_SLICE + 3;
  const huge = (fill: (row: number, k: number) => number): Tensor => {
    const data = new Float32Array(N * K);
    for (let i = 0; i < data.length; i++) data[i] = fill(Math.floor(i / K), i % K);
    return { name: 'huge.weight', dtype: 'F32', shape: [N, K], data: bytesOf(data) };
  };

  test('cannot be seen in the result, and bound what is read and written at once', async () => {
    const tensor = huge((row, k) => Math.sin(row * 3.7 + k * k));
    const model = await openModel([tensor, { name: 'table', dtype: 'F32', shape: [N, K] }]);
    const sink = new MemorySink();
    let largestWrite = 0;
    const counted: RandomAccessSink = {
      writeAt: (offset, bytes) => {
        largestWrite = Math.max(largestWrite, bytes.length);
        return sink.writeAt(offset, bytes);
      },
    };
    const reads: number[] = [];
    const file = model.files[0]!;
    const read = file.read.bind(file);
    file.read = (name, start = 0, length = Number.POSITIVE_INFINITY) => {
      reads.push(length);
      return read(name, start, length);
    };
    await runConversion(await planConversion(model), counted);
    expect(Math.max(...reads)).toBeLessThanOrEqual(SLICE_BYTES);
    expect(largestWrite).toBeLessThanOrEqual(SLICE_BYTES);
    expect(reads).toHaveLength(6);
    const weight = await (await openSamebitsFile(memorySource(sink.bytes))).readWeight('huge.weight');
    const native = quantizeInt4(new Float32Array(tensor.data!.buffer), { n: N, k: K, groupSize: 32 });
    expectSame(weight, CoalescedInt4Tensor.fromInt4Tensor(native), 'huge.weight');
  });

  test('a slice of tiny weights is no reason to refuse a tensor, a tensor of them is', async () => {
    const partly = await openModel([huge((row) => (row < ROWS_PER_SLICE ? 1e-36 : 1))]);
    expect((await runConversion(await planConversion(partly), discardingSink)).packedCount).toBe(1);
    const wholly = await openModel([huge(() => 1e-36)]);
    const error = await refusal(async () => runConversion(await planConversion(wholly), discardingSink));
    expect(error.code).toBe('WEIGHT_EXPONENT_OUT_OF_RANGE');
    expect(error.message).toContain('"huge.weight"');
  });

  test('a weight that is not finite names its tensor and the rows', async () => {
    const model = await openModel([huge((row, k) => (row === N - 1 && k === 5 ? Number.NaN : 1))]);
    const error = await refusal(async () => runConversion(await planConversion(model), discardingSink));
    expect(error.code).toBe('WEIGHT_NOT_FINITE');
    expect(error.message).toContain(`"huge.weight", rows counted from ${2 * ROWS_PER_SLICE}`);
    expect(error.message).toContain('[2, 5]');
  });

  test('progress adds up, and an abort ends the conversion between slices', async () => {
    const model = await openModel([huge(() => 1)]);
    const plan = await planConversion(model);
    const seen: number[] = [];
    await runConversion(plan, discardingSink, {
      onProgress: ({ doneBytes, totalBytes, tensor }) => {
        expect([totalBytes, tensor]).toEqual([N * K * 4, 'huge.weight']);
        seen.push(doneBytes);
      },
    });
    expect(seen).toEqual([SLICE_BYTES, 2 * SLICE_BYTES, N * K * 4]);

    const controller = new AbortController();
    const reason = new Error('enough');
    let calls = 0;
    const onProgress = () => {
      calls++;
      controller.abort(reason);
    };
    const run = runConversion(plan, discardingSink, { onProgress, signal: controller.signal });
    await expect(run).rejects.toBe(reason);
    expect(calls).toBe(1);
  });
});

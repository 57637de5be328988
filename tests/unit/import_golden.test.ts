// Each foreign format against bytes written from its rules: golden words and blocks by hand, then whole weights.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  type CoalescedInt4Tensor,
  dequantize,
  type ImportOptions,
  MemorySink,
  memoryFolder,
  memorySource,
  numberFromBf16,
  openModelCheckpoint,
  openSamebitsFile,
  planConversion,
  Random,
  runConversion,
  type SourceFolder,
  type WeightChange,
} from '../../core/index.js';
import { gguf, q4kBlock, q40, q41, q41Block } from './gguf_bytes.js';
import {
  folderOf,
  gptqParts,
  groups,
  mlxParts,
  type PlainNumbers,
  torchaoMetadata,
  torchaoParts,
} from './import_bytes.js';
import { AWQ, config, GPTQ, type ImportSource, importSources, mlxConfig, numbers } from './import_sources.js';

/** Scales and zero points in bf16, which the words below are; what keeps its own numbers has a test file of its own. */
async function convertFolder(folder: SourceFolder, options: ImportOptions = {}, entry?: string) {
  const sink = new MemorySink();
  const plan = await planConversion(await openModelCheckpoint(folder, entry), { ...options, rounded: true });
  const report = await runConversion(plan, sink);
  const file = await openSamebitsFile(memorySource(sink.bytes));
  return { report, file };
}

const ggufFolder = (bytes: Uint8Array) => memoryFolder(new Map([['m.gguf', bytes]]));
const convertGguf = (bytes: Uint8Array) => convertFolder(ggufFolder(bytes), {}, 'm.gguf');

const codesOf = ({ qdata }: CoalescedInt4Tensor) => [...qdata].flatMap((byte) => [byte & 15, byte >> 4]);
const values = (bits: Uint16Array | Uint8Array) => [...bits].map(numberFromBf16);
const hex = (text: string) =>
  Uint8Array.from(text.replaceAll(' ', '').match(/../g) ?? [], (byte) => Number.parseInt(byte, 16));

/** What the packed weight must be: same codes, and each group split into the power of two that divides it. */
function expectWeight(weight: CoalescedInt4Tensor, w: PlainNumbers): void {
  const splits = w.groupSize / weight.groupSize;
  const spread = (list: Float64Array) => [...list].flatMap((value) => new Array(splits).fill(value));
  expect([weight.n, weight.k]).toEqual([w.n, w.k]);
  expect(codesOf(weight)).toEqual([...w.q]);
  expect(values(weight.groups.scale)).toEqual(spread(w.scale));
  expect(values(weight.groups.second)).toEqual(spread(w.zero));
}

describe('golden words', () => {
  const zeros = (count: number) => new Array<number>(count).fill(0);

  test('GPTQ: the word for k = 0..7 with codes 0..7 is 0x76543210, qzeros 0x77777777 mean 8', async () => {
    const parts = [
      { name: 'm.qweight', dtype: 'I32', shape: [4, 8], values: [0x76543210, ...zeros(31)] },
      { name: 'm.qzeros', dtype: 'I32', shape: [1, 1], values: [0x77777777] },
      { name: 'm.scales', dtype: 'F16', shape: [1, 8], values: new Array(8).fill(0.5) },
    ] as const;
    const { file, report } = await convertFolder(folderOf(parts, config({ ...GPTQ, sym: true, group_size: 32 })));
    const weight = await file.readWeight('m.weight');
    expect(codesOf(weight).slice(0, 9)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 0]);
    expect(values(weight.groups.second)).toEqual(new Array(8).fill(8));
    expect(report.tensors[0]?.change).toEqual({ isLossless: true, relativeRms: 0, largest: 0 });
    expect(file.convertedFrom).toBe('gptq:v1');
  });

  test('AWQ: the word for columns 0..7 with codes 0..7 is 0x75316420, and zero points have no offset', async () => {
    const parts = [
      { name: 'm.qweight', dtype: 'I32', shape: [32, 1], values: [0x75316420, ...zeros(31)] },
      { name: 'm.qzeros', dtype: 'I32', shape: [1, 1], values: [0x75316420] },
      { name: 'm.scales', dtype: 'F16', shape: [1, 8], values: new Array(8).fill(2) },
    ] as const;
    const { file } = await convertFolder(folderOf(parts, AWQ));
    const weight = await file.readWeight('m.weight');
    for (let n = 0; n < 8; n++) expect(codesOf(weight).slice(32 * n, 32 * n + 2), `row ${n}`).toEqual([n, 0]);
    expect(values(weight.groups.second)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(file.convertedFrom).toBe('awq:gemm');
  });

  test('Q4_0 block: d = -0.5, codes 0..15 twice', async () => {
    const data = hex('00b8 00112233445566778899aabbccddeeff');
    const { file, report } = await convertGguf(gguf([{ name: 'a.weight', type: 2, dims: [32, 1], data }]));
    const weight = await file.readWeight('a.weight');
    expect(codesOf(weight)).toEqual([...Array(16).keys(), ...Array(16).keys()]);
    expect([values(weight.groups.scale), values(weight.groups.second)]).toEqual([[-0.5], [8]]);
    expect(report.tensors[0]?.change?.isLossless).toBe(true);
    expect(file.convertedFrom).toBe('gguf:Q4_0');
  });

  test('Q4_1 block: d = 0.25, m = -1.5, code i is (7i + 3) mod 16', async () => {
    const data = hex('0034 00be 33aa1188ff66dd44bb22990077ee55cc');
    const { file } = await convertGguf(gguf([{ name: 'a.weight', type: 3, dims: [32, 1], data }]));
    const weight = await file.readWeight('a.weight');
    expect(codesOf(weight)).toEqual(Array.from({ length: 32 }, (_, i) => (7 * i + 3) % 16));
    expect(weight.qdata).toEqual(hex('a3816f4d2b09e7c5a3816f4d2b09e7c5'));
    expect([values(weight.groups.scale), values(weight.groups.second)]).toEqual([[0.25], [6]]);
  });

  test('Q4_K block: six-bit scales and minimums across bytes, chunks of 32 bytes', async () => {
    const qs = Uint8Array.from({ length: 128 }, (_, i) => (i * 37 + 11) & 255);
    // d = 0.125, dmin = 0.0625
    const data = [...hex('0030 002c 4182c3ff4586c7fe314253ac'), ...qs];
    const { file } = await convertGguf(gguf([{ name: 'a.weight', type: 12, dims: [256, 1], data }]));
    const weight = await file.readWeight('a.weight');
    const sc = [1, 2, 3, 63, 17, 34, 51, 60];
    const m = [5, 6, 7, 62, 19, 36, 53, 58];
    const expected = Array.from({ length: 256 }, (_, k) => {
      const byte = qs[32 * Math.floor(k / 64) + (k % 32)]!;
      return k % 64 < 32 ? byte & 15 : byte >> 4;
    });
    expect(codesOf(weight)).toEqual(expected);
    expect(values(weight.groups.scale)).toEqual(sc.map((s) => 0.125 * s));
    values(weight.groups.second).forEach((zero, j) => {
      expect(Math.abs(zero / ((0.0625 * m[j]!) / (0.125 * sc[j]!)) - 1)).toBeLessThanOrEqual(2 ** -8);
    });
  });

  test('stock torchao: byte 0x00 is codes 8 and 8, 0x87 is codes 15 and 0', async () => {
    const w = numbers(1, 32, 32, 8);
    const [, scale, zeroPoint] = torchaoParts(w, true);
    const qdata = { name: 'm._weight_qdata', dtype: 'I8', shape: [1, 16], values: [0, 0x87, ...zeros(14)] } as const;
    const { file } = await convertFolder(folderOf([qdata, scale!, zeroPoint!], {}, torchaoMetadata('Int4Tensor', 32)));
    expect([...(await file.readWeight('m.weight')).qdata].slice(0, 2)).toEqual([0x88, 0x0f]);
  });
});

async function expectConversion([folder, expected, format, options, entry]: ImportSource): Promise<void> {
  const { file, report } = await convertFolder(folder, options, entry);
  expectWeight(await file.readWeight('m.weight'), expected);
  expect(file.convertedFrom).toBe(format);
  expect(report.tensors).toHaveLength(1);
  expect(report.tensors[0]).toMatchObject({
    dtype: format,
    shape: [expected.n, expected.k],
    change: { isLossless: true, relativeRms: 0, largest: 0 },
  });
  expect(file.plainTensors.size).toBe(0);
}

describe.each([
  [8, 64, 32],
  [16, 96, 16],
  [24, 96, 48],
  [8, 160, 160],
  [40, 256, 128],
  [136, 512, 64],
])('whole weights, N = %i, K = %i, groups of %i', (n, k, groupSize) => {
  test.each(Object.entries(importSources(n, k, groupSize)))('%s', async (_, source) => {
    await expectConversion(source);
  });
});

test('every format gives back any weight that it can hold', async () => {
  const shapes = fc.record({
    n: fc.integer({ min: 1, max: 6 }).map((words) => 8 * words),
    // The group sizes are multiples of 16 that divide K; not all are powers of two.
    k: fc.integer({ min: 1, max: 9 }).map((blocks) => 32 * blocks),
    groups: fc.constantFrom(1, 2, 3, 4, 6),
    format: fc.constantFrom(...Object.keys(importSources(8, 256, 32))),
  });
  await fc.assert(
    fc.asyncProperty(shapes, async ({ n, k: width, groups: divisor, format }) => {
      const isGguf = format.startsWith('GGUF');
      const k = format === 'GGUF Q4_K' ? 256 * (1 + (width % 3)) : width;
      const groupSize = isGguf ? 32 : k / divisor;
      fc.pre(groupSize % 16 === 0 && (groupSize & -groupSize) >= 16);
      // A square scale has no order that a file without a tag could show.
      fc.pre(isGguf || divisor !== n);
      await expectConversion(importSources(n, k, groupSize)[format]!);
    }),
    { numRuns: 150, seed: 20260801 },
  );
});

describe('GGUF, whole weights', () => {
  const w = numbers(6, 96, 32);
  const eight = numbers(6, 96, 32, 8);

  test('Q4_0, Q4_1, Q4_K and plain tensors in one file', async () => {
    const random = Random.named('Q4_K');
    const q = Uint8Array.from({ length: 2 * 512 }, () => random.below(16));
    const sc = [1, 2, 4, 8, 16, 32, 63, 48];
    const m = sc.map((s, j) => (j * s) % 64);
    const q4k = [0, 1, 2, 3].flatMap((b) => q4kBlock(q.subarray(256 * b, 256 * b + 256), 2 ** -b, 2 ** -b, sc, m));
    const bytes = gguf([
      { name: 'zero.weight', type: 2, dims: [96, 6], data: q40(eight) },
      { name: 'one.weight', type: 3, dims: [96, 6], data: q41(w) },
      { name: 'k.weight', type: 12, dims: [512, 2], data: q4k },
      { name: 'norm.weight', type: 0, dims: [2], data: [0, 0, 128, 63, 0, 0, 0, 64] },
      { name: 'half.weight', type: 1, dims: [32, 2], data: new Uint8Array(128).fill(7) },
      { name: 'brain.weight', type: 30, dims: [32, 2], data: new Uint8Array(128).fill(9) },
      { name: 'six.weight', type: 14, dims: [256, 1], data: new Uint8Array(210) },
    ]);
    const { file, report } = await convertGguf(bytes);
    expectWeight(await file.readWeight('zero.weight'), eight);
    expectWeight(await file.readWeight('one.weight'), w);
    const k = await file.readWeight('k.weight');
    expect(codesOf(k)).toEqual([...q]);
    expect(values(k.groups.scale)).toEqual([0, 1, 2, 3].flatMap((b) => sc.map((s) => s * 2 ** -b)));
    expect(values(k.groups.second).slice(0, 8)).toEqual(m.map((minimum, j) => numberNear(minimum / sc[j]!)));
    expect([...file.plainTensors.values()].map(({ name, dtype, shape }) => [name, dtype, shape])).toEqual([
      ['half.weight', 'F16', [2, 32]],
      ['brain.weight', 'BF16', [2, 32]],
      ['norm.weight', 'F32', [2]],
    ]);
    expect(await file.readPlain('norm.weight')).toEqual(Uint8Array.of(0, 0, 128, 63, 0, 0, 0, 64));
    expect(report.tensors.find(({ name }) => name === 'six.weight')).toMatchObject({
      packed: undefined,
      keptPlain: false,
      reason: 'Q6_K is not a 4-bit type that can be packed',
    });
    expect(file.convertedFrom).toBe('gguf:Q4_0+Q4_1+Q4_K');
  });

  test('an odd alignment, version 2 and split files', async () => {
    const { ByteWriter } = await import('./gguf_bytes.js');
    const alignment = new ByteWriter().string('general.alignment').u32(4).u32(256);
    const text = new ByteWriter().string('general.name').u32(8).string('a model');
    const list = new ByteWriter().string('tokens').u32(9).u32(8).u64(2n).string('a').string('bc');
    const options = { version: 2, values: [text, alignment, list], alignment: 256 };
    const shard = (name: string, weight: PlainNumbers) =>
      gguf(
        [
          { name: 'pad', type: 0, dims: [1], data: [1, 2, 3, 4] },
          { name, type: 2, dims: [96, 6], data: q40(weight) },
        ].slice(name === 'b.weight' ? 1 : 0),
        options,
      );
    const files = new Map([
      ['x-00001-of-00002.gguf', shard('a.weight', eight)],
      ['x-00002-of-00002.gguf', shard('b.weight', eight)],
    ]);
    const { file } = await convertFolder(memoryFolder(files), {}, 'x-00002-of-00002.gguf');
    expectWeight(await file.readWeight('a.weight'), eight);
    expectWeight(await file.readWeight('b.weight'), eight);
  });
});

/** bf16 of a value, by definition: the nearest of the two neighbours, ties to the even one. */
function numberNear(value: number): number {
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, value);
  const low = view.getUint32(0) & 0xffff0000;
  const at = (bits: number) => {
    view.setUint32(0, bits);
    return view.getFloat32(0);
  };
  const [below, above] = [at(low), at(low + 0x10000)];
  const [down, up] = [Math.abs(value - below), Math.abs(above - value)];
  if (down === up) return (low >>> 16) % 2 === 0 ? below : above;
  return down < up ? below : above;
}

describe('rounding, measured', () => {
  const f16 = (random: Random) => (1 + random.below(1024) / 1024) * 2 ** -(4 + random.below(6));

  /** What the report must say of weights that were `source`. */
  function expectChange(
    weight: CoalescedInt4Tensor,
    source: readonly number[],
    change: WeightChange | undefined,
  ): void {
    const changes = [...dequantize(weight)].map((value, i) => value - source[i]!);
    const largest = changes.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    expect(change?.isLossless).toBe(false);
    expect(change?.largest).toBeCloseTo(largest, 12);
    expect(change?.relativeRms).toBeCloseTo(Math.hypot(...changes) / Math.hypot(...source), 9);
  }

  // Groups of a part of a vector, of several, of whole rows; an odd number of them, and more than are rounded at once.
  test.each([
    [8, 128, 32],
    [8, 96, 16],
    [8, 192, 48],
    [24, 288, 96],
    [8, 512, 128],
    [8, 1120, 1120],
    [40, 512, 16],
  ])('of [%i, %i] in groups of %i, the change is that of the dequantized weights', async (n, k, groupSize) => {
    const random = Random.named('rounding');
    const scale = Float64Array.from({ length: (n * k) / groupSize }, () => f16(random));
    const w: PlainNumbers = { ...numbers(n, k, groupSize), scale };
    const parts = gptqParts(w, (z) => z);
    const { file, report } = await convertFolder(folderOf(parts, config({ ...GPTQ, checkpoint_format: 'gptq_v2' })));
    const weight = await file.readWeight('m.weight');
    const splits = groupSize / weight.groupSize;
    expect(values(weight.groups.scale)).toEqual(
      [...scale].flatMap((value) => new Array(splits).fill(numberNear(value))),
    );
    const source = [...w.q].map((q, i) => {
      const g = Math.floor(i / k) * groups(w) + Math.floor((i % k) / groupSize);
      return (q - w.zero[g]!) * w.scale[g]!;
    });
    expectChange(weight, source, report.tensors[0]?.change);
    expect(report.tensors[0]?.change?.relativeRms).toBeLessThan(2 ** -8);
  });

  test.each([1, 5, 1027])('of %i blocks of Q4_1, offsets become zero points and the change is told', async (blocks) => {
    const random = Random.named(`offsets ${blocks}`);
    const [d, m, q]: [number[], number[], number[]] = [[], [], []];
    for (let i = 0; i < blocks; i++) {
      d.push(f16(random));
      m.push(-f16(random) * 8);
      for (let j = 0; j < 32; j++) q.push(random.below(16));
    }
    const data = d.flatMap((scale, i) => q41Block(Uint8Array.from(q.slice(32 * i, 32 * i + 32)), scale, m[i]!));
    const { file, report } = await convertGguf(gguf([{ name: 'a.weight', type: 3, dims: [32, blocks], data }]));
    const weight = await file.readWeight('a.weight');
    expect(values(weight.groups.scale)).toEqual(d.map(numberNear));
    expect(values(weight.groups.second)).toEqual(d.map((scale, i) => numberNear(Math.fround(-m[i]! / scale))));
    const source = q.map((code, i) => code * d[i >> 5]! + m[i >> 5]!);
    expectChange(weight, source, report.tensors[0]?.change);
  });

  test('a scale of 0: an offset of 0 gives zero point 0, any other constant is kept as (0 + 1) * c', async () => {
    const data = [
      ...hex('0000 0000'),
      ...new Uint8Array(16).fill(0x5a),
      ...hex('0000 00c2'),
      ...new Uint8Array(16).fill(0x5a),
    ];
    const { file, report } = await convertGguf(gguf([{ name: 'a.weight', type: 3, dims: [64, 1], data }]));
    const weight = await file.readWeight('a.weight');
    expect(values(weight.groups.scale)).toEqual([0, -3]);
    expect(values(weight.groups.second)).toEqual([0, -1]);
    expect(codesOf(weight).slice(32)).toEqual(new Array(32).fill(0));
    expect(dequantize(weight)).toEqual(Float32Array.from([...new Array(32).fill(0), ...new Array(32).fill(-3)]));
    expect(report.tensors[0]?.change).toEqual({ isLossless: true, relativeRms: 0, largest: 0 });
  });

  test('a group that hardly varies around a large offset becomes its middle', async () => {
    // MLX: scale 2^-14, bias 256: the zero point would be -2^22, beyond what the operator takes.
    const w = numbers(1, 64, 64);
    const parts = mlxParts({ ...w, scale: Float64Array.of(2 ** -14), zero: Float64Array.of(-(2 ** 22)) });
    const { file, report } = await convertFolder(folderOf(parts, mlxConfig(64)));
    const weight = await file.readWeight('m.weight');
    expect([...new Set(dequantize(weight))]).toEqual([256]);
    const change = report.tensors[0]!.change!;
    expect(change.isLossless).toBe(false);
    expect(change.largest).toBeLessThanOrEqual(15 * 2 ** -14);
  });
});

test('GPTQModel stored whole words minus one, borrows included', async () => {
  const w = { ...numbers(8, 32, 32), zero: Float64Array.of(0, 3, 0, 0, 15, 1, 0, 9) };
  const word = w.zero.reduce((bits, zero, i) => bits + zero * 16 ** i, 0);
  const [qweight, qzeros, scales] = gptqParts(w, () => 0);
  const stored = { ...qzeros!, values: [(word - 0x11111111) >>> 0] };
  const settings = { ...GPTQ, sym: false, meta: { quantizer: ['gptqmodel:4.0.0'] } };
  const { file } = await convertFolder(folderOf([qweight!, stored, scales!], config(settings)));
  expectWeight(await file.readWeight('m.weight'), w);
});

test('trivial group indices are ignored, whatever desc_act says', async () => {
  const w = numbers(8, 96, 32);
  const gIdx = {
    name: 'm.g_idx',
    dtype: 'I32',
    shape: [96],
    values: Array.from({ length: 96 }, (_, k) => k >> 5),
  } as const;
  const settings = config({ ...GPTQ, checkpoint_format: 'gptq_v2', desc_act: true });
  const { file } = await convertFolder(folderOf([...gptqParts(w, (z) => z), gIdx], settings));
  expectWeight(await file.readWeight('m.weight'), w);
  expect(file.plainTensors.size).toBe(0);
});

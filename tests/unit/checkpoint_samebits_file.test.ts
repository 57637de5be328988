// The tagged file: exact bytes both ways, round trips through the writer, and the decoding of elements.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { f32View, u16View } from '../../core/checkpoint/views.js';
import { f32FromF16Array } from '../../core/f16.js';
import {
  CoalescedInt4Tensor,
  dequantize,
  describeForm,
  drawFormWeight,
  FORM_CASES,
  MemorySink,
  memorySource,
  openSafetensors,
  openSamebitsFile,
  type PlainTensor,
  writeSamebitsFile,
} from '../../core/index.js';
import { entry, fileBytes, refusal, source, tag } from './checkpoint_bytes.js';

// Two rows of K = 64 in groups of 16: four scales a row, so that no order but [N, n_groups] gives these weights.
// Row 0 counts 0..15 in every group; row 1 counts down. Low nibbles are even k.
const UP = [0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe];
const DOWN = [0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01];
const QDATA = [...UP, ...UP, ...UP, ...UP, ...DOWN, ...DOWN, ...DOWN, ...DOWN];
// bf16 little-endian: 1, 2, 0.5, -1 and 4, 0.25, 0, 3.
const SCALE = [0x80, 0x3f, 0x00, 0x40, 0x00, 0x3f, 0x80, 0xbf, 0x80, 0x40, 0x80, 0x3e, 0x00, 0x00, 0x40, 0x40];
// 0, 8, 7.5, 15 and -1, 1, 2, 16.
const ZERO_POINT = [0x00, 0x00, 0x00, 0x41, 0xf0, 0x40, 0x70, 0x41, 0x80, 0xbf, 0x80, 0x3f, 0x00, 0x40, 0x80, 0x41];
const NORM = [1, 2, 3];
const INT4 = '{"layer.weight":{"n":2,"k":64,"group_size":16}}';

const UPWARD = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
const WEIGHTS = [
  ...UPWARD.map((q) => q),
  ...UPWARD.map((q) => (q - 8) * 2),
  ...UPWARD.map((q) => (q - 7.5) * 0.5),
  ...UPWARD.map((q) => (q - 15) * -1),
  ...UPWARD.map((q) => (15 - q + 1) * 4),
  ...UPWARD.map((q) => (15 - q - 1) * 0.25),
  ...UPWARD.map((q) => (15 - q - 2) * 0),
  ...UPWARD.map((q) => (15 - q - 16) * 3),
];

describe('a file written by hand', () => {
  // Plain tensor first and the parts in an order of their own: any order is allowed.
  const header = `{${[
    entry('norm', 'U8', [3], 0, 3),
    entry('layer.weight.zero_point', 'BF16', [2, 4], 3, 19),
    entry('layer.weight.qdata', 'U8', [2, 32], 19, 83),
    entry('layer.weight.scale', 'BF16', [2, 4], 83, 99),
    tag(INT4, { source: 'hf:bf16' }),
  ].join(',')}}`;
  const data = [...NORM, ...ZERO_POINT, ...QDATA, ...SCALE];

  test('holds these weights', async () => {
    const file = await openSamebitsFile(source(header, data));
    const weight = await file.readWeight('layer.weight');
    expect({ n: weight.n, k: weight.k, groupSize: weight.groupSize }).toEqual({ n: 2, k: 64, groupSize: 16 });
    expect(CoalescedInt4Tensor.is(weight)).toBe(true);
    expect([...dequantize(weight)]).toEqual(WEIGHTS);
    expect(await file.readPlain('norm')).toEqual(Uint8Array.from(NORM));
    expect([...file.plainTensors.keys()]).toEqual(['norm']);
    expect(file.convertedFrom).toBe('hf:bf16');
  });
});

test('the writer gives exactly these bytes', async () => {
  const weight = new CoalescedInt4Tensor({
    layout: 'coalesced-int4',
    groupSize: 16,
    qdata: { dtype: 'u8', shape: [2, 32], data: Uint8Array.from(QDATA) },
    scale: { dtype: 'bf16', shape: [2, 4], data: u16View(Uint8Array.from(SCALE)) },
    zeroPoint: { dtype: 'bf16', shape: [2, 4], data: u16View(Uint8Array.from(ZERO_POINT)) },
  });
  const norm: PlainTensor = { name: 'norm', dtype: 'U8', shape: [3], data: Uint8Array.from(NORM) };
  const sink = new MemorySink();
  await writeSamebitsFile(sink, { weights: new Map([['layer.weight', weight]]), plainTensors: [norm] });
  const header =
    '{"__metadata__":{"format":"samebits","layout":"coalesced-int4","layout_version":"1",' +
    '"int4_tensors":"{\\"layer.weight\\":{\\"n\\":2,\\"k\\":64,\\"group_size\\":16}}"},' +
    '"layer.weight.qdata":{"dtype":"U8","shape":[2,32],"data_offsets":[0,64]},' +
    '"layer.weight.scale":{"dtype":"BF16","shape":[2,4],"data_offsets":[64,80]},' +
    '"layer.weight.zero_point":{"dtype":"BF16","shape":[2,4],"data_offsets":[80,96]},' +
    '"norm":{"dtype":"U8","shape":[3],"data_offsets":[96,99]}}';
  const padded = header.padEnd(Math.ceil((header.length + 8) / 16) * 16 - 8);
  expect(sink.bytes).toEqual(fileBytes(padded, [...QDATA, ...SCALE, ...ZERO_POINT, ...NORM]));
});

describe('round trips', () => {
  const bf16 = fc.integer({ min: 0x3800, max: 0x4180 });
  const weight = fc
    .record({ n: fc.integer({ min: 1, max: 5 }), blocks: fc.integer({ min: 1, max: 4 }), isHalf: fc.boolean() })
    .chain(({ n, blocks, isHalf }) => {
      const [k, groupSize] = [32 * blocks, isHalf ? 16 : 32];
      const nGroups = k / groupSize;
      const elements = fc.array(bf16, { minLength: n * nGroups, maxLength: n * nGroups });
      const bytes = fc.uint8Array({ minLength: (n * k) / 2, maxLength: (n * k) / 2 });
      return fc.record({ qdata: bytes, scale: elements, zeroPoint: elements }).map(
        ({ qdata, scale, zeroPoint }) =>
          new CoalescedInt4Tensor({
            layout: 'coalesced-int4',
            groupSize,
            qdata: { dtype: 'u8', shape: [n, k / 2], data: qdata },
            scale: { dtype: 'bf16', shape: [n, nGroups], data: Uint16Array.from(scale) },
            zeroPoint: { dtype: 'bf16', shape: [n, nGroups], data: Uint16Array.from(zeroPoint) },
          }),
      );
    });
  const name = fc.oneof(fc.string({ unit: 'grapheme' }), fc.constantFrom('__proto__', 'a.weight', 'w"\\\n'));

  test('what is written reads back', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(fc.tuple(name, weight), { selector: ([key]) => key, maxLength: 5 }),
        fc.uint8Array({ maxLength: 40 }),
        async (weights, data) => {
          const plain: PlainTensor = { name: 'plain', dtype: 'U8', shape: [data.length], data };
          const sink = new MemorySink();
          await writeSamebitsFile(sink, { weights: new Map(weights), plainTensors: [plain], convertedFrom: 'test' });
          const file = await openSamebitsFile(memorySource(sink.bytes));
          expect([...file.weights.keys()]).toEqual(weights.map(([key]) => key));
          for (const [key, expected] of weights) expect((await file.readWeight(key)).parts()).toEqual(expected.parts());
          expect(await file.readPlain('plain')).toEqual(data);
          expect(file.convertedFrom).toBe('test');
        },
      ),
      { numRuns: 60 },
    );
  });
});

describe('a file with forms', () => {
  // One row of K = 256: codes 15 and 5, a scale of 3 halves, an offset of -63 quarters; and an ordinary weight beside it.
  const entries = {
    nested: { n: 1, k: 256, group_size: 256, form: 'nested-offset', dtype: 'f16', center: 8 },
    plain: { n: 1, k: 32, group_size: 32, form: 'zero', dtype: 'bf16' },
  };
  const header = `{${[
    tag(JSON.stringify(entries), { layout_version: '2' }),
    entry('nested.qdata', 'U8', [1, 128], 0, 128),
    entry('nested.scale', 'U8', [1, 1], 128, 129),
    entry('nested.offset', 'U8', [1, 1], 129, 130),
    entry('nested.scale_step', 'F16', [1, 1], 130, 132),
    entry('nested.offset_step', 'F16', [1, 1], 132, 134),
    entry('plain.qdata', 'U8', [1, 16], 134, 150),
    entry('plain.scale', 'BF16', [1, 1], 150, 152),
    entry('plain.zero_point', 'BF16', [1, 1], 152, 154),
  ].join(',')}}`;
  const numbers = [3, 63, 0x00, 0x38, 0x00, 0xb4];
  const data = [...Array(128).fill(0x5f), ...numbers, ...Array(16).fill(0x5f), 0x00, 0x40, 0x00, 0x41];

  test('written by hand, holds these weights', async () => {
    const file = await openSamebitsFile(source(header, data));
    expect([...dequantize(await file.readWeight('nested')).slice(0, 2)]).toEqual([7 * 1.5 - 15.75, -3 * 1.5 - 15.75]);
    expect([...dequantize(await file.readWeight('plain')).slice(0, 2)]).toEqual([14, -6]);
    expect(file.weights.get('nested')?.form).toEqual({ kind: 'nested-offset', dtype: 'f16', center: 8 });
    expect([...file.plainTensors.keys()]).toEqual([]);
  });

  test.each<[string, string, Readonly<Record<string, unknown>>]>([
    ['a form of another name', 'FORM_UNKNOWN', { form: 'affine' }],
    ['steps in bf16', 'FORM_UNKNOWN', { dtype: 'bf16' }],
    ['no form', 'FILE_HEADER_INVALID', { form: undefined }],
    ['something more', 'FILE_HEADER_INVALID', { step: 256 }],
    ['a form with other parts', 'FILE_TENSOR_MISSING', { form: 'nested-zero', center: undefined }],
    ['a form with parts of another type', 'FILE_TENSOR_INVALID', { form: 'offset' }],
  ])('%s is refused: %s', async (_, code, change) => {
    const changed = tag(JSON.stringify({ ...entries, nested: { ...entries.nested, ...change } }), {
      layout_version: '2',
    });
    const original = tag(JSON.stringify(entries), { layout_version: '2' });
    expect((await refusal(() => openSamebitsFile(source(header.replace(original, changed), data)))).code).toBe(code);
  });

  test('every form reads back as it was written, and says version 2', async () => {
    const weights = new Map(
      [...new Map(FORM_CASES.map((of) => [describeForm(of.form), of])).values()].map((of) => [
        of.name,
        drawFormWeight(of),
      ]),
    );
    const sink = new MemorySink();
    await writeSamebitsFile(sink, { weights });
    const file = await openSamebitsFile(memorySource(sink.bytes));
    expect((await openSafetensors(memorySource(sink.bytes))).metadata.get('layout_version')).toBe('2');
    for (const [name, weight] of weights) expect((await file.readWeight(name)).parts()).toEqual(weight.parts());
  });
});

test('plain data that is not its shape is not written', async () => {
  const plain: PlainTensor = { name: 'p', dtype: 'F32', shape: [2], data: new Uint8Array(7) };
  const write = () => writeSamebitsFile(new MemorySink(), { weights: new Map(), plainTensors: [plain] });
  expect((await refusal(write)).code).toBe('ARGUMENT_INVALID');
});

describe('elements', () => {
  test.each([
    [0x0000, 0],
    [0x8000, -0],
    [0x0001, 2 ** -24],
    [0x83ff, -1023 * 2 ** -24],
    [0x0400, 2 ** -14],
    [0x3555, 0.333251953125],
    [0x3c00, 1],
    [0xc000, -2],
    [0x7bff, 65504],
    [0x7c00, Number.POSITIVE_INFINITY],
    [0xfc00, Number.NEGATIVE_INFINITY],
    [0x7e01, Number.NaN],
  ])('f16 %i is %d', (bits, value) => {
    expect(f32FromF16Array(Uint16Array.of(bits))[0]).toBe(value);
  });

  test('every finite f16 is sign, exponent and fraction', () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i).filter((i) => (i & 0x7c00) !== 0x7c00);
    const expected = Array.from(bits, (b) => {
      const [exponent, fraction] = [(b >> 10) & 31, b & 1023];
      const magnitude = exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25);
      return b & 0x8000 ? -magnitude : magnitude;
    });
    expect(f32FromF16Array(bits)).toEqual(Float32Array.from(expected));
  });

  test('views copy bytes that do not start aligned', () => {
    const bytes = Uint8Array.of(9, 0, 0, 128, 63, 1, 2);
    expect(f32View(bytes.subarray(1, 5))).toEqual(Float32Array.of(1));
    expect(u16View(bytes.subarray(5))).toEqual(Uint16Array.of(0x0201));
  });
});

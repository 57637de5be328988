// Files made to mislead, truncated, flipped: typed errors, nothing read beyond the file, no more memory than the file needs.

import { describe, expect, test } from 'vitest';
import {
  discardingSink,
  type ErrorCode,
  memorySource,
  openModelCheckpoint,
  planConversion,
  type RandomAccessSource,
  runConversion,
} from '../../core/index.js';
import { codeOf, refusal } from './checkpoint_bytes.js';
import { ByteWriter, type GgufOptions, type GgufTensor, gguf } from './gguf_bytes.js';

const Q40: GgufTensor = { name: 'a.weight', type: 2, dims: [64, 2], data: new Uint8Array(72) };
const NORM: GgufTensor = { name: 'norm', type: 0, dims: [3], data: new Uint8Array(12) };
const control = gguf([Q40, NORM]);

/** Counts what is read, and refuses to hand out more than the file holds. */
function counted(bytes: Uint8Array, name: string): RandomAccessSource & { readBytes: number } {
  const inner = memorySource(bytes, name);
  return {
    ...inner,
    readBytes: 0,
    async read(offset, length) {
      this.readBytes += length;
      return inner.read(offset, length);
    },
  };
}

const open = (bytes: Uint8Array, name = 'm.gguf', json = new Map<string, Uint8Array>()) =>
  openModelCheckpoint(
    {
      name: 'folder',
      open: async (fileName) => {
        const beside = json.get(fileName);
        return fileName === name ? counted(bytes, name) : beside && memorySource(beside, fileName);
      },
    },
    name,
  );
const convert = async (bytes: Uint8Array, name?: string, json?: Map<string, Uint8Array>) =>
  runConversion(await planConversion(await open(bytes, name, json)), discardingSink);

/** A file that says it is larger than the bytes it gives. */
function sized(sizeBytes: number, bytes: Uint8Array): RandomAccessSource {
  const inner = memorySource(bytes, 'm.gguf');
  return { ...inner, sizeBytes, read: (offset, length) => inner.read(offset, Math.min(length, bytes.length - offset)) };
}

/** A header that counts a million tensors. */
function manyTensors(): Uint8Array {
  const bytes = gguf([Q40]);
  new DataView(bytes.buffer, bytes.byteOffset).setBigUint64(8, 1_000_000n, true);
  return bytes;
}

const opened = (tensors: readonly GgufTensor[], options?: GgufOptions) => () => open(gguf(tensors, options));
const value = (key: string, type: number) => new ByteWriter().string(key).u32(type);
const patched = (offset: number, ...bytes: number[]) => {
  const copy = control.slice();
  copy.set(bytes, offset);
  return () => open(copy);
};

const CASES: readonly (readonly [name: string, code: ErrorCode, attempt: () => unknown])[] = [
  ['another magic', 'FILE_FORMAT_UNSUPPORTED', patched(0, 0x46, 0x55, 0x47, 0x47)],
  ['big-endian', 'FILE_FORMAT_UNSUPPORTED', patched(4, 0, 0, 0, 3)],
  ['version 1', 'FILE_FORMAT_UNSUPPORTED', patched(4, 1)],
  ['version 4', 'FILE_FORMAT_UNSUPPORTED', patched(4, 4)],
  ['an empty file', 'FILE_TRUNCATED', () => open(new Uint8Array(0))],
  ['2^64 - 1 tensors', 'FILE_TRUNCATED', opened([Q40], { tensorCount: 2n ** 64n - 1n })],
  ['2^63 metadata values', 'FILE_TRUNCATED', opened([Q40], { valueCount: 2n ** 63n })],
  ['more tensors than there are', 'FILE_TRUNCATED', () => open(gguf([Q40], { tensorCount: 2n }).subarray(0, 80))],
  ['a key of 2^63 bytes', 'FILE_TRUNCATED', opened([Q40], { values: [new ByteWriter().u64(2n ** 63n)] })],
  [
    'more tensors than any model has, in a file that could hold them',
    'FILE_HEADER_TOO_LARGE',
    () => openModelCheckpoint({ name: 'folder', open: async () => sized(2 ** 40, manyTensors()) }, 'm.gguf'),
  ],
  ['reading what is not there', 'FILE_TENSOR_MISSING', async () => (await open(control)).files[0]?.read('nothing')],
  ['a key of 70 000 bytes', 'FILE_HEADER_TOO_LARGE', opened([Q40], { values: [value('k'.repeat(70_000), 4).u32(1)] })],
  [
    'a key that is not UTF-8',
    'FILE_HEADER_INVALID',
    opened([Q40], { values: [new ByteWriter().u64(1n).raw([0xff]).u32(4).u32(1)] }),
  ],
  ['a value of an unknown type', 'FILE_HEADER_INVALID', opened([Q40], { values: [value('k', 13).u32(1)] })],
  ['a key twice', 'FILE_DUPLICATE_KEY', opened([Q40], { values: [value('k', 4).u32(1), value('k', 4).u32(2)] })],
  [
    'an array of arrays',
    'FILE_HEADER_INVALID',
    opened([Q40], { values: [value('k', 9).u32(9).u64(1n).u32(4).u64(0n)] }),
  ],
  [
    'an array of 2^62 bytes',
    'FILE_TRUNCATED',
    opened([Q40], {
      values: [
        value('k', 9)
          .u32(0)
          .u64(2n ** 62n),
      ],
    }),
  ],
  [
    'an array of 2^61 texts',
    'FILE_TRUNCATED',
    opened([Q40], {
      values: [
        value('k', 9)
          .u32(8)
          .u64(2n ** 61n),
      ],
    }),
  ],
  [
    'a text of 2^64 - 1 bytes in an array',
    'FILE_TRUNCATED',
    opened([Q40], {
      values: [
        value('k', 9)
          .u32(8)
          .u64(1n)
          .u64(2n ** 64n - 1n),
      ],
    }),
  ],
  ['a text of 2^62 bytes', 'FILE_TRUNCATED', opened([Q40], { values: [value('k', 8).u64(2n ** 62n)] })],
  ['an alignment of 0', 'FILE_HEADER_INVALID', opened([Q40], { values: [value('general.alignment', 4).u32(0)] })],
  ['an alignment of 48', 'FILE_HEADER_INVALID', opened([Q40], { values: [value('general.alignment', 4).u32(48)] })],
  [
    'an alignment of 2^31',
    'FILE_HEADER_INVALID',
    opened([Q40], { values: [value('general.alignment', 4).u32(2 ** 31)] }),
  ],
  [
    'an alignment that is no u32',
    'FILE_HEADER_INVALID',
    opened([Q40], { values: [value('general.alignment', 6).u32(32)] }),
  ],
  ['a tensor twice', 'FILE_DUPLICATE_KEY', opened([Q40, Q40])],
  ['rank 0', 'FILE_TENSOR_INVALID', opened([{ ...NORM, dims: [] }])],
  ['rank 5', 'FILE_TENSOR_INVALID', opened([{ ...NORM, dims: [1, 1, 1, 1, 3] }])],
  [
    'rank 2^32 - 1',
    'FILE_TENSOR_INVALID',
    () => open(Uint8Array.from(control, (byte, i) => (i >= 40 && i < 44 ? 255 : byte))),
  ],
  ['a dimension of 0', 'FILE_TENSOR_INVALID', opened([{ ...NORM, dims: [0] }])],
  ['a dimension of 2^64 - 1', 'FILE_TENSOR_INVALID', opened([{ ...NORM, dims: [2n ** 64n - 1n] }])],
  ['a product that wraps to the right size', 'FILE_TENSOR_INVALID', opened([{ ...NORM, dims: [3n, 2n ** 63n, 2n] }])],
  ['a product beyond 2^64', 'FILE_TENSOR_INVALID', opened([{ ...NORM, dims: [2n ** 40n, 2n ** 40n] }])],
  ['rows that are no whole blocks', 'FILE_TENSOR_INVALID', opened([{ ...Q40, dims: [48, 2] }])],
  ['an unknown type', 'FILE_DTYPE_UNKNOWN', opened([{ ...NORM, type: 99 }])],
  ['Q4_0_4_4', 'FILE_DTYPE_UNKNOWN', opened([{ ...Q40, type: 31 }])],
  ['a tensor larger than the file', 'FILE_TRUNCATED', opened([{ ...NORM, dims: [500] }])],
  ['an offset that leaves a hole', 'FILE_OFFSETS_INVALID', opened([Q40, { ...NORM, offset: 128n }])],
  ['an offset that overlaps', 'FILE_OFFSETS_INVALID', opened([Q40, { ...NORM, offset: 0n }])],
  ['an offset that is not aligned', 'FILE_OFFSETS_INVALID', opened([Q40, { ...NORM, offset: 72n }])],
  ['an offset beyond 2^53', 'FILE_OFFSETS_INVALID', opened([{ ...Q40, offset: 2n ** 53n + 1n }])],
  ['an offset of 2^64', 'FILE_OFFSETS_INVALID', opened([{ ...Q40, offset: 2n ** 64n - 32n }])],
  ['a file that ends in the last tensor', 'FILE_TRUNCATED', () => open(control.subarray(0, control.length - 24))],
  [
    'IQ4_NL, which looks like Q4_0, and nothing else',
    'FILE_FORMAT_UNSUPPORTED',
    () => convert(gguf([{ ...Q40, type: 20 }])),
  ],
  ['an infinite scale', 'SCALE_NOT_FINITE', () => convert(gguf([{ ...Q40, data: new Uint8Array(72).fill(0x7c) }]))],
];

describe('GGUF', () => {
  test('the control opens', async () => {
    const { tensors } = await open(control);
    expect(
      [...tensors.values()].map(({ name, dtype, shape, sizeBytes }) => ({ name, dtype, shape, sizeBytes })),
    ).toEqual([
      { name: 'a.weight', dtype: 'Q4_0', shape: [2, 64], sizeBytes: 72 },
      { name: 'norm', dtype: 'F32', shape: [3], sizeBytes: 12 },
    ]);
  });

  test.each(CASES)('%s: %s', async (_, code, attempt) => {
    expect((await refusal(attempt)).code).toBe(code);
  });

  test('a tensor named __proto__ is a tensor like any other', async () => {
    const { tensors } = await open(gguf([{ ...Q40, name: '__proto__' }]));
    expect(tensors.get('__proto__')?.dtype).toBe('Q4_0');
  });

  test('cut anywhere, it is refused', async () => {
    const end = control.length - 20;
    for (let length = 0; length < end; length++) {
      expect(await codeOf(() => open(control.subarray(0, length))), `${length} bytes`).toBe('FILE_TRUNCATED');
    }
  });

  test('a split model with a shard missing, and one with a tensor in two shards', async () => {
    const folder = (files: readonly string[]) => ({
      name: 'folder',
      open: async (fileName: string) => (files.includes(fileName) ? memorySource(control, fileName) : undefined),
    });
    const [first, second] = ['m-00001-of-00002.gguf', 'm-00002-of-00002.gguf'];
    expect(await codeOf(() => openModelCheckpoint(folder([first]), first))).toBe('FILE_UNREADABLE');
    expect(await codeOf(() => openModelCheckpoint(folder([first, second]), first))).toBe('FILE_DUPLICATE_KEY');
  });

  test('a vocabulary of a million texts is stepped over through a window', async () => {
    const list = value('tokens', 9).u32(8).u64(1_000_000n);
    const head = gguf([], { valueCount: 1n }).subarray(0, 24);
    const texts = new Uint8Array(1_000_000 * 12);
    for (let i = 0; i < texts.length; i += 12) texts[i] = 4;
    const tail = new ByteWriter().u64(0n).bytes;
    const bytes = Buffer.concat([head, Uint8Array.from(list.bytes), texts, Uint8Array.from(tail)]);
    bytes.writeBigUInt64LE(0n, 8);
    let largest = 0;
    const inner = memorySource(bytes, 'm.gguf');
    const source = {
      ...inner,
      read: (offset: number, length: number) => {
        largest = Math.max(largest, length);
        return inner.read(offset, length);
      },
    };
    const model = await openModelCheckpoint({ name: 'folder', open: async () => source }, 'm.gguf');
    expect(model.tensors.size).toBe(0);
    expect(largest).toBeLessThanOrEqual(2 ** 20);
  });
});

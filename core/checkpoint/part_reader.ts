// Reads the parts of a weight in pieces: blocks of rows, blocks of columns, and floats of any of the three types.

import { SamebitsError } from '../errors.js';
import { f16Values } from './f16.js';
import type { SliceBuffers } from './slice_buffers.js';
import { quoted } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';
import { type ColumnRange, transposeWords } from './transpose.js';
import { f32View, u16View, u32View, wordAligned } from './views.js';

/** Bytes of the largest part that are worked on at once. */
const BLOCK_BYTES = 2 * 2 ** 20;
/** The same for parts that are read by columns, whose pieces would otherwise be small. */
const COLUMN_BLOCK_BYTES = 32 * 2 ** 20;
/** Zero points are packed eight rows to a word, so blocks start at multiples of eight. */
const BLOCK_ROWS = 8;

/** `0, n` of consecutive rows, as many as a block may hold. */
export function* rowBlocks(
  n: number,
  rowBytes: number,
  by: 'rows' | 'columns' = 'rows',
): Generator<{ readonly firstRow: number; readonly n: number }> {
  const blockBytes = by === 'rows' ? BLOCK_BYTES : COLUMN_BLOCK_BYTES;
  const rows = Math.max(BLOCK_ROWS, Math.floor(blockBytes / rowBytes / BLOCK_ROWS) * BLOCK_ROWS);
  for (let firstRow = 0; firstRow < n; firstRow += rows) yield { firstRow, n: Math.min(rows, n - firstRow) };
}

/** Rows `first`... of a matrix, aligned to 4 bytes, in the buffer of the part. */
export async function readRows(
  tensor: ModelTensor,
  first: number,
  count: number,
  buffers: SliceBuffers,
): Promise<Uint8Array<ArrayBuffer>> {
  const rowBytes = tensor.sizeBytes / tensor.shape[0]!;
  const into = buffers.bytes(roleOf(tensor.name), count * rowBytes);
  return wordAligned(await tensor.file.read(tensor.name, first * rowBytes, count * rowBytes, into));
}

/** Columns `first`... of a matrix [rows, columns], as [rows, count], aligned to 4 bytes, in the buffer of the part. */
export async function readColumns(
  tensor: ModelTensor,
  first: number,
  count: number,
  buffers: SliceBuffers,
): Promise<Uint8Array<ArrayBuffer>> {
  const [rows = 0, columns = 0] = tensor.shape;
  if (count === columns) return readRows(tensor, 0, rows, buffers);
  const elementBytes = tensor.sizeBytes / (rows * columns);
  const rowBytes = count * elementBytes;
  const out = buffers.bytes(roleOf(tensor.name), rows * rowBytes);
  for (let row = 0; row < rows; row += READS_AT_ONCE) {
    const reads = Array.from({ length: Math.min(READS_AT_ONCE, rows - row) }, async (_, i) => {
      const start = ((row + i) * columns + first) * elementBytes;
      const into = out.subarray((row + i) * rowBytes, (row + i + 1) * rowBytes);
      const bytes = await tensor.file.read(tensor.name, start, rowBytes, into);
      if (bytes.buffer !== out.buffer) into.set(bytes);
    });
    await Promise.all(reads);
  }
  return out;
}

const READS_AT_ONCE = 16;

/** The exact values of a part's F16, BF16 or F32 bytes, in a buffer of their own. */
export function floats(
  { name, dtype }: Pick<ModelTensor, 'name' | 'dtype'>,
  bytes: Uint8Array<ArrayBuffer>,
  buffers: SliceBuffers,
): Float32Array<ArrayBuffer> {
  if (dtype === 'F32') return f32View(bytes);
  const bits = u16View(bytes);
  const out = buffers.f32(`${roleOf(name)} in f32`, bits.length);
  if (dtype === 'F16') widenF16(bits, 0, bits.length, out, 0);
  else widenBf16(bits, 0, bits.length, new Uint32Array(out.buffer, out.byteOffset, out.length), 0);
  return out;
}

/** Columns of a part [G, stride] in f32, as rows: f32[range.columns, G]. */
export function floatColumns(
  part: Pick<ModelTensor, 'name' | 'dtype'>,
  bytes: Uint8Array<ArrayBuffer>,
  range: ColumnRange,
  buffers: SliceBuffers,
): Float32Array<ArrayBuffer> {
  const out = buffers.f32(`${roleOf(part.name)} in rows`, range.rows * range.columns);
  const outBits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  if (part.dtype === 'F32') {
    transposeWords(u32View(bytes), range, outBits);
    return out;
  }
  const { stride, column, rows, columns } = range;
  const bits = u16View(bytes);
  const widened = buffers.f32(`${roleOf(part.name)} in columns`, rows * columns);
  const widenedBits = new Uint32Array(widened.buffer, widened.byteOffset, widened.length);
  for (let row = 0; row < rows; row++) {
    const first = row * stride + column;
    if (part.dtype === 'F16') widenF16(bits, first, columns, widened, row * columns);
    else widenBf16(bits, first, columns, widenedBits, row * columns);
  }
  transposeWords(widenedBits, { stride: columns, column: 0, rows, columns }, outBits);
  return out;
}

/** What tells the parts of one weight apart, and is the same for all weights of a format. */
function roleOf(name: string): string {
  return `part ${name.slice(name.lastIndexOf('.') + 1)}`;
}

function widenF16(bits: Uint16Array, first: number, count: number, out: Float32Array, to: number): void {
  const values = f16Values();
  for (let i = 0; i < count; i++) out[to + i] = values[bits[first + i]!]!;
}

function widenBf16(bits: Uint16Array, first: number, count: number, out: Uint32Array, to: number): void {
  for (let i = 0; i < count; i++) out[to + i] = bits[first + i]! << 16;
}

/** The part of that name. @throws SamebitsError FILE_TENSOR_MISSING */
export function requirePart(tensors: ReadonlyMap<string, ModelTensor>, name: string, weight: string): ModelTensor {
  const tensor = tensors.get(name);
  if (tensor) return tensor;
  throw new SamebitsError('FILE_TENSOR_MISSING', {
    rule: `weight ${quoted(weight)} must have all its parts`,
    expected: `a tensor ${quoted(name)}`,
    got: 'none of that name',
    fix: 'The checkpoint is incomplete; fetch it again.',
  });
}

/** Checks dtype and shape of a part. @throws SamebitsError FILE_TENSOR_INVALID */
export function checkPart(
  tensor: ModelTensor,
  dtypes: readonly string[],
  shape: readonly number[],
  words: string,
): void {
  if (dtypes.includes(tensor.dtype) && tensor.shape.join() === shape.join()) return;
  throw new SamebitsError('FILE_TENSOR_INVALID', {
    rule: `tensor ${quoted(tensor.name)} must be ${words}`,
    expected: `${dtypes.join(' or ')} [${shape}]`,
    got: `${tensor.dtype} [${tensor.shape}]`,
    fix: 'The checkpoint is damaged or of another format; --exclude leaves a weight as it is.',
  });
}

export const FLOAT_DTYPES = ['F16', 'BF16', 'F32'] as const;

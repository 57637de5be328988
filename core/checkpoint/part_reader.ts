// Reads the parts of a weight in pieces: blocks of rows, blocks of columns, and floats of any of the three types.

import { SamebitsError } from '../errors.js';
import { f32FromF16Array } from './f16.js';
import { quoted } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';
import { f32View, u16View, wordAligned } from './views.js';

/** Bytes of the largest part that are worked on at once. */
const BLOCK_BYTES = 4 * 2 ** 20;
/** Zero points are packed eight rows to a word, so blocks start at multiples of eight. */
const BLOCK_ROWS = 8;

/** `0, n` of consecutive rows, as many as a block may hold. */
export function* rowBlocks(n: number, rowBytes: number): Generator<{ readonly firstRow: number; readonly n: number }> {
  const rows = Math.max(BLOCK_ROWS, Math.floor(BLOCK_BYTES / rowBytes / BLOCK_ROWS) * BLOCK_ROWS);
  for (let firstRow = 0; firstRow < n; firstRow += rows) yield { firstRow, n: Math.min(rows, n - firstRow) };
}

/** Rows `first`... of a matrix, aligned to 4 bytes. */
export async function readRows(tensor: ModelTensor, first: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
  const rowBytes = tensor.sizeBytes / tensor.shape[0]!;
  return wordAligned(await tensor.file.read(tensor.name, first * rowBytes, count * rowBytes));
}

/** Columns `first`... of a matrix [rows, columns], as [rows, count], aligned to 4 bytes. */
export async function readColumns(tensor: ModelTensor, first: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
  const [rows = 0, columns = 0] = tensor.shape;
  if (count === columns) return wordAligned(await tensor.file.read(tensor.name));
  const elementBytes = tensor.sizeBytes / (rows * columns);
  const out = new Uint8Array(rows * count * elementBytes);
  for (let row = 0; row < rows; row += READS_AT_ONCE) {
    const reads = Array.from({ length: Math.min(READS_AT_ONCE, rows - row) }, async (_, i) => {
      const start = ((row + i) * columns + first) * elementBytes;
      out.set(await tensor.file.read(tensor.name, start, count * elementBytes), (row + i) * count * elementBytes);
    });
    await Promise.all(reads);
  }
  return out;
}

const READS_AT_ONCE = 16;

/** The exact values of F16, BF16 or F32 bytes. */
export function floats(dtype: string, bytes: Uint8Array<ArrayBuffer>): Float32Array<ArrayBuffer> {
  if (dtype === 'F32') return f32View(bytes);
  const bits = u16View(bytes);
  if (dtype === 'F16') return f32FromF16Array(bits);
  const out = new Float32Array(bits.length);
  const outBits = new Uint32Array(out.buffer);
  for (let i = 0; i < bits.length; i++) outBits[i] = bits[i]! << 16;
  return out;
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

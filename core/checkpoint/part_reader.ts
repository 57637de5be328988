// Reads the parts of a weight into the memory of the kernels, in blocks of rows or of columns, and checks them.

import { SamebitsError } from '../errors.js';
import type { KernelMemory, Region } from './kernel_memory.js';
import { quoted } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';

/** Bytes of the largest part that are worked on at once. */
export const BLOCK_BYTES = 2 * 2 ** 20;
/** Of parts by columns, those that are read at once: their pieces would otherwise be small. */
export const COLUMN_BLOCK_BYTES = 32 * 2 ** 20;
/** Zero points are packed eight rows to a word, so blocks start at multiples of eight. */
const BLOCK_ROWS = 8;
const READS_AT_ONCE = 16;

/** Along which side of its matrix a part holds the weight's rows. */
export type By = 'rows' | 'columns';

/** How many of `n` rows a block holds, the last one apart. */
export function rowsPerBlock(n: number, rowBytes: number, blockBytes = BLOCK_BYTES): number {
  return Math.min(n, Math.max(BLOCK_ROWS, Math.floor(blockBytes / rowBytes / BLOCK_ROWS) * BLOCK_ROWS));
}

/** `0, n` of consecutive rows, `rowsPerBlock` at a time. */
export function* rowBlocks(
  n: number,
  rowBytes: number,
  blockBytes = BLOCK_BYTES,
): Generator<{ readonly firstRow: number; readonly n: number }> {
  const rows = rowsPerBlock(n, rowBytes, blockBytes);
  for (let firstRow = 0; firstRow < n; firstRow += rows) yield { firstRow, n: Math.min(rows, n - firstRow) };
}

/** A block of one part of a weight. */
export class PartBlock {
  readonly region: Region;
  readonly #unitBytes: number;
  #units = 0;

  /**
   * @param rows the most rows of the weight that are read at once
   * @param rowsPerUnit rows of the weight that share a row or column of the part
   */
  constructor(
    memory: KernelMemory,
    readonly tensor: ModelTensor,
    rows: number,
    private readonly by: By,
    private readonly rowsPerUnit = 1,
    region?: Region,
  ) {
    const [height = 0, width = 0] = tensor.shape;
    this.#unitBytes = tensor.sizeBytes / (by === 'rows' ? height : height * width);
    this.region = region ?? memory.take(Math.ceil(rows / rowsPerUnit) * this.#unitBytes * (by === 'rows' ? 1 : height));
  }

  /** Bytes from a row of the part to the next. */
  get stride(): number {
    return this.by === 'rows' ? this.#unitBytes : this.#units * this.#unitBytes;
  }

  /** Where a row of the block begins. */
  address(row: number): number {
    return this.region.address + Math.floor(row / this.rowsPerUnit) * this.#unitBytes;
  }

  /** Reads rows `firstRow`... of the weight; gives the bytes that took. */
  async read(firstRow: number, rows: number): Promise<number> {
    const { tensor, by, rowsPerUnit } = this;
    const [height = 0, width = 0] = tensor.shape;
    const first = firstRow / rowsPerUnit;
    this.#units = Math.ceil(rows / rowsPerUnit);
    const pieceBytes = this.#units * this.#unitBytes;
    if (by === 'rows') return this.#readPiece(first * this.#unitBytes, 0, pieceBytes);
    if (this.#units === width) return this.#readPiece(0, 0, height * pieceBytes);
    for (let row = 0; row < height; row += READS_AT_ONCE) {
      const reads = Array.from({ length: Math.min(READS_AT_ONCE, height - row) }, (_, i) =>
        this.#readPiece(((row + i) * width + first) * this.#unitBytes, (row + i) * pieceBytes, pieceBytes),
      );
      await Promise.all(reads);
    }
    return height * pieceBytes;
  }

  async #readPiece(start: number, to: number, length: number): Promise<number> {
    const { name, file } = this.tensor;
    const into = this.region.bytes().subarray(to, to + length);
    const bytes = await file.read(name, start, length, into);
    if (bytes.buffer !== into.buffer) into.set(bytes);
    return length;
  }
}

/** A block of a part that holds floats: F16, BF16 or F32. */
export class FloatBlock {
  readonly #block: PartBlock;
  readonly #turned: Region | undefined;
  readonly #elementBytes: number;

  /** @param rows the most rows that are widened at once, @param blockRows that are read at once */
  constructor(
    private readonly memory: KernelMemory,
    private readonly tensor: ModelTensor,
    blockRows: number,
    rows: number,
    private readonly by: By,
  ) {
    this.#elementBytes = tensor.dtype === 'F32' ? 4 : 2;
    this.#block = new PartBlock(memory, tensor, blockRows, by);
    const isTurned = by === 'columns' && tensor.dtype !== 'F32';
    this.#turned = isTurned ? memory.take(rows * (tensor.shape[0] ?? 0) * this.#elementBytes) : undefined;
  }

  read(firstRow: number, rows: number): Promise<number> {
    return this.#block.read(firstRow, rows);
  }

  /** Rows `row`... of the block, f32[rows, G]. */
  widen(row: number, rows: number, out: Region): void {
    const { memory, tensor, by } = this;
    const [height = 0, width = 0] = tensor.shape;
    const nGroups = by === 'rows' ? width : height;
    const source = this.#block.address(row);
    if (!this.#turned) {
      if (by === 'columns') memory.kernels.transpose32(source, this.#block.stride, nGroups, rows, out.address);
      else this.#widen(source, rows * nGroups, out);
      return;
    }
    memory.kernels.transpose16(source, this.#block.stride, nGroups, rows, this.#turned.address);
    this.#widen(this.#turned.address, rows * nGroups, out);
  }

  #widen(source: number, count: number, out: Region): void {
    const { memory, tensor } = this;
    if (tensor.dtype === 'F16') memory.kernels.widenF16(source, count, out.address);
    else if (tensor.dtype === 'BF16') memory.kernels.widenBf16(source, count, out.address);
    else out.bytes(4 * count).set(memory.region(source, 4 * count).bytes());
  }
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

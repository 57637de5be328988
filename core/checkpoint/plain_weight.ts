// A bf16, f16 or f32 matrix of a model, quantized some rows at a time, and what that changed.

import { flushedNumberFromBf16 } from '../bf16.js';
import { DEFAULT_FORM } from '../forms.js';
import type { WeightShape } from '../limits.js';
import { RowQuantizer } from '../quantize.js';
import { checkScaleValues } from '../validate.js';
import { exponentOfReach, reachOf } from '../weight_exponent.js';
import type { KernelMemory, Region } from './kernel_memory.js';
import { PartBlock } from './part_reader.js';
import type { PackedRows } from './samebits_writer.js';
import { inTensor } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';
import type { WeightChange } from './weight_change.js';

/** Source bytes that are worked on at once; with what is made of them, about four times as much is held. */
export const SLICE_BYTES = 4 * 2 ** 20;

/** Places in the results of the kernel (kernels/row_changes.ts). */
const RESULT = { squares: 0, squaredChanges: 1, largestSquare: 2, count: 3 };

/** Quantizes one matrix in one pass over its bytes. */
export class PlainWeight {
  readonly #space: PlainSpace;
  readonly #rowsPerSlice: number;
  readonly #quantizer: RowQuantizer;
  /** What the kernel adds to; its memory is used by one weight after the other. */
  #sums = new Float64Array(RESULT.count);
  /** R of all rows so far: the tensor has one exponent, which slices alone could not tell. */
  #reach = 0;

  /** Takes its space from `memory`, which it has for itself. */
  constructor(
    private readonly tensor: ModelTensor,
    private readonly shape: WeightShape,
    symmetric: boolean,
    private readonly memory: KernelMemory,
  ) {
    const { n, k, groupSize } = shape;
    this.#rowsPerSlice = Math.max(1, Math.min(n, Math.floor((SLICE_BYTES * n) / tensor.sizeBytes)));
    this.#space = takeSpace(memory, tensor, shape, this.#rowsPerSlice);
    this.#quantizer = new RowQuantizer(k, groupSize, symmetric, this.#space.row.f32(k));
  }

  /**
   * All rows in order, each slice good until the next.
   * @throws SamebitsError WEIGHT_NOT_FINITE, WEIGHT_EXPONENT_OUT_OF_RANGE, naming the tensor
   */
  async *rows(): AsyncGenerator<PackedRows & { readonly sourceBytes: Uint8Array<ArrayBuffer> }> {
    const { tensor, shape } = this;
    for (let firstRow = 0; firstRow < shape.n; firstRow += this.#rowsPerSlice) {
      const n = Math.min(this.#rowsPerSlice, shape.n - firstRow);
      await this.#space.source.read(firstRow, n);
      const sourceBytes = this.#space.source.region.bytes((n * tensor.sizeBytes) / shape.n);
      yield { ...this.#quantize(n, firstRow), firstRow, sourceBytes };
    }
    try {
      exponentOfReach(this.#reach);
    } catch (error) {
      throw inTensor(tensor.name, error);
    }
  }

  /** Of the rows so far. */
  get change(): WeightChange {
    const [squares, squaredChanges] = [this.#sums[RESULT.squares]!, this.#sums[RESULT.squaredChanges]!];
    // The root of a square that was rounded is the number itself, as long as the square is a normal number.
    const largest = Math.sqrt(this.#sums[RESULT.largestSquare]!);
    return { isLossless: largest === 0, relativeRms: squares === 0 ? 0 : Math.sqrt(squaredChanges / squares), largest };
  }

  #quantize(n: number, firstRow: number): Omit<PackedRows, 'firstRow'> {
    const { k, nGroups } = this.shape;
    const { kernels } = this.memory;
    const qdata = this.#space.qdata.bytes((n * k) / 2);
    const scale = this.#space.scale.u16(n * nGroups);
    const zeroPoint = this.#space.zeroPoint.u16(n * nGroups);
    const results = this.memory.region(kernels.rowResults.value, 8 * RESULT.count).f64(RESULT.count);
    results.set(this.#sums);
    try {
      for (let row = 0; row < n; row++) {
        const first = row * nGroups;
        this.#widen(row);
        this.#quantizer.quantizeValues(row, { qdata, scale, zeroPoint, first, stride: 1 });
        this.#addChanges(row);
        for (let g = first; g < first + nGroups; g++) this.#addReach(scale[g]!, zeroPoint[g]!);
      }
      checkScaleValues(DEFAULT_FORM, this.shape, { scale, second: zeroPoint, steps: null });
    } catch (error) {
      throw inTensor(this.tensor.name, error, firstRow === 0 ? '' : `, rows counted from ${firstRow}`);
    }
    this.#sums = results.slice();
    return { qdata, groups: { scale, second: zeroPoint, steps: null } };
  }

  /** A row of the slice to f32. */
  #widen(row: number): void {
    const { k } = this.shape;
    const { source, row: values } = this.#space;
    const { widenF16, widenBf16 } = this.memory.kernels;
    const from = source.address(row);
    if (this.tensor.dtype === 'F16') widenF16(from, k, values.address);
    else if (this.tensor.dtype === 'BF16') widenBf16(from, k, values.address);
    else this.#quantizer.values.set(this.memory.region(from, 4 * k).f32(k));
  }

  /** Of the row that was quantized last. */
  #addChanges(row: number): void {
    const { k, groupSize, nGroups } = this.shape;
    const { row: values, qdata, scale, zeroPoint } = this.#space;
    const [codes, pairs] = [(row * k) / 2, 2 * row * nGroups];
    this.memory.kernels.addRowChanges(
      values.address,
      qdata.address + codes,
      groupSize,
      nGroups,
      scale.address + pairs,
      zeroPoint.address + pairs,
    );
  }

  #addReach(scaleBits: number, zeroBits: number): void {
    const reach = reachOf(DEFAULT_FORM, flushedNumberFromBf16(scaleBits), flushedNumberFromBf16(zeroBits));
    if (reach > this.#reach) this.#reach = reach;
  }
}

/** Where the rows of a slice lie. */
interface PlainSpace {
  readonly source: PartBlock;
  /** f32[K] */
  readonly row: Region;
  /** u8[rows, K/2] */
  readonly qdata: Region;
  /** bf16[rows, nGroups] */
  readonly scale: Region;
  /** bf16[rows, nGroups] */
  readonly zeroPoint: Region;
}

function takeSpace(memory: KernelMemory, tensor: ModelTensor, { k, nGroups }: WeightShape, rows: number): PlainSpace {
  memory.clear();
  return {
    source: new PartBlock(memory, tensor, rows, 'rows'),
    row: memory.take(4 * k),
    qdata: memory.take((rows * k) / 2),
    scale: memory.take(2 * rows * nGroups),
    zeroPoint: memory.take(2 * rows * nGroups),
  };
}

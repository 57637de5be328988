// A bf16, f16 or f32 matrix of a model, quantized some rows at a time, and what that changed.

import { flushedNumberFromBf16 } from '../bf16.js';
import type { WeightShape } from '../limits.js';
import { RowQuantizer } from '../quantize.js';
import { checkScaleValues, weightExponent } from '../validate.js';
import type { ChangeSums } from './code_moments.js';
import { f32FromF16Array } from './f16.js';
import type { PackedRows } from './samebits_writer.js';
import { SliceBuffers } from './slice_buffers.js';
import { inTensor } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';
import { f32View, u16View } from './views.js';
import type { WeightChange } from './weight_change.js';

/** Source bytes that are worked on at once; with what is made of them, about four times as much is held. */
export const SLICE_BYTES = 4 * 2 ** 20;

/** Quantizes one matrix in one pass over its bytes. */
export class PlainWeight {
  readonly #buffers = new SliceBuffers();
  readonly #quantizer: RowQuantizer;
  readonly #sums: ChangeSums = { sumOfSquares: 0, sumOfSquaredChanges: 0, largestChange: 0 };
  // The pair that reaches furthest decides the whole tensor's exponent; slices alone could not.
  #reach = -1;
  #reachScale = 0;
  #reachZeroPoint = 0;

  constructor(
    private readonly tensor: ModelTensor,
    private readonly shape: WeightShape,
    symmetric: boolean,
  ) {
    this.#quantizer = new RowQuantizer(shape.k, shape.groupSize, symmetric);
  }

  /**
   * All rows in order, each slice good until the next.
   * @throws SamebitsError WEIGHT_NOT_FINITE, WEIGHT_EXPONENT_OUT_OF_RANGE, naming the tensor
   */
  async *rows(): AsyncGenerator<PackedRows & { readonly sourceBytes: Uint8Array<ArrayBuffer> }> {
    const { tensor, shape } = this;
    const rowBytes = tensor.sizeBytes / shape.n;
    const rowsPerSlice = Math.max(1, Math.floor(SLICE_BYTES / rowBytes));
    for (let firstRow = 0; firstRow < shape.n; firstRow += rowsPerSlice) {
      const n = Math.min(rowsPerSlice, shape.n - firstRow);
      const sourceBytes = await tensor.file.read(
        tensor.name,
        firstRow * rowBytes,
        n * rowBytes,
        this.#buffers.bytes('source', n * rowBytes),
      );
      yield { ...this.#quantize(sourceBytes, n, firstRow), firstRow, sourceBytes };
    }
    try {
      weightExponent(Uint16Array.of(this.#reachScale), Uint16Array.of(this.#reachZeroPoint));
    } catch (error) {
      throw inTensor(tensor.name, error);
    }
  }

  /** Of the rows so far. */
  get change(): WeightChange {
    const { sumOfSquares, sumOfSquaredChanges, largestChange: largest } = this.#sums;
    const relativeRms = sumOfSquares === 0 ? 0 : Math.sqrt(sumOfSquaredChanges / sumOfSquares);
    return { isLossless: largest === 0, relativeRms, largest };
  }

  #quantize(sourceBytes: Uint8Array<ArrayBuffer>, n: number, firstRow: number): Omit<PackedRows, 'firstRow'> {
    const weights = decode(this.tensor.dtype, sourceBytes);
    const { k, nGroups } = this.shape;
    const qdata = this.#buffers.bytes('qdata', (n * k) / 2);
    const scale = this.#buffers.u16('scale', n * nGroups);
    const zeroPoint = this.#buffers.u16('zero point', n * nGroups);
    try {
      for (let row = 0; row < n; row++) {
        const first = row * nGroups;
        this.#quantizer.quantize(weights, row, { qdata, scale, zeroPoint, first, stride: 1 });
        this.#measure(qdata, scale, zeroPoint, row);
      }
      checkScaleValues(scale, zeroPoint);
    } catch (error) {
      throw inTensor(this.tensor.name, error, firstRow === 0 ? '' : `, rows counted from ${firstRow}`);
    }
    return { qdata, scale, zeroPoint };
  }

  /** The row that was quantized last. */
  #measure(qdata: Uint8Array, scaleBits: Uint16Array, zeroBits: Uint16Array, row: number): void {
    const { k, nGroups } = this.shape;
    const scale = this.#buffers.f64('scales of a row', nGroups);
    const zeroPoint = this.#buffers.f64('zero points of a row', nGroups);
    for (let g = 0; g < nGroups; g++) {
      const at = row * nGroups + g;
      const s = flushedNumberFromBf16(scaleBits[at]!);
      const z = flushedNumberFromBf16(zeroBits[at]!);
      scale[g] = s;
      zeroPoint[g] = z;
      const reach = Math.abs(s) * Math.max(Math.abs(z), Math.abs(15 - z));
      if (reach > this.#reach) {
        this.#reach = reach;
        this.#reachScale = scaleBits[at]!;
        this.#reachZeroPoint = zeroBits[at]!;
      }
    }
    addRowChanges(this.#quantizer.values, qdata, (row * k) / 2, this.shape.groupSize, scale, zeroPoint, this.#sums);
  }
}

/** Adds what one row contributes. A code less a zero point times a bf16 scale is exact here, as it is in f32. */
function addRowChanges(
  values: Float32Array,
  qdata: Uint8Array,
  at: number,
  groupSize: number,
  scale: Float64Array,
  zeroPoint: Float64Array,
  sums: ChangeSums,
): void {
  let { sumOfSquares, sumOfSquaredChanges } = sums;
  let largestSquare = 0;
  for (let g = 0, i = 0; g < scale.length; g++) {
    const s = scale[g]!;
    const z = zeroPoint[g]!;
    for (const end = i + groupSize; i < end; i += 2, at++) {
      const byte = qdata[at]!;
      const even = values[i]!;
      const odd = values[i + 1]!;
      const evenChange = ((byte & 15) - z) * s - even;
      const oddChange = ((byte >> 4) - z) * s - odd;
      const evenSquare = evenChange * evenChange;
      const oddSquare = oddChange * oddChange;
      sumOfSquares += even * even + odd * odd;
      sumOfSquaredChanges += evenSquare + oddSquare;
      if (evenSquare > largestSquare) largestSquare = evenSquare;
      if (oddSquare > largestSquare) largestSquare = oddSquare;
    }
  }
  sums.sumOfSquares = sumOfSquares;
  sums.sumOfSquaredChanges = sumOfSquaredChanges;
  // The root of a square that was rounded is the number itself, as long as the square is a normal number.
  sums.largestChange = Math.max(sums.largestChange, Math.sqrt(largestSquare));
}

function decode(dtype: string, bytes: Uint8Array<ArrayBuffer>): Uint16Array | Float32Array {
  if (dtype === 'F32') return f32View(bytes);
  const bits = u16View(bytes);
  return dtype === 'F16' ? f32FromF16Array(bits) : bits;
}

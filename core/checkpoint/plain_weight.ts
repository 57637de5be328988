// A bf16, f16 or f32 matrix of a model, quantized some rows at a time, and what that changed.

import { flushedNumberFromBf16 } from '../bf16.js';
import type { Int4Tensor } from '../int4_tensor.js';
import type { WeightShape } from '../limits.js';
import { quantizeInt4, widenRow } from '../quantize.js';
import { weightExponent } from '../validate.js';
import type { ChangeSums } from './code_moments.js';
import { f32FromF16Array } from './f16.js';
import type { PackedRows } from './samebits_writer.js';
import { inTensor } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';
import { f32View, u16View } from './views.js';
import type { WeightChange } from './weight_change.js';

/** Source bytes that are worked on at once; with what is made of them, about four times as much is held. */
export const SLICE_BYTES = 4 * 2 ** 20;

/** Quantizes one matrix in one pass over its bytes. */
export class PlainWeight {
  readonly #sums: ChangeSums = { sumOfSquares: 0, sumOfSquaredChanges: 0, largestChange: 0 };
  // The pair that reaches furthest decides the whole tensor's exponent; slices alone could not.
  #reach = -1;
  #reachScale = 0;
  #reachZeroPoint = 0;

  constructor(
    private readonly tensor: ModelTensor,
    private readonly shape: WeightShape,
    private readonly symmetric: boolean,
  ) {}

  /**
   * All rows in order.
   * @throws SamebitsError WEIGHT_NOT_FINITE, WEIGHT_EXPONENT_OUT_OF_RANGE, naming the tensor
   */
  async *rows(): AsyncGenerator<PackedRows & { readonly sourceBytes: Uint8Array<ArrayBuffer> }> {
    const { tensor, shape } = this;
    const rowBytes = tensor.sizeBytes / shape.n;
    const rowsPerSlice = Math.max(1, Math.floor(SLICE_BYTES / rowBytes));
    for (let firstRow = 0; firstRow < shape.n; firstRow += rowsPerSlice) {
      const n = Math.min(rowsPerSlice, shape.n - firstRow);
      const sourceBytes = await tensor.file.read(tensor.name, firstRow * rowBytes, n * rowBytes);
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
    const { k, groupSize } = this.shape;
    let quantized: Int4Tensor;
    try {
      quantized = quantizeInt4(weights, { n, k, groupSize, symmetric: this.symmetric });
    } catch (error) {
      throw inTensor(this.tensor.name, error, firstRow === 0 ? '' : `, rows counted from ${firstRow}`);
    }
    this.#measure(weights, quantized);
    return { qdata: quantized.qdata, ...this.#coalesce(quantized) };
  }

  #measure(weights: Uint16Array | Float32Array, quantized: Int4Tensor): void {
    const { n, k, nGroups } = quantized;
    const values = new Float32Array(k);
    const bits = new Int32Array(values.buffer);
    const row = { values, bits, scale: new Float64Array(nGroups), zeroPoint: new Float64Array(nGroups) };
    for (let index = 0; index < n; index++) measureRow(weights, quantized, index, row, this.#sums);
  }

  /** [nGroups, n] -> [n, nGroups] for these rows; the tensor's exponent is not theirs, so no tensor is made of them. */
  #coalesce({ n, nGroups, scale, zeroPoint }: Int4Tensor): Pick<PackedRows, 'scale' | 'zeroPoint'> {
    const out = { scale: new Uint16Array(scale.length), zeroPoint: new Uint16Array(scale.length) };
    for (let row = 0; row < n; row++) {
      for (let g = 0; g < nGroups; g++) {
        const [s, z] = [scale[g * n + row]!, zeroPoint[g * n + row]!];
        out.scale[row * nGroups + g] = s;
        out.zeroPoint[row * nGroups + g] = z;
        const zero = flushedNumberFromBf16(z);
        const reach = Math.abs(flushedNumberFromBf16(s)) * Math.max(Math.abs(zero), Math.abs(15 - zero));
        if (reach > this.#reach) {
          this.#reach = reach;
          this.#reachScale = s;
          this.#reachZeroPoint = z;
        }
      }
    }
    return out;
  }
}

interface RowArrays {
  readonly values: Float32Array;
  readonly bits: Int32Array;
  readonly scale: Float64Array;
  readonly zeroPoint: Float64Array;
}

function measureRow(
  weights: Uint16Array | Float32Array,
  { n, k, nGroups, groupSize, qdata, scale, zeroPoint }: Int4Tensor,
  index: number,
  row: RowArrays,
  sums: ChangeSums,
): void {
  widenRow(weights, index * k, row.values, row.bits);
  for (let g = 0; g < nGroups; g++) {
    row.scale[g] = flushedNumberFromBf16(scale[g * n + index]!);
    row.zeroPoint[g] = flushedNumberFromBf16(zeroPoint[g * n + index]!);
  }
  addRowChanges(row.values, qdata, (index * k) / 2, groupSize, row.scale, row.zeroPoint, sums);
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
  let { sumOfSquares, sumOfSquaredChanges, largestChange } = sums;
  for (let g = 0, i = 0; g < scale.length; g++) {
    const s = scale[g]!;
    const z = zeroPoint[g]!;
    for (const end = i + groupSize; i < end; i += 2, at++) {
      const byte = qdata[at]!;
      const even = values[i]!;
      const odd = values[i + 1]!;
      const evenChange = ((byte & 15) - z) * s - even;
      const oddChange = ((byte >> 4) - z) * s - odd;
      sumOfSquares += even * even + odd * odd;
      sumOfSquaredChanges += evenChange * evenChange + oddChange * oddChange;
      if (evenChange > largestChange) largestChange = evenChange;
      if (oddChange > largestChange) largestChange = oddChange;
      if (-evenChange > largestChange) largestChange = -evenChange;
      if (-oddChange > largestChange) largestChange = -oddChange;
    }
  }
  sums.sumOfSquares = sumOfSquares;
  sums.sumOfSquaredChanges = sumOfSquaredChanges;
  sums.largestChange = largestChange;
}

function decode(dtype: string, bytes: Uint8Array<ArrayBuffer>): Uint16Array | Float32Array {
  if (dtype === 'F32') return f32View(bytes);
  const bits = u16View(bytes);
  return dtype === 'F16' ? f32FromF16Array(bits) : bits;
}

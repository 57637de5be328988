// A bf16, f16 or f32 matrix of a model, quantized some rows at a time, and what that changed.

import { flushedNumberFromBf16, numberFromBf16 } from '../bf16.js';
import { dequantizeRow } from '../dequantize.js';
import type { Int4Tensor } from '../int4_tensor.js';
import type { WeightShape } from '../limits.js';
import { quantizeInt4 } from '../quantize.js';
import { weightExponent } from '../validate.js';
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
  #sumOfSquares = 0;
  #sumOfSquaredChanges = 0;
  #largestChange = 0;
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
    const relativeRms = this.#sumOfSquares === 0 ? 0 : Math.sqrt(this.#sumOfSquaredChanges / this.#sumOfSquares);
    return { isLossless: this.#largestChange === 0, relativeRms, largest: this.#largestChange };
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
    const { n, k } = quantized;
    const isBf16 = weights instanceof Uint16Array;
    const row = new Float32Array(k);
    for (let r = 0; r < n; r++) {
      dequantizeRow(quantized, r, row);
      for (let i = 0; i < k; i++) {
        const source = weights[r * k + i]!;
        const weight = isBf16 ? numberFromBf16(source) : source;
        const change = Math.abs(row[i]! - weight);
        this.#sumOfSquares += weight * weight;
        this.#sumOfSquaredChanges += change * change;
        if (change > this.#largestChange) this.#largestChange = change;
      }
    }
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

function decode(dtype: string, bytes: Uint8Array<ArrayBuffer>): Uint16Array | Float32Array {
  if (dtype === 'F32') return f32View(bytes);
  const bits = u16View(bytes);
  return dtype === 'F16' ? f32FromF16Array(bits) : bits;
}

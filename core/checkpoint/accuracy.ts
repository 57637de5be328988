// How close a model's linears stay to themselves in 4 bits: the weights alone, and the whole W4A8 product.

import { bf16FromF32Array, numberFromBf16 } from '../bf16.js';
import { CoalescedInt4Tensor } from '../coalesced_int4_tensor.js';
import { dequantizeRow } from '../dequantize.js';
import { Random } from '../parity/random.js';
import { quantizeInt4 } from '../quantize.js';
import { int4PlainMM } from '../reference.js';
import { floatValues } from './float_values.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { SLICE_BYTES } from './plain_weight.js';
import { type SelectedTensor, type SelectionOptions, selectTensors } from './selection.js';

/** One way to quantize. */
export interface AccuracySetting {
  readonly groupSize: number;
  readonly symmetric: boolean;
}

/** What one way made of one linear, in dB: 20 dB are an error of a tenth of the signal, 40 dB of a hundredth. */
export interface SettingAccuracy extends AccuracySetting {
  /** 10 log10 of the squares of the weights over those of their changes; undefined when K is no multiple of groupSize. */
  readonly weightSnrDb: number | undefined;
  /** The same for `int4_plain_mm` against x · w in f64, with the weights as they were. */
  readonly productSnrDb: number | undefined;
}

export interface LinearAccuracy {
  readonly name: string;
  readonly n: number;
  readonly k: number;
  readonly settings: readonly SettingAccuracy[];
}

export const ACCURACY_SETTINGS: readonly AccuracySetting[] = [32, 64, 128].flatMap((groupSize) => [
  { groupSize, symmetric: false },
  { groupSize, symmetric: true },
]);

/** Rows of normally distributed activations, seeded by the tensor's name. */
const ROWS = 4;

/**
 * Measures every linear that convert would quantize, one after the other.
 * @throws SamebitsError those of selectTensors; WEIGHT_NOT_FINITE
 */
export async function* measureAccuracy(
  model: ModelCheckpoint,
  options: SelectionOptions = {},
): AsyncGenerator<LinearAccuracy> {
  for (const selected of await selectTensors(model, options)) {
    if (selected.kind === 'tensor' && selected.packed) yield await measureLinear(selected);
  }
}

async function measureLinear({ name, tensor }: SelectedTensor): Promise<LinearAccuracy> {
  const [n = 0, k = 0] = tensor.shape;
  const x = drawActivations(name, k);
  const sums = ACCURACY_SETTINGS.map((setting) => ({ ...setting, weights: new Noise(), product: new Noise() }));
  const rowBytes = tensor.sizeBytes / n;
  const rowsPerSlice = Math.max(1, Math.floor(SLICE_BYTES / rowBytes));
  for (let first = 0; first < n; first += rowsPerSlice) {
    const rows = Math.min(rowsPerSlice, n - first);
    const bytes = await tensor.file.read(name, first * rowBytes, rows * rowBytes);
    const weights = floatValues(tensor.dtype, bytes);
    const exact = multiply(x, weights, rows, k);
    for (const { groupSize, symmetric, weights: weightNoise, product } of sums) {
      if (k % groupSize !== 0) continue;
      const packed = CoalescedInt4Tensor.fromInt4Tensor(quantizeInt4(weights, { n: rows, k, groupSize, symmetric }));
      const row = new Float32Array(k);
      for (let r = 0; r < rows; r++) {
        dequantizeRow(packed, r, row);
        for (let i = 0; i < k; i++) weightNoise.add(weights[r * k + i]!, row[i]!);
      }
      const y = int4PlainMM(x, packed);
      for (let i = 0; i < y.length; i++) product.add(exact[i]!, y[i]!);
    }
  }
  const settings = sums.map(({ groupSize, symmetric, weights, product }) => ({
    groupSize,
    symmetric,
    weightSnrDb: weights.snrDb,
    productSnrDb: product.snrDb,
  }));
  return { name, n, k, settings };
}

/** Sums of squares of a signal and of its error. */
class Noise {
  #signal = 0;
  #error = 0;

  add(exact: number, approximate: number): void {
    this.#signal += exact * exact;
    this.#error += (approximate - exact) ** 2;
  }

  /** Infinite without an error, undefined without a signal. */
  get snrDb(): number | undefined {
    return this.#signal === 0 ? undefined : 10 * Math.log10(this.#signal / this.#error);
  }
}

function drawActivations(name: string, k: number): Uint16Array {
  const random = Random.named(name);
  return bf16FromF32Array(Float32Array.from({ length: ROWS * k }, () => random.normal()));
}

/** x · wᵀ in f64, f64[ROWS, rows]. */
function multiply(x: Uint16Array, weights: Float32Array, rows: number, k: number): Float64Array {
  const activations = Float64Array.from(x, numberFromBf16);
  const out = new Float64Array(ROWS * rows);
  for (let m = 0; m < ROWS; m++) {
    for (let r = 0; r < rows; r++) {
      let sum = 0;
      for (let i = 0; i < k; i++) sum += activations[m * k + i]! * weights[r * k + i]!;
      out[m * rows + r] = sum;
    }
  }
  return out;
}

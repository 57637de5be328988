// Queries, keys and values of one token: norms per head, and the rotary embedding.

import { add, bf, mul } from './elementary.js';
import { rmsNorm } from './rms_norm.js';
import type { RotaryTable } from './rotary.js';

/**
 * q or k of one token as attention reads it: bf16 values of the rotated norms.
 * @param heads f32[heads * D], the linear's output
 * @param weight f32[D]
 * @param out f32[heads * D], bf16 values
 */
export function rotateHeads(
  heads: Float32Array,
  weight: Float32Array,
  epsilon: number,
  { cos, sin }: RotaryTable,
  out: Float32Array,
): void {
  const headSize = weight.length;
  const half = headSize / 2;
  const x = new Float32Array(headSize);
  for (let first = 0; first < heads.length; first += headSize) {
    rmsNorm(heads.subarray(first, first + headSize), weight, epsilon, x);
    for (let i = 0; i < half; i++) {
      out[first + i] = bf(add(mul(x[i]!, cos[i]!), -mul(x[i + half]!, sin[i]!)));
      out[first + i + half] = bf(add(mul(x[i + half]!, cos[i]!), mul(x[i]!, sin[i]!)));
    }
  }
}

/** v of one token as the cache keeps it: bf16 values of norms without a weight. */
export function normValues(heads: Float32Array, headSize: number, epsilon: number, out: Float32Array): void {
  for (let first = 0; first < heads.length; first += headSize) {
    const of = out.subarray(first, first + headSize);
    rmsNorm(heads.subarray(first, first + headSize), null, epsilon, of);
    for (let i = 0; i < headSize; i++) of[i] = bf(of[i]!);
  }
}

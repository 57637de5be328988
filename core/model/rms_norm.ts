// RMSNorm as DECODER.md orders it.

import { add, mul, rsqrt, treeSum } from './elementary.js';

const PARTIAL_SUMS = 256;

/**
 * y_i = mul(mul(x_i, r), w_i), r from 256 partial sums of squares.
 * @param x f32[n]
 * @param weight f32[n], or null for none
 * @param y f32[n]; may be x
 */
export function rmsNorm(x: Float32Array, weight: Float32Array | null, epsilon: number, y: Float32Array): void {
  const n = x.length;
  const partial = new Float32Array(PARTIAL_SUMS);
  for (let i = 0; i < n; i++) partial[i % PARTIAL_SUMS] = partial[i % PARTIAL_SUMS]! + mul(x[i]!, x[i]!);
  const r = rsqrt(add(mul(treeSum(partial), Math.fround(1 / n)), Math.fround(epsilon)));
  for (let i = 0; i < n; i++) {
    const scaled = mul(x[i]!, r);
    y[i] = weight ? scaled * weight[i]! : scaled;
  }
}

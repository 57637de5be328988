// What quantizing a row of weights did to it.

import { highNibbles, lowNibbles } from './codes';

/** f64: 0 the sum of squares of the weights so far, 1 that of their changes, 2 the square of the largest change. */
export const rowResults: usize = memory.data(8 * 3, 16);

/** Weights that are dequantized at once. */
const STEP: usize = 16;
/** f32[STEP] */
const dequantized: usize = memory.data(4 * 16, 16);

/**
 * Adds a row to the results: `(q - zeroPoint) * scale`, exact in f32, against the weight, in f64.
 * @param weights f32[nGroups * groupSize], @param qdata their codes, two a byte
 * @param groupSize a multiple of 16
 * @param scale bf16[nGroups], @param zeroPoint bf16[nGroups], integers 0..15
 */
export function addRowChanges(
  weights: usize,
  qdata: usize,
  groupSize: usize,
  nGroups: usize,
  scale: usize,
  zeroPoint: usize,
): void {
  let squares = f64x2.splat(0);
  let squaredChanges = f64x2.splat(0);
  let largest = f64x2.splat(0);
  for (let g: usize = 0; g < nGroups; g++) {
    const s = fromBf16(load<u16>(scale + 2 * g));
    const z = fromBf16(load<u16>(zeroPoint + 2 * g));
    for (const end = qdata + groupSize / 2; qdata < end; qdata += STEP / 2) {
      dequantize(v128.load64_zero(qdata), s, z);
      for (let at: usize = 0; at < 4 * STEP; at += 8, weights += 8) {
        const weight = f64x2.promote_low_f32x4(v128.load64_zero(weights));
        const change = f64x2.sub(f64x2.promote_low_f32x4(v128.load64_zero(dequantized + at)), weight);
        const squaredChange = f64x2.mul(change, change);
        squares = f64x2.add(squares, f64x2.mul(weight, weight));
        squaredChanges = f64x2.add(squaredChanges, squaredChange);
        largest = f64x2.pmax(largest, squaredChange);
      }
    }
  }
  store<f64>(rowResults, load<f64>(rowResults) + sum(squares));
  store<f64>(rowResults + 8, load<f64>(rowResults + 8) + sum(squaredChanges));
  const most = max(f64x2.extract_lane(largest, 0), f64x2.extract_lane(largest, 1));
  store<f64>(rowResults + 16, max(load<f64>(rowResults + 16), most));
}

/** A bf16 in all lanes; a subnormal counts as 0. */
function fromBf16(bits: u16): v128 {
  return i32x4.splat((bits & 0x7f80) === 0 ? 0 : (<i32>bits) << 16);
}

function dequantize(bytes: v128, scale: v128, zeroPoint: v128): void {
  const even = lowNibbles(bytes);
  const codes = v128.shuffle<i8>(even, highNibbles(bytes), 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  const low = i16x8.extend_low_i8x16_u(codes);
  const high = i16x8.extend_high_i8x16_u(codes);
  storeFour(0, i32x4.extend_low_i16x8_u(low), scale, zeroPoint);
  storeFour(16, i32x4.extend_high_i16x8_u(low), scale, zeroPoint);
  storeFour(32, i32x4.extend_low_i16x8_u(high), scale, zeroPoint);
  storeFour(48, i32x4.extend_high_i16x8_u(high), scale, zeroPoint);
}

function storeFour(at: usize, codes: v128, scale: v128, zeroPoint: v128): void {
  v128.store(dequantized + at, f32x4.mul(f32x4.sub(f32x4.convert_i32x4_s(codes), zeroPoint), scale));
}

function sum(pair: v128): f64 {
  return f64x2.extract_lane(pair, 0) + f64x2.extract_lane(pair, 1);
}

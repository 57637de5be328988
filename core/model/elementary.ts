// The arithmetic of DECODER.md: every product and every sum rounded once to f32, and the functions that are made of them.

import { bf16FromNumber, numberFromBf16 } from '../bf16.js';
import { roundTiesToEven } from '../exact.js';

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

export function floatFromBits(bits: number): number {
  u32[0] = bits;
  return f32[0]!;
}

export function bitsFromFloat(value: number): number {
  f32[0] = value;
  return u32[0]!;
}

/** RN32(a * b). */
export const mul = (a: number, b: number): number => Math.fround(a * b);
/** RN32(a + b). */
export const add = (a: number, b: number): number => Math.fround(a + b);
/** v rounded to bf16, ties to even. */
export const bf = (v: number): number => numberFromBf16(bf16FromNumber(v));

/** About 1 / x, relative error 9e-8; x positive and normal. */
export function rcp(x: number): number {
  let y = floatFromBits(0x7ef311c7 - bitsFromFloat(x));
  for (let i = 0; i < 3; i++) y = add(y, mul(y, add(1, -mul(x, y))));
  return y;
}

/** About 1 / sqrt(x), relative error 1.1e-7; x positive and normal. */
export function rsqrt(x: number): number {
  let y = floatFromBits(0x5f3759df - (bitsFromFloat(x) >>> 1));
  for (let i = 0; i < 4; i++) {
    const t = mul(mul(x, y), y);
    y = mul(y, add(1.5, -mul(0.5, t)));
  }
  return y;
}

const LOG2_E = floatFromBits(0x3fb8aa3b);
/** ln 2 in two parts, the first so short that its products with small integers are exact. */
const LN2_HIGH = floatFromBits(0x3f317000);
const LN2_LOW = floatFromBits(0x3805fdf4);
const EXP_COEFFICIENTS = [0x3ab60b61, 0x3c088889, 0x3d2aaaab, 0x3e2aaaab].map(floatFromBits).concat(0.5, 1, 1);

/** About e^x, relative error 2.5e-7, for x up to 80; 0 unless x > -87. */
export function exp(x: number): number {
  if (!(x > -87)) return 0;
  const n = roundTiesToEven(mul(x, LOG2_E));
  const r = add(add(x, -mul(n, LN2_HIGH)), -mul(n, LN2_LOW));
  let p = EXP_COEFFICIENTS[0]!;
  for (let i = 1; i < EXP_COEFFICIENTS.length; i++) p = add(mul(p, r), EXP_COEFFICIENTS[i]!);
  return mul(p, floatFromBits((n + 127) << 23));
}

/** -80..80, where exp is far from its limits. */
export const clampTo80 = (z: number): number => (z < -80 ? -80 : z > 80 ? 80 : z);

/** Adds up all of `slots`, a power of two of them, in place: for s = half, ..., 1, slot j takes slot j + s. */
export function treeSum(slots: Float32Array): number {
  for (let s = slots.length / 2; s >= 1; s /= 2) {
    for (let j = 0; j < s; j++) slots[j] = slots[j]! + slots[j + s]!;
  }
  return slots[0]!;
}

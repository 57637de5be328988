// bf16 as 16-bit patterns: the upper half of an f32.

import { requireF32 } from './argument_checks.js';

const f32 = new Float32Array(1);
const u32 = new Uint32Array(f32.buffer);

/** The bits of the bf16 nearest to `value`, ties to even. NaN gives a quiet NaN, overflow gives infinity. */
export function bf16FromNumber(value: number): number {
  f32[0] = value;
  return bf16FromF32Bits(u32[0]!);
}

/** The same from the bits of an f32: what an f32 result becomes when bf16 output is asked for. */
export function bf16FromF32Bits(bits: number): number {
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x0040;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** The exact value of a bf16 bit pattern. */
export function numberFromBf16(bits: number): number {
  u32[0] = bits << 16;
  return f32[0]!;
}

/** The value with which the operator computes: subnormals count as 0 (NUMERICS.md, Inputs). */
export function flushedNumberFromBf16(bits: number): number {
  return (bits & 0x7f80) === 0 ? 0 : numberFromBf16(bits);
}

/** Whether a bf16 bit pattern is neither Inf nor NaN. */
export function isFiniteBf16(bits: number): boolean {
  return (bits & 0x7f80) !== 0x7f80;
}

/**
 * Rounds f32 values to bf16 bits, ties to even.
 * @throws SamebitsError DTYPE_MISMATCH for any other array
 */
export function bf16FromF32Array(values: Float32Array): Uint16Array {
  requireF32(values, 'values');
  const out = new Uint16Array(values.length);
  if (out.length === 0) return out; // a detached array has no elements, and no view can be made of its buffer
  const source = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0; i < out.length; i++) out[i] = bf16FromF32Bits(source[i]!);
  return out;
}

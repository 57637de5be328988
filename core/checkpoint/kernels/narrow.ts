// What a source keeps of its groups, f32, back in 16 bits, and whether anything was lost on the way.

import { fromF16 } from './floats';

/** Bits of f32: magnitudes, the smallest normal f16, and the first number that f16 rounds to infinity. */
const MAGNITUDE: i32 = 0x7fffffff;
const SMALLEST_F16: i32 = 0x38800000;
const INFINITE_F16: i32 = 0x47800000;
const SMALLEST: i32 = 0x00800000;
const INFINITE: i32 = 0x7f800000;
const HALF: i32 = 0x3f000000;

/**
 * f64, of all calls since they were cleared: 0 the largest weight that codes can reach (twice it, with an offset), 1 how many
 * groups are not what they were, 2 how many are not finite.
 */
export const narrowed: usize = memory.data(8 * 4, 16);

/**
 * Arrays may be read 16 bytes past their ends.
 * @param scale f32[count], @param second f32[count]: zero points or offsets
 * @param top with an offset the largest code, counted from its center
 * @param scaleOut f16 or bf16[count], @param secondOut the same
 */
export function narrowGroups(
  scale: usize,
  second: usize,
  isOffset: bool,
  top: f64,
  isF16: bool,
  count: usize,
  scaleOut: usize,
  secondOut: usize,
): void {
  let reach = f64x2.splat(load<f64>(narrowed));
  let changed = i32x4.splat(0);
  let infinite = i32x4.splat(0);
  for (let g: usize = 0; g < count; g += 4) {
    let valid = i32x4.splat(-1);
    if (count - g < 4) valid = i32x4.lt_u(i32x4(0, 1, 2, 3), i32x4.splat(<i32>(count - g)));
    const s = v128.and(v128.load(scale + 4 * g), valid);
    const t = v128.and(v128.load(second + 4 * g), valid);
    const sBits = isF16 ? toF16(s) : toBf16(s);
    const tBits = isF16 ? toF16(t) : toBf16(t);
    const bits = i16x8.narrow_i32x4_u(sBits, tBits);
    v128.store64_lane(scaleOut + 2 * g, bits, 0);
    v128.store64_lane(secondOut + 2 * g, bits, 1);
    const a = isF16 ? fromF16(sBits) : i32x4.shl(sBits, 16);
    const b = isF16 ? fromF16(tBits) : i32x4.shl(tBits, 16);
    // Counted up: a lane that differs is -1.
    changed = i32x4.sub(changed, v128.or(f32x4.ne(a, s), f32x4.ne(b, t)));
    infinite = i32x4.sub(infinite, v128.or(isInfinite(a), isInfinite(b)));
    reach = f64x2.pmax(reach, reachOf(low(a), low(b), isOffset, top));
    reach = f64x2.pmax(reach, reachOf(high(a), high(b), isOffset, top));
  }
  store<f64>(narrowed, max(f64x2.extract_lane(reach, 0), f64x2.extract_lane(reach, 1)));
  store<f64>(narrowed + 8, load<f64>(narrowed + 8) + sumOf(changed));
  store<f64>(narrowed + 16, load<f64>(narrowed + 16) + sumOf(infinite));
}

function sumOf(counts: v128): f64 {
  const sum = i64x2.add(i64x2.extend_low_i32x4_u(counts), i64x2.extend_high_i32x4_u(counts));
  return <f64>(i64x2.extract_lane(sum, 0) + i64x2.extract_lane(sum, 1));
}

function low(values: v128): v128 {
  return f64x2.promote_low_f32x4(values);
}

function high(values: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<i64>(values, values, 1, 1));
}

function isInfinite(values: v128): v128 {
  return i32x4.ge_s(v128.and(values, i32x4.splat(MAGNITUDE)), i32x4.splat(INFINITE));
}

/** |s| * max(z, 15 - z); with an offset 2 * max(|s| * top, |o|). */
function reachOf(scale: v128, second: v128, isOffset: bool, top: f64): v128 {
  const size = f64x2.abs(scale);
  if (!isOffset) return f64x2.mul(size, f64x2.pmax(second, f64x2.sub(f64x2.splat(15), second)));
  const larger = f64x2.pmax(f64x2.mul(size, f64x2.splat(top)), f64x2.abs(second));
  return f64x2.add(larger, larger);
}

/** The nearest f16, ties to even, in the low half of each lane. */
function toF16(values: v128): v128 {
  const size = v128.and(values, i32x4.splat(MAGNITUDE));
  const odd = v128.and(i32x4.shr_u(size, 13), i32x4.splat(1));
  const rounded = i32x4.add(i32x4.add(size, i32x4.splat(0xfff)), odd);
  const normal = i32x4.shr_u(i32x4.sub(rounded, i32x4.splat(0x38000000)), 13);
  // Between one half and 1 an f32 counts in steps of 2^-24, as subnormals do.
  const subnormal = i32x4.sub(f32x4.add(size, i32x4.splat(HALF)), i32x4.splat(HALF));
  const finite = v128.bitselect(subnormal, normal, i32x4.lt_s(size, i32x4.splat(SMALLEST_F16)));
  // What rounds up to 65536 has the bits of infinity by itself.
  const magnitude = v128.bitselect(i32x4.splat(0x7c00), finite, i32x4.ge_s(size, i32x4.splat(INFINITE_F16)));
  return v128.or(magnitude, i32x4.shr_u(v128.andnot(values, i32x4.splat(MAGNITUDE)), 16));
}

/** The nearest bf16, ties to even. A subnormal counts as 0 in the operator, so it is stored as 0. */
function toBf16(values: v128): v128 {
  const size = v128.and(values, i32x4.splat(MAGNITUDE));
  const odd = v128.and(i32x4.shr_u(values, 16), i32x4.splat(1));
  const rounded = i32x4.shr_u(i32x4.add(i32x4.add(values, i32x4.splat(0x7fff)), odd), 16);
  // A rounded NaN could become a number.
  const safe = v128.bitselect(i32x4.splat(0x7f80), rounded, i32x4.ge_s(size, i32x4.splat(INFINITE)));
  return v128.andnot(safe, i32x4.lt_s(size, i32x4.splat(SMALLEST)));
}

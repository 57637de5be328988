// Scales and zero points of groups rounded to the bf16 pairs of the operator, and what that did to the weights.

import { highNibbles, lowNibbles } from './codes';

/** The most groups of one call: what is kept of them stays in the first-level cache. */
export const CHUNK_GROUPS: i32 = 512;

const MAGNITUDE: i32 = 0x7fffffff;
// Magnitudes as f32 bits compare as integers. The smallest that does not round to a subnormal bf16, the largest that does not
// round to infinity, and 65536, the largest zero point.
const SMALLEST: i32 = 0x007f8000;
const LARGEST: i32 = 0x7f7f7fff;
const MAX_ZERO_POINT: i32 = 0x47800000;
const NEARLY_1: f64 = 1 - 1 / 1048576.0;

// Of the groups that were rounded last, f64 each: what the source says, `scale * q + offset`, and what became of it,
// `(scale - slope) * q + (offset - shift)`.
export const scales: usize = memory.data(8 * 512, 16);
export const offsets: usize = memory.data(8 * 512, 16);
export const slopes: usize = memory.data(8 * 512, 16);
export const shifts: usize = memory.data(8 * 512, 16);
/** u32: groups that are no scale and zero point for the operator, and were rounded to 0. */
export const specials: usize = memory.data(4 * 512, 16);

/**
 * f64: 0 the largest weight that codes can reach so far; 1 how many groups of this call changed whatever their codes, 2 how
 * many are special; 3 the sum of squares of the source's weights so far, 4 that of the changes, 5 the largest change.
 */
export const results: usize = memory.data(8 * 8, 16);

/** i32 pairs: the sum of a group's codes, and the sum of their squares. */
const moments: usize = memory.data(8 * 512, 16);

/**
 * Rounds up to 512 groups. Arrays may be read and written up to 16 bytes past their ends.
 * @param scale f32[count]
 * @param second f32[count]: zero points, `w = (q - second) * scale`; or offsets, `w = (q - middle) * scale + second`
 * @param scaleOut bf16[count], @param zeroPointOut bf16[count]
 */
export function roundGroups(
  scale: usize,
  second: usize,
  isOffset: bool,
  middle: f64,
  count: usize,
  scaleOut: usize,
  zeroPointOut: usize,
): void {
  let special: usize = 0;
  let changed = i64x2.splat(0);
  for (let g: usize = 0; g < count; g += 4) {
    let s = v128.load(scale + 4 * g);
    let t = v128.load(second + 4 * g);
    let valid = i32x4.splat(-1);
    if (count - g < 4) {
      valid = i32x4.lt_u(i32x4(0, 1, 2, 3), i32x4.splat(<i32>(count - g)));
      s = v128.and(s, valid);
      t = v128.and(t, valid);
    }
    const scaleLow = low(s);
    const scaleHigh = high(s);
    const offsetLow = offsetOf(scaleLow, low(t), isOffset, middle);
    const offsetHigh = offsetOf(scaleHigh, high(t), isOffset, middle);
    let z = isOffset ? v128.and(zeroPointOf(scaleLow, offsetLow, scaleHigh, offsetHigh), valid) : t;

    const sSize = v128.and(s, i32x4.splat(MAGNITUDE));
    const zSize = v128.and(z, i32x4.splat(MAGNITUDE));
    const isBadScale = v128.or(i32x4.lt_s(sSize, i32x4.splat(SMALLEST)), i32x4.gt_s(sSize, i32x4.splat(LARGEST)));
    const isSpecial = v128.and(v128.or(isBadScale, i32x4.gt_s(zSize, i32x4.splat(MAX_ZERO_POINT))), valid);
    if (v128.any_true(isSpecial)) special = keepSpecials(i32x4.bitmask(isSpecial), g, special);
    s = roundToBf16(v128.andnot(s, isSpecial));
    // A subnormal counts as 0 in the operator, so it is stored as 0.
    z = roundToBf16(v128.andnot(z, v128.or(isSpecial, i32x4.lt_s(zSize, i32x4.splat(SMALLEST)))));
    const bits = i16x8.narrow_i32x4_u(i32x4.shr_u(s, 16), i32x4.shr_u(z, 16));
    v128.store64_lane(scaleOut + 2 * g, bits, 0);
    v128.store64_lane(zeroPointOut + 2 * g, bits, 1);

    changed = i64x2.sub(changed, keepChanges(g, scaleLow, offsetLow, low(s), low(z)));
    changed = i64x2.sub(changed, keepChanges(g + 2, scaleHigh, offsetHigh, high(s), high(z)));
    if (mayReachFurther(s, z)) {
      keepReach(low(s), low(z));
      keepReach(high(s), high(z));
    }
  }
  store<f64>(results + 8, <f64>(i64x2.extract_lane(changed, 0) + i64x2.extract_lane(changed, 1)));
  store<f64>(results + 16, special);
}

function low(values: v128): v128 {
  return f64x2.promote_low_f32x4(values);
}

function high(values: v128): v128 {
  return f64x2.promote_low_f32x4(v128.shuffle<i64>(values, values, 1, 1));
}

/** Exact: a product of two f32 fits f64. */
function offsetOf(scale: v128, second: v128, isOffset: bool, middle: f64): v128 {
  if (isOffset) return f64x2.sub(second, f64x2.mul(f64x2.splat(middle), scale));
  return f64x2.neg(f64x2.mul(second, scale));
}

function zeroPointOf(scaleLow: v128, offsetLow: v128, scaleHigh: v128, offsetHigh: v128): v128 {
  const zeroLow = f32x4.demote_f64x2_zero(f64x2.div(f64x2.neg(offsetLow), scaleLow));
  const zeroHigh = f32x4.demote_f64x2_zero(f64x2.div(f64x2.neg(offsetHigh), scaleHigh));
  return v128.shuffle<i64>(zeroLow, zeroHigh, 0, 2);
}

function keepSpecials(mask: i32, g: usize, count: usize): usize {
  for (let lane: usize = 0; lane < 4; lane++) {
    if ((mask >> <i32>lane) & 1) store<u32>(specials + 4 * count++, g + lane);
  }
  return count;
}

/** f32 to the nearest bf16, ties to even, still as f32. */
function roundToBf16(bits: v128): v128 {
  const odd = v128.and(i32x4.shr_u(bits, 16), i32x4.splat(1));
  return v128.and(i32x4.add(i32x4.add(bits, i32x4.splat(0x7fff)), odd), i32x4.splat(0xffff0000));
}

/** What rounding took of two groups; gives -1 in the lanes of those that changed. */
function keepChanges(g: usize, scale: v128, offset: v128, rounded: v128, zeroPoint: v128): v128 {
  const slope = f64x2.sub(scale, rounded);
  const shift = f64x2.add(offset, f64x2.mul(zeroPoint, rounded));
  v128.store(scales + 8 * g, scale);
  v128.store(offsets + 8 * g, offset);
  v128.store(slopes + 8 * g, slope);
  v128.store(shifts + 8 * g, shift);
  const none = f64x2.splat(0);
  return v128.or(f64x2.ne(slope, none), f64x2.ne(shift, none));
}

/** |s| * max(z, 15 - z) is the largest weight that codes can reach; in f32 it errs by less than 2^-20 of itself. */
function mayReachFurther(scale: v128, zeroPoint: v128): bool {
  const reach = f32x4.mul(f32x4.abs(scale), f32x4.pmax(zeroPoint, f32x4.sub(f32x4.splat(15), zeroPoint)));
  return v128.any_true(f32x4.ge(reach, f32x4.splat(<f32>(load<f64>(results) * NEARLY_1))));
}

function keepReach(scale: v128, zeroPoint: v128): void {
  const reach = f64x2.mul(f64x2.abs(scale), f64x2.pmax(zeroPoint, f64x2.sub(f64x2.splat(15), zeroPoint)));
  const larger = max(f64x2.extract_lane(reach, 0), f64x2.extract_lane(reach, 1));
  store<f64>(results, max(larger, load<f64>(results)));
}

/**
 * Adds what the groups that were rounded last contribute to the sums.
 * @param codes their qdata, @param size bytes of a group, a multiple of 8
 */
export function addChanges(codes: usize, size: usize, count: usize): void {
  sumCodes(codes, size, count);
  const weights = f64x2.splat(2 * size);
  let squares = f64x2.splat(0);
  let changes = f64x2.splat(0);
  let largest = load<f64>(results + 40);
  // Behind an odd group at the end stands one that was rounded from zeros.
  for (let g: usize = 0; g < count; g += 2) {
    const pair = v128.load(moments + 8 * g);
    const sums = f64x2.convert_low_i32x4_s(v128.shuffle<i32>(pair, pair, 0, 2, 0, 2));
    const squareSums = f64x2.convert_low_i32x4_s(v128.shuffle<i32>(pair, pair, 1, 3, 1, 3));
    const scale = v128.load(scales + 8 * g);
    const offset = v128.load(offsets + 8 * g);
    const slope = v128.load(slopes + 8 * g);
    const shift = v128.load(shifts + 8 * g);
    squares = f64x2.add(squares, sumOfSquares(scale, offset, sums, squareSums, weights));
    changes = f64x2.add(changes, sumOfSquares(slope, shift, sums, squareSums, weights));
    // The codes themselves are needed only where a group could hold the largest change.
    const top = f64x2.abs(f64x2.add(f64x2.mul(f64x2.splat(15), slope), shift));
    const ends = f64x2.pmax(f64x2.abs(shift), top);
    if (!v128.any_true(f64x2.gt(ends, f64x2.splat(largest)))) continue;
    largest = max(largest, largestOf(codes, size, g));
    if (count - g > 1) largest = max(largest, largestOf(codes, size, g + 1));
  }
  store<f64>(results + 40, largest);
  add(results + 24, squares);
  add(results + 32, changes);
}

/** Of all `a * q + b` in a group, from the sums of q and of its squares. */
function sumOfSquares(a: v128, b: v128, sum: v128, squareSum: v128, weights: v128): v128 {
  const twice = f64x2.mul(f64x2.add(b, b), sum);
  const linear = f64x2.mul(a, f64x2.add(f64x2.mul(a, squareSum), twice));
  return f64x2.add(linear, f64x2.mul(b, f64x2.mul(weights, b)));
}

function add(to: usize, pair: v128): void {
  store<f64>(to, load<f64>(to) + f64x2.extract_lane(pair, 0) + f64x2.extract_lane(pair, 1));
}

/** A change is linear in the code, so that it is largest at the largest or smallest code. */
function largestOf(codes: usize, size: usize, g: usize): f64 {
  const first = codes + g * size;
  let least: usize = 15;
  let most: usize = 0;
  for (let at = first; at < first + size; at++) {
    const byte = <usize>load<u8>(at);
    least = min(least, min(byte & 15, byte >> 4));
    most = max(most, max(byte & 15, byte >> 4));
  }
  const slope = load<f64>(slopes + 8 * g);
  const shift = load<f64>(shifts + 8 * g);
  return max(abs(slope * <f64>least + shift), abs(slope * <f64>most + shift));
}

function sumCodes(codes: usize, size: usize, count: usize): void {
  for (let g: usize = 0; g < count; g++) {
    let sums = i32x4.splat(0);
    let squares = i32x4.splat(0);
    const end = codes + size;
    for (; codes + 64 <= end; codes += 64) {
      const a = v128.load(codes);
      const b = v128.load(codes + 16);
      const c = v128.load(codes + 32);
      const d = v128.load(codes + 48);
      const four = i8x16.add(i8x16.add(sumsOf(a), sumsOf(b)), i8x16.add(sumsOf(c), sumsOf(d)));
      const fourSquares = i16x8.add(i16x8.add(squaresOf(a), squaresOf(b)), i16x8.add(squaresOf(c), squaresOf(d)));
      sums = i32x4.add(sums, i32x4.extadd_pairwise_i16x8_s(i16x8.extadd_pairwise_i8x16_u(four)));
      squares = i32x4.add(squares, i32x4.extadd_pairwise_i16x8_s(fourSquares));
    }
    while (codes < end) {
      const isHalf = end - codes < 16;
      const bytes = isHalf ? v128.load64_zero(codes) : v128.load(codes);
      sums = i32x4.add(sums, i32x4.extadd_pairwise_i16x8_s(i16x8.extadd_pairwise_i8x16_u(sumsOf(bytes))));
      squares = i32x4.add(squares, i32x4.extadd_pairwise_i16x8_s(squaresOf(bytes)));
      codes += isHalf ? 8 : 16;
    }
    const halves = i32x4.add(
      v128.shuffle<i32>(sums, squares, 0, 4, 1, 5),
      v128.shuffle<i32>(sums, squares, 2, 6, 3, 7),
    );
    v128.store64_lane(moments + 8 * g, i32x4.add(halves, v128.shuffle<i64>(halves, halves, 1, 1)), 0);
  }
}

/** Of each byte the two codes, u8x16. */
function sumsOf(bytes: v128): v128 {
  return i8x16.add(lowNibbles(bytes), highNibbles(bytes));
}

/** Of each two bytes the squares of four codes, u16x8. */
function squaresOf(bytes: v128): v128 {
  const squares = i8x16(0, 1, 4, 9, 16, 25, 36, 49, 64, 81, 100, 121, <i8>144, <i8>169, <i8>196, <i8>225);
  const low = v128.swizzle(squares, lowNibbles(bytes));
  const high = v128.swizzle(squares, highNibbles(bytes));
  return i16x8.add(i16x8.extadd_pairwise_i8x16_u(low), i16x8.extadd_pairwise_i8x16_u(high));
}

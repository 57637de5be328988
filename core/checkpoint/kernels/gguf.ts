// GGUF's blocks taken apart: codes to qdata's order, and the two f32 numbers of every group of 32.

import { highNibbles, lowNibbles, pairs } from './codes';
import { fromF16 } from './floats';

const Q4_0_BYTES: usize = 18;
const Q4_1_BYTES: usize = 20;
const Q4_K_BYTES: usize = 144;

/** 18 bytes: d f16, then 16 bytes with code j in the low and code j + 16 in the high nibble. `w = (q - 8) * d`. */
export function unpackQ40(source: usize, blocks: usize, qdata: usize, scale: usize, zeroPoint: usize): void {
  for (let i: usize = 0; i < blocks; i++, source += Q4_0_BYTES) {
    splitHalves(source + 2, qdata + 16 * i);
    store<u32>(scale + 4 * i, load<u16>(source));
    store<f32>(zeroPoint + 4 * i, 8);
  }
  widenInPlace(scale, blocks);
}

/** 20 bytes: d and m f16, then codes as in Q4_0. `w = q * d + m`. */
export function unpackQ41(source: usize, blocks: usize, qdata: usize, scale: usize, offset: usize): void {
  for (let i: usize = 0; i < blocks; i++, source += Q4_1_BYTES) {
    splitHalves(source + 4, qdata + 16 * i);
    store<u32>(scale + 4 * i, load<u16>(source));
    store<u32>(offset + 4 * i, load<u16>(source + 2));
  }
  widenInPlace(scale, blocks);
  widenInPlace(offset, blocks);
}

/**
 * 144 bytes for 256 codes: d and dmin f16; 6-bit scales and minimums of eight groups in 12 bytes; four chunks of 32 bytes,
 * each with one group in its low and the next in its high nibbles. `w = (d * sc) * q - dmin * m`.
 */
export function unpackQ4K(source: usize, blocks: usize, qdata: usize, scale: usize, offset: usize): void {
  for (let i: usize = 0; i < blocks; i++, source += Q4_K_BYTES, qdata += 128, scale += 32, offset += 32) {
    for (let chunk: usize = 0; chunk < 4; chunk++) splitGroups(source + 16 + 32 * chunk, qdata + 32 * chunk);
    const sixBits = sixBitsOf(v128.load(source + 4));
    const head = fromF16(i32x4.extend_low_i16x8_u(v128.load32_zero(source)));
    const d = f32x4.splat(f32x4.extract_lane(head, 0));
    const dmin = f32x4.neg(f32x4.splat(f32x4.extract_lane(head, 1)));
    storeMultiples(i16x8.extend_low_i8x16_u(sixBits), d, scale);
    storeMultiples(i16x8.extend_high_i8x16_u(sixBits), dmin, offset);
  }
}

/** The same, and instead of f32 numbers of every group its six-bit codes u8 and what they multiply: d and -dmin, f16. */
export function unpackNestedQ4K(
  source: usize,
  blocks: usize,
  qdata: usize,
  scale: usize,
  offset: usize,
  scaleStep: usize,
  offsetStep: usize,
): void {
  for (let i: usize = 0; i < blocks; i++, source += Q4_K_BYTES, qdata += 128) {
    for (let chunk: usize = 0; chunk < 4; chunk++) splitGroups(source + 16 + 32 * chunk, qdata + 32 * chunk);
    const sixBits = sixBitsOf(v128.load(source + 4));
    v128.store64_lane(scale + 8 * i, sixBits, 0);
    v128.store64_lane(offset + 8 * i, sixBits, 1);
    store<u16>(scaleStep + 2 * i, load<u16>(source));
    store<u16>(offsetStep + 2 * i, load<u16>(source + 2) ^ 0x8000);
  }
}

/** f16 bits in the low halves of words to f32. */
function widenInPlace(words: usize, count: usize): void {
  for (let i: usize = 0; i < count; i += 4) v128.store(words + 4 * i, fromF16(v128.load(words + 4 * i)));
}

/** 16 bytes: low nibbles are the first half of a group, high nibbles the second. */
function splitHalves(from: usize, to: usize): void {
  const bytes = v128.load(from);
  v128.store(to, pairs(lowNibbles(bytes), highNibbles(bytes)));
}

/** 32 bytes: low nibbles are one group, high nibbles the next. */
function splitGroups(from: usize, to: usize): void {
  const first = v128.load(from);
  const second = v128.load(from + 16);
  v128.store(to, pairs(lowNibbles(first), lowNibbles(second)));
  v128.store(to + 16, pairs(highNibbles(first), highNibbles(second)));
}

/**
 * Of three times four bytes a, b, c: eight scales, then eight minimums. The first four of each are six bits of a and b; the
 * others are a nibble of c below the two top bits of a and b.
 */
function sixBitsOf(abc: v128): v128 {
  const low = v128.shuffle<i8>(abc, abc, 0, 1, 2, 3, 8, 9, 10, 11, 4, 5, 6, 7, 8, 9, 10, 11);
  const high = v128.shuffle<i8>(abc, abc, 0, 1, 2, 3, 0, 1, 2, 3, 4, 5, 6, 7, 4, 5, 6, 7);
  const lowBits = v128.and(
    v128.bitselect(i8x16.shr_u(low, 4), low, i32x4(0, 0, 0, -1)),
    i32x4(0x3f3f3f3f, 0x0f0f0f0f, 0x3f3f3f3f, 0x0f0f0f0f),
  );
  return v128.or(lowBits, v128.and(i8x16.shr_u(high, 2), i32x4(0, 0x30303030, 0, 0x30303030)));
}

function storeMultiples(multiples: v128, step: v128, to: usize): void {
  v128.store(to, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(multiples)), step));
  v128.store(to + 16, f32x4.mul(f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(multiples)), step));
}

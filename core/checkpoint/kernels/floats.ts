// f16 and bf16 widened to f32, exactly. Both may read 14 and write 28 bytes past their ends.

/** Bits of an f32. */
const TWO_TO_112 = 0x77800000;

export function widenF16(source: usize, count: usize, out: usize): void {
  for (let i: usize = 0; i < count; i += 8) {
    const halves = v128.load(source + 2 * i);
    v128.store(out + 4 * i, fromF16(i32x4.extend_low_i16x8_u(halves)));
    v128.store(out + 4 * i + 16, fromF16(i32x4.extend_high_i16x8_u(halves)));
  }
}

export function widenBf16(source: usize, count: usize, out: usize): void {
  for (let i: usize = 0; i < count; i += 8) {
    const halves = v128.load(source + 2 * i);
    v128.store(out + 4 * i, i32x4.shl(i32x4.extend_low_i16x8_u(halves), 16));
    v128.store(out + 4 * i + 16, i32x4.shl(i32x4.extend_high_i16x8_u(halves), 16));
  }
}

/** f32x4 of the f16 bits in the low half of each lane. NaN keeps its sign and payload. */
export function fromF16(bits: v128): v128 {
  const magnitude = v128.and(bits, i32x4.splat(0x7fff));
  // As bits of an f32 the exponent's bias is 112 too small, which a product makes good, of subnormals too.
  const value = f32x4.mul(i32x4.shl(magnitude, 13), i32x4.splat(TWO_TO_112));
  const top = v128.and(i32x4.gt_s(magnitude, i32x4.splat(0x7bff)), i32x4.splat(0x7f800000));
  const sign = i32x4.shl(v128.and(bits, i32x4.splat(0x8000)), 16);
  return v128.or(v128.or(value, top), sign);
}

/**
 * @param units f32[count], what `least` and `most` are multiples of; 0 where they are multiples of 1
 * @returns the index of the first of f32[count] below `least` or above `most`, or -1; NaN is neither
 */
export function firstOutside(values: usize, units: usize, count: usize, least: f64, most: f64): isize {
  for (let i: usize = 0; i < count; i++) {
    const unit: f64 = units === 0 ? 1 : <f64>abs(load<f32>(units + 4 * i));
    const value = <f64>load<f32>(values + 4 * i);
    if (value < least * unit || value > most * unit) return i;
  }
  return -1;
}

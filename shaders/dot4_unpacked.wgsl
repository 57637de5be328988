// dot4 in plain i32 arithmetic, for browsers without packed_4x8_integer_dot_product. Prepended to int4_plain_mm.wgsl,
// like its twin dot4_packed.wgsl: the same integers, so the same bits.

// Math: the sum of four products of signed bytes; exact.
fn dot4(a: u32, b: u32) -> i32 {
  let p = bitcast<i32>(a);
  let q = bitcast<i32>(b);
  // extractBits of an i32 extends the sign.
  return extractBits(p, 0u, 8u) * extractBits(q, 0u, 8u)
    + extractBits(p, 8u, 8u) * extractBits(q, 8u, 8u)
    + extractBits(p, 16u, 8u) * extractBits(q, 16u, 8u)
    + extractBits(p, 24u, 8u) * extractBits(q, 24u, 8u);
}

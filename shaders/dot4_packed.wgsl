// dot4 on the packed integer dot product. Prepended to int4_plain_mm.wgsl, like its twin dot4_unpacked.wgsl: the same
// integers, so the same bits.
requires packed_4x8_integer_dot_product;

// Math: the sum of four products of signed bytes; exact.
fn dot4(a: u32, b: u32) -> i32 {
  return dot4I8Packed(a, b);
}

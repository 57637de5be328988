// The arithmetic of DECODER.md: sums and products that are rounded once each, and the functions made of them. Stands
// before every kernel of the decoder; each has a uniform `p` with a member `zero`, which holds 0.
//
// No compiler sees through a fence, so none can fuse a product with the sum that takes it, or add in another order.

fn fence(v: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(v) | p.zero);
}

fn fence4(v: vec4<f32>) -> vec4<f32> {
  return bitcast<vec4<f32>>(bitcast<vec4<u32>>(v) | vec4(p.zero));
}

fn mul(a: f32, b: f32) -> f32 {
  return fence(a * b);
}

fn add(a: f32, b: f32) -> f32 {
  return fence(a + b);
}

/// 1 / x of a positive, normal x.
fn rcp(x: f32) -> f32 {
  var y = bitcast<f32>(0x7ef311c7u - bitcast<u32>(x));
  for (var i = 0; i < 3; i++) {
    y = add(y, mul(y, add(1.0, -mul(x, y))));
  }
  return y;
}

/// 1 / sqrt(x) of a positive, normal x.
fn rsqrt(x: f32) -> f32 {
  var y = bitcast<f32>(0x5f3759dfu - (bitcast<u32>(x) >> 1u));
  for (var i = 0; i < 4; i++) {
    let t = mul(mul(x, y), y);
    y = mul(y, add(1.5, -mul(0.5, t)));
  }
  return y;
}

/// e^x of x up to 80; 0 unless x > -87.
fn exponential(x: f32) -> f32 {
  let n = round(mul(x, bitcast<f32>(0x3fb8aa3bu)));
  let r = add(add(x, -mul(n, bitcast<f32>(0x3f317000u))), -mul(n, bitcast<f32>(0x3805fdf4u)));
  var y = bitcast<f32>(0x3ab60b61u);
  y = add(mul(y, r), bitcast<f32>(0x3c088889u));
  y = add(mul(y, r), bitcast<f32>(0x3d2aaaabu));
  y = add(mul(y, r), bitcast<f32>(0x3e2aaaabu));
  y = add(mul(y, r), 0.5);
  y = add(mul(y, r), 1.0);
  y = add(mul(y, r), 1.0);
  return select(0.0, mul(y, bitcast<f32>(u32(i32(n) + 127) << 23u)), x > -87.0);
}

/// The bits of the bf16 nearest to a finite v, ties to even.
fn bf16_bits(v: f32) -> u32 {
  let bits = bitcast<u32>(v);
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

/// Two bf16 in a word, the first in its low half.
fn packed_bf16(first: f32, second: f32) -> u32 {
  return bf16_bits(first) | (bf16_bits(second) << 16u);
}

fn low_bf16(word: u32) -> f32 {
  return bitcast<f32>(word << 16u);
}

fn high_bf16(word: u32) -> f32 {
  return bitcast<f32>(word & 0xffff0000u);
}

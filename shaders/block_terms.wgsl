// What a block of weights times a block of x adds to T, for each form of a weight. Stands before int4_plain_mm.wgsl, whose
// header says what is read, what is fenced and why.
//
// A lane keeps T * 2^32 as two integers, hi * 2^18 + lo.

/// hi counts units of 2^-14, lo what is left of them in units of 2^-32.
const HI_SCALE = 16384.0;
const LO_SCALE = 262144.0;
/// 1.5 * 2^23: adding it rounds to an integer, ties to even, and leaves that integer in the low bits; |v| < 2^22.
const ROUNDER = 12582912.0;
const ROUNDER_BITS = 0x4b400000;
const LOW_NIBBLES = vec4(0x0f0f0f0fu);
/// Blocks of the 256 weights that share steps.
const STEP_BLOCKS = 8u;
/// From the exponent of an f16 to that of the f32, and the least f16 that is not subnormal.
const F16_BIAS = 112u << 23u;
const F16_MIN_NORMAL = 0.00006103515625;

/// The form of the weights of the dispatch: whether codes have an offset instead of a zero point, whether scales and these
/// are codes themselves, and whether halves are f16, as they are where NESTED.
override HAS_OFFSET: bool = false;
override NESTED: bool = false;
override F16: bool = false;

/// What d_b is multiplied by: HI_SCALE, and 2^-E_w where scales come without it.
fn unit_of(weight_exponent: i32) -> f32 {
  if F16 {
    return HI_SCALE * bitcast<f32>(u32(127 - weight_exponent) << 23u);
  }
  return HI_SCALE;
}

/// The bf16 or f16 in the upper half of `bits`; the lower half is 0.
fn half_value(bits: u32) -> f32 {
  if !F16 {
    return bitcast<f32>(bits);
  }
  let magnitude = bitcast<f32>(((bits & 0x7fff0000u) >> 3u) + F16_BIAS);
  // With the leading one that a subnormal lacks, v reads as v / 2 + 2^-15, less than any other; both sums are then exact.
  let value = magnitude + min(magnitude - F16_MIN_NORMAL, 0.0);
  return bitcast<f32>(bitcast<u32>(value) | (bits & 0x80000000u));
}

/// Adds RNE(c * 2^32) to T = hi * 2^18 + lo; `c` is HI_SCALE times c.
fn add_term(total: vec2<i32>, c: f32) -> vec2<i32> {
  let hi = fence(c + ROUNDER);
  let lo = (c - (hi - ROUNDER)) * LO_SCALE + ROUNDER;
  return total + vec2(bitcast<i32>(hi) - ROUNDER_BITS, bitcast<i32>(lo) - ROUNDER_BITS);
}

/// Adds a run. `scale` is that of its block of x; `word` holds s and z or o of its group or their steps, `codes` how many of
/// these they are in its low bytes.
fn add_run(total: vec2<i32>, dp: i32, scale: f32, asum: f32, word: u32, codes: u32, center: f32) -> vec2<i32> {
  var s = half_value(word << 16u);
  let second = half_value(word & 0xffff0000u);
  let s_code = f32(codes & 0xffu);
  let second_code = f32((codes >> 8u) & 0xffu);
  if HAS_OFFSET {
    var centered = f32(dp) - center * asum;
    var sum = asum;
    if NESTED {
      centered = fence(s_code * centered);
      sum = fence(second_code * asum);
    }
    return add_term(add_term(total, fence(fence(s * scale) * centered)), fence(fence(second * scale) * sum));
  }
  var zeros = second * asum;
  if NESTED {
    s = fence(s_code * s);
    zeros = fence(second_code * second * asum);
  }
  let t = fence(f32(dp) - zeros);
  return add_term(total, fence(fence(s * scale) * t));
}

/// The dot product of 16 consecutive k: two words of low and of high nibbles, and their activations.
fn dot16(low: vec2<u32>, high: vec2<u32>, even: vec2<u32>, odd: vec2<u32>) -> i32 {
  return dot4(low.x, even.x) + dot4(high.x, odd.x) + dot4(low.y, even.y) + dot4(high.y, odd.y);
}

/// By how much the codes of a block's only group are to be shifted.
fn codes_shift(block: u32, group_shift: u32) -> u32 {
  return 16u * (((block % STEP_BLOCKS) >> group_shift) & 1u);
}

/// Adds a block of weights times a block of x; `words` are those of the weights' groups, `shift` is their codes_shift.
fn add_block(total: vec2<i32>, w: vec4<u32>, words: vec2<u32>, x: Block, shift: u32, center: f32) -> vec2<i32> {
  let low = w & LOW_NIBBLES;
  let high = (w >> vec4(4u)) & LOW_NIBBLES;
  let first = dot16(low.xy, high.xy, x.codes.even.xy, x.codes.odd.xy);
  let last = dot16(low.zw, high.zw, x.codes.even.zw, x.codes.odd.zw);
  let word = select(words.x, words.y, NESTED);
  if RUN_SIZE == BLOCK_SIZE {
    return add_run(total, first + last, x.scale, x.sums.x, word, words.x >> shift, center);
  }
  let half = add_run(total, first, x.scale, x.sums.x, word, words.x, center);
  return add_run(half, last, x.scale, x.sums.y, words.y, words.x >> 16u, center);
}

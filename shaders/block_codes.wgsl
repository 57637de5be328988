// How a block of 32 bf16 activations becomes int8 codes and a scale word. Stands before quantize_activations.wgsl, and
// before int4_plain_mm.wgsl, which does the same to its own outputs.
//
// The scale word of a block is bits(P(m_b)) + (e_b << 23) as an integer, P(m) = RN32(RN32(m / 128) * RN32(1 / 127)): what
// NUMERICS.md section 1 calls d_b, before it is known how the block compares with its row. It grows with the magnitude, and
// P(255) < 2 P(128), so the largest word of a row gives E_x, and d_b = float of the bits word - (E_x << 23).

const BLOCK_SIZE = 32u;
/// Of a block of zeros: less than the word of any other block, and still so relative to any row.
const ZERO_BLOCK = -1073741824;
/// Of a block with Inf or NaN.
const NAN_BLOCK = 0x7fffffff;
/// Added to a word, makes it unsigned in the same order, and that of a block of zeros 0. The largest of a row is kept so.
const WORD_BIAS = 0x40000000u;
/// The least bf16 magnitude that is not subnormal, and the least that is not finite.
const MIN_NORMAL = 0x0080u;
const BF16_INFINITY = 0x7f80u;

/// RN32(1 / 127). Divisions of f32 may be off by a few units in the last place, so there are none.
const INV_127 = 0.007874015718698502;

/// Magnitudes of bf16 compare as integers.
fn magnitude_of(value: u32) -> u32 {
  return value & 0x7fffu;
}

fn exponent_of(magnitude: u32) -> i32 {
  return i32(magnitude >> 7u) - 127;
}

fn significand_of(magnitude: u32) -> u32 {
  return 128u + (magnitude & 127u);
}

/// The scale word of a block whose largest magnitude is block_max.
fn scale_word_of(block_max: u32) -> i32 {
  if block_max >= BF16_INFINITY {
    return NAN_BLOCK;
  }
  if block_max < MIN_NORMAL {
    return ZERO_BLOCK;
  }
  // The only rounding is that of the product; nothing consumes it as a float here.
  return bitcast<i32>(f32(significand_of(block_max)) * 0.0078125 * INV_127) + (exponent_of(block_max) << 23u);
}

/// About 1 / m_b, for quantize_code.
fn inverse_of(block_max: u32) -> f32 {
  return 1.0 / f32(significand_of(block_max));
}

/// RNE(127 * value / block_max) of a bf16 value: its quotient is m_i * 127 / (m_b * 2^t), t = e_b - e_i. Blocks of zeros, and
/// those with Inf or NaN, have codes of 0.
fn quantize_code(value: u32, block_max: u32, inverse: f32) -> i32 {
  let magnitude = magnitude_of(value);
  let shift = u32(exponent_of(block_max) - exponent_of(magnitude));
  if magnitude < MIN_NORMAL || shift > 16u || block_max >= BF16_INFINITY {
    return 0;
  }
  let numerator = 127 * i32(significand_of(magnitude));
  let denominator = i32(significand_of(block_max) << shift);
  // At most 127, so the guess errs by less than 2^-12. It can be one off only beside an integer, where the rest, then below
  // 0 or above the denominator, rounds to that same integer.
  let floored = i32(f32(numerator) * inverse * bitcast<f32>((127u - shift) << 23u));
  let rest = numerator - floored * denominator;
  let twice_rest = 2 * rest;
  let rounds_up = twice_rest > denominator || (twice_rest == denominator && (floored & 1) == 1);
  let code = floored + i32(rounds_up);
  return select(code, -code, (value & 0x8000u) != 0u);
}

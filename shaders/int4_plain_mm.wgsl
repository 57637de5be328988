// int4_plain_mm: y = x · weightᵀ from int8 codes and 4-bit weights, with the bits that NUMERICS.md defines.
// dot4 comes from dot4_packed.wgsl or dot4_unpacked.wgsl, the sums over lanes from reduce_subgroup.wgsl or
// reduce_workgroup.wgsl; int4_plain_mm_linear.wgsl follows, once for each linear that shares the dispatch.
//
// Math:     per run, dp = sum of q * a, t = dp - z * asum, c = (s * d_b) * t; y = 2^(E_w + E_x) * sum of c, summed as
//           integers of 2^-32 and rounded once.
// Layout:   qdata u8[N, K/2], a block of 32 codes is one vec4<u32>, even k in the low nibbles; scale_zero u32[N, nGroups],
//           scale bf16 in the low half, zeroPoint in the high half, subnormals already zeros ([nGroups, N] with
//           NATIVE_SCALES, for the benchmark); codes, run_terms, row_exponent as quantize_activations writes them; y f32 or
//           bf16 [M, N], as bits. A slice of a large weight has buffers of its own; its rows are columns n_first .. of y.
// Threads:  a team of LANES_PER_ROW lanes owns WEIGHT_ROWS rows of weights; a lane takes every LANES_PER_ROW-th block of
//           each, two at a time, so that neighbours read neighbouring 16 bytes and four of them are on their way at once.
//           ROWS rows of x share each block of weights. Workgroups of x and y count tiles of rows of weights, first those
//           of the first linear; z counts passes of ROWS.
// Traffic:  reads N K / 2 + 4 N nGroups bytes for every ROWS rows of x, and the activations from cache; writes y once.
// Numerics: NUMERICS.md sections 3 and 4. What is computed in f32 passes a fence before anything consumes it, so that no
//           adapter may fuse or reassociate it. Two need none: z * asum, which is exact, and the scalings of c by powers
//           of two. Sums are of integers, and the last rounding is in u32.
// Limits:   K at most 65504, or hi could overflow. At most 3 linears a dispatch.

const BLOCK_SIZE = 32u;
const MAX_ROWS = 4u;
/// Rows of weights of a team.
const WEIGHT_ROWS = 2u;
const FRACTION_BITS = 32;
/// hi counts units of 2^-14, lo what is left of them in units of 2^-32.
const HI_SCALE = 16384.0;
const LO_BITS = 18u;
const LO_SCALE = 262144.0;
/// 1.5 * 2^23: adding it rounds to an integer, ties to even, and leaves that integer in the low bits; |v| < 2^22.
const ROUNDER = 12582912.0;
const ROUNDER_BITS = 0x4b400000;
const NAN_ROW = 0x7fffffff;
const NAN_BITS = 0x7fc00000u;
const LOW_NIBBLES = vec4(0x0f0f0f0fu);

/// Rows of x per pass, 1..MAX_ROWS.
override ROWS: u32 = 1u;
/// Activations of a run: 32, or 16 when groupSize is 16.
override RUN_SIZE: u32 = 32u;
override OUTPUT_BF16: bool = false;
override NATIVE_SCALES: bool = false;
override THREADS: u32 = LANES_PER_ROW * TEAMS;

/// Of one linear.
struct Params {
  /// Rows of weights in this slice.
  n: u32,
  /// The column of y of the slice's first row.
  n_first: u32,
  /// Columns of y.
  n_total: u32,
  /// K / 32
  blocks: u32,
  /// log2 of groupSize
  group_shift: u32,
  /// E_w
  weight_exponent: i32,
  /// The first row of x of this dispatch.
  m_first: u32,
  /// 0, which no compiler knows.
  zero: u32,
}

@group(0) @binding(0) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> run_terms: array<vec2<f32>>;
@group(0) @binding(2) var<storage, read> row_exponent: array<i32>;

/// A block of one row of x.
struct Block {
  /// Codes of its first and its last 16 k.
  first: vec4<u32>,
  last: vec4<u32>,
  /// d_b and asum of its first run, and of its second if it has two.
  terms: vec4<f32>,
}

/// v, as a value that the compiler cannot see through: what is computed before is rounded before.
fn fence(v: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(v) | p_1.zero);
}

/// A block of x, or one that adds nothing.
fn load_block(block: u32, counts: bool) -> Block {
  var x = Block(codes[2u * block], codes[2u * block + 1u], vec4(0.0));
  if RUN_SIZE == BLOCK_SIZE {
    x.terms = vec4(run_terms[block], 0.0, 0.0);
  } else {
    x.terms = vec4(run_terms[2u * block], run_terms[2u * block + 1u]);
  }
  if !counts {
    x.terms.x = 0.0;
    x.terms.z = 0.0;
  }
  return x;
}

/// 2^e for -126 <= e <= 127.
fn power_of_two(e: i32) -> f32 {
  return bitcast<f32>(u32(e + 127) << 23u);
}

/// Adds RNE(c * 2^32), c = (s * d_b) * t, to T = hi * 2^18 + lo; `word` holds scale and zero, weight_power is 2^-E_w.
fn add_run(total: vec2<i32>, dp: i32, terms: vec2<f32>, word: u32, weight_power: f32) -> vec2<i32> {
  let s = fence(bitcast<f32>(word << 16u) * weight_power);
  let z = bitcast<f32>(word & 0xffff0000u);
  let t = fence(f32(dp) - z * terms.y);
  let c = fence(fence(s * terms.x) * t) * HI_SCALE;
  let hi = fence(c + ROUNDER);
  let lo = (c - (hi - ROUNDER)) * LO_SCALE + ROUNDER;
  return total + vec2(bitcast<i32>(hi) - ROUNDER_BITS, bitcast<i32>(lo) - ROUNDER_BITS);
}

/// The dot product of 16 consecutive k: two words of codes 0..15 and their activations.
fn dot16(low: vec2<u32>, high: vec2<u32>, a: vec4<u32>) -> i32 {
  return dot4(low.x, a.x) + dot4(high.x, a.y) + dot4(low.y, a.z) + dot4(high.y, a.w);
}

/// Adds a block of weights times a block of x; `words` holds scale and zero of its first run, and of its second.
fn add_block(total: vec2<i32>, w: vec4<u32>, words: vec2<u32>, x: Block, weight_power: f32) -> vec2<i32> {
  let low = w & LOW_NIBBLES;
  let high = (w >> vec4(4u)) & LOW_NIBBLES;
  let first = dot16(low.xy, high.xy, x.first);
  let last = dot16(low.zw, high.zw, x.last);
  if RUN_SIZE == BLOCK_SIZE {
    return add_run(total, first + last, x.terms.xy, words.x, weight_power);
  }
  let half = add_run(total, first, x.terms.xy, words.x, weight_power);
  return add_run(half, last, x.terms.zw, words.y, weight_power);
}

/// The f32 bits of T * 2^exponent, T = total.x * 2^18 + total.y: one rounding, ties to even.
fn rounded(total: vec2<i32>, exponent: i32) -> u32 {
  // T as a sign and a magnitude of 49 bits in two words.
  let lo_mask = (1 << LO_BITS) - 1;
  var hi = total.x + (total.y >> LO_BITS);
  var lo = total.y & lo_mask;
  let sign = u32(hi) & 0x80000000u;
  if hi < 0 {
    hi = -hi - select(0, 1, lo != 0);
    lo = -lo & lo_mask;
  }
  let upper = u32(hi) >> (32u - LO_BITS);
  let lower = (u32(hi) << LO_BITS) | u32(lo);
  if (upper | lower) == 0u {
    return 0u;
  }
  let top = select(firstLeadingBit(lower), 32u + firstLeadingBit(upper), upper != 0u);
  var significand: u32;
  if top <= 23u {
    significand = lower << (23u - top);
  } else {
    let shift = top - 23u;
    let kept = (upper << (32u - shift)) | (lower >> shift);
    let rest = lower & ((1u << shift) - 1u);
    let half = 1u << (shift - 1u);
    significand = kept + u32(rest > half || (rest == half && (kept & 1u) == 1u));
  }
  let carry = significand >> 24u;
  let biased = i32(top + carry) + exponent + 127;
  if biased < 1 {
    return sign;
  }
  if biased > 254 {
    return sign | 0x7f800000u;
  }
  return sign | (u32(biased) << 23u) | ((significand >> carry) & 0x007fffffu);
}

/// f32 bits to bf16 bits, ties to even; the one NaN that gets here keeps its pattern.
fn bf16_bits(bits: u32) -> u32 {
  return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;
}

/// The bits of an output from its sum.
fn output_bits(sum: vec2<i32>, weight_exponent: i32, e_x: i32) -> u32 {
  return select(rounded(sum, weight_exponent + e_x - FRACTION_BITS), NAN_BITS, e_x == NAN_ROW);
}

@compute @workgroup_size(THREADS)
fn int4_plain_mm(
  place: Place,
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
) {
  linear_1(workgroup.y * workgroups.x + workgroup.x, workgroup.z, team_of(place), lane_of(place));
}

/// A grid over two dimensions may have some workgroups too many.
fn linear_END(tile: u32, pass_of_rows: u32, team: u32, lane: u32) {
}

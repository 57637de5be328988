// int4_plain_mm: y = x · weightᵀ from int8 codes and 4-bit weights, with the bits that NUMERICS.md defines.
// dot4 comes from dot4_packed.wgsl or dot4_unpacked.wgsl, one of which is prepended.
//
// Math:     per run, dp = sum of q * a, t = dp - z * asum, c = (s * d_b) * t; y = 2^(E_w + E_x) * sum of c, summed as
//           integers of 2^-32 and rounded once.
// Layout:   qdata u8[N, K/2], a block of 32 codes is one vec4<u32>, even k in the low nibbles; scale_zero u32[N, nGroups],
//           scale bf16 in the low half, zeroPoint in the high half ([nGroups, N] with NATIVE_SCALES, for the benchmark);
//           codes, run_terms, row_exponent as quantize_activations writes them; y f32 or bf16 [M, N], as bits.
//           A slice of a large weight has buffers of its own; its rows are columns n_first .. of y.
// Threads:  32 lanes a row of weights, 8 rows a workgroup; a lane takes every 32nd block, so that neighbours read
//           neighbouring 16 bytes. ROWS rows of x share each block of weights. Workgroups of x and y count rows of
//           weights, z counts passes of ROWS.
// Traffic:  reads N K / 2 + 4 N nGroups bytes for every ROWS rows of x, and the activations from cache; writes y once.
// Numerics: NUMERICS.md sections 3 and 4. What is computed in f32 passes a fence before anything consumes it, so that no
//           adapter may fuse or reassociate it; only the two exact scalings of c by powers of two need none. Sums are
//           of integers, and the last rounding is in u32. Nothing here assumes a subgroup size.
// Limits:   K at most 65504, or hi could overflow. Workgroup memory: 256 bytes * ROWS.

const BLOCK_SIZE = 32u;
const MAX_ROWS = 4u;
const LANES_PER_ROW = 32u;
const FRACTION_BITS = 32;
/// hi counts units of 2^-14, lo what is left of them in units of 2^-32.
const HI_SCALE = 16384.0;
const LO_BITS = 18u;
const LO_SCALE = 262144.0;
const NAN_ROW = 0x7fffffff;
const NAN_BITS = 0x7fc00000u;
const THREADS = 256u;
const ROWS_PER_WORKGROUP = THREADS / LANES_PER_ROW;
/// Sums of a row that its lanes share: enough to keep them out of each other's way, few because devices zero them first.
const PARTIALS_PER_ROW = 4u;
const LOW_NIBBLES = vec4(0x0f0f0f0fu);

/// Rows of x per pass, 1..MAX_ROWS.
override ROWS: u32 = 1u;
/// Activations of a run: 32, or 16 when groupSize is 16.
override RUN_SIZE: u32 = 32u;
override OUTPUT_BF16: bool = false;
override NATIVE_SCALES: bool = false;

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

@group(0) @binding(0) var<storage, read> qdata: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read> scale_zero: array<u32>;
@group(0) @binding(2) var<storage, read> codes: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> run_terms: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> row_exponent: array<i32>;
// Atomic because two bf16 outputs of different workgroups may share a word.
@group(0) @binding(5) var<storage, read_write> y: array<atomic<u32>>;
@group(0) @binding(6) var<uniform> p: Params;

/// hi and lo of each output's partial sums.
var<workgroup> partial: array<atomic<i32>, 2u * PARTIALS_PER_ROW * ROWS_PER_WORKGROUP * ROWS>;

/// v, as a value that the compiler cannot see through: what is computed before is rounded before.
fn fence(v: f32) -> f32 {
  return bitcast<f32>(bitcast<u32>(v) | p.zero);
}

/// 2^e for -126 <= e <= 127.
fn power_of_two(e: i32) -> f32 {
  return bitcast<f32>(u32(e + 127) << 23u);
}

/// The f32 whose bits are a bf16 in the upper half; subnormals count as 0.
fn flushed(bits: u32) -> f32 {
  return bitcast<f32>(select(bits, 0u, (bits & 0x7f800000u) == 0u));
}

/// Adds RNE(c * 2^32), c = (s * d_b) * t, to T = hi * 2^18 + lo.
fn add_run(total: vec2<i32>, dp: i32, terms: vec2<f32>, s: f32, z: f32) -> vec2<i32> {
  let t = fence(f32(dp) - fence(z * terms.y));
  let c = fence(fence(s * terms.x) * t) * HI_SCALE;
  let hi = round(c);
  let lo = round((c - hi) * LO_SCALE);
  return total + vec2(i32(hi), i32(lo));
}

/// The dot product of 16 consecutive k: two words of codes 0..15 and their activations.
fn dot16(low: vec2<u32>, high: vec2<u32>, a: vec4<u32>) -> i32 {
  return dot4(low.x, a.x) + dot4(high.x, a.y) + dot4(low.y, a.z) + dot4(high.y, a.w);
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

fn store(index: u32, bits: u32) {
  if OUTPUT_BF16 {
    // This thread alone owns its half of the word; the other half may be written by another workgroup, or belong to
    // nobody, and must survive.
    let shift = 16u * (index & 1u);
    atomicAnd(&y[index / 2u], ~(0xffffu << shift));
    atomicOr(&y[index / 2u], bf16_bits(bits) << shift);
  } else {
    atomicStore(&y[index], bits);
  }
}

@compute @workgroup_size(THREADS)
fn int4_plain_mm(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let n_base = (workgroup.y * workgroups.x + workgroup.x) * ROWS_PER_WORKGROUP;
  let m_base = p.m_first + workgroup.z * ROWS;
  let lane = thread % LANES_PER_ROW;
  let n = n_base + thread / LANES_PER_ROW;

  var total: array<vec2<i32>, MAX_ROWS>;
  if n < p.n {
    let n_groups = (p.blocks * BLOCK_SIZE) >> p.group_shift;
    let weight_power = power_of_two(-p.weight_exponent);
    for (var b = lane; b < p.blocks; b += LANES_PER_ROW) {
      let w = qdata[n * p.blocks + b];
      let low = w & LOW_NIBBLES;
      let high = (w >> vec4(4u)) & LOW_NIBBLES;

      let g = (b * BLOCK_SIZE) >> p.group_shift;
      let word = scale_zero[select(n * n_groups + g, g * p.n + n, NATIVE_SCALES)];
      let s = fence(flushed(word << 16u) * weight_power);
      let z = flushed(word & 0xffff0000u);

      if RUN_SIZE == BLOCK_SIZE {
        for (var m = 0u; m < ROWS; m++) {
          let block = (m_base + m) * p.blocks + b;
          let dp = dot16(low.xy, high.xy, codes[2u * block]) + dot16(low.zw, high.zw, codes[2u * block + 1u]);
          total[m] = add_run(total[m], dp, run_terms[block], s, z);
        }
      } else {
        // groupSize 16: the block's second half is a group of its own.
        let second = scale_zero[select(n * n_groups + g + 1u, (g + 1u) * p.n + n, NATIVE_SCALES)];
        let s2 = fence(flushed(second << 16u) * weight_power);
        let z2 = flushed(second & 0xffff0000u);
        for (var m = 0u; m < ROWS; m++) {
          let run = 2u * ((m_base + m) * p.blocks + b);
          total[m] = add_run(total[m], dot16(low.xy, high.xy, codes[run]), run_terms[run], s, z);
          total[m] = add_run(total[m], dot16(low.zw, high.zw, codes[run + 1u]), run_terms[run + 1u], s2, z2);
        }
      }
    }
  }

  // Integers, so no order of summation can matter.
  for (var m = 0u; m < ROWS; m++) {
    let output = m * ROWS_PER_WORKGROUP + thread / LANES_PER_ROW;
    let slot = 2u * (output * PARTIALS_PER_ROW + lane % PARTIALS_PER_ROW);
    atomicAdd(&partial[slot], total[m].x);
    atomicAdd(&partial[slot + 1u], total[m].y);
  }
  workgroupBarrier();

  // One thread an output.
  let m = thread / ROWS_PER_WORKGROUP;
  let n_out = n_base + thread % ROWS_PER_WORKGROUP;
  if m < ROWS && n_out < p.n {
    var sum = vec2(0);
    for (var i = 0u; i < PARTIALS_PER_ROW; i++) {
      let slot = 2u * (thread * PARTIALS_PER_ROW + i);
      sum += vec2(atomicLoad(&partial[slot]), atomicLoad(&partial[slot + 1u]));
    }
    let row = m_base + m;
    let e_x = row_exponent[row];
    let bits = select(rounded(sum, p.weight_exponent + e_x - FRACTION_BITS), NAN_BITS, e_x == NAN_ROW);
    store(row * p.n_total + p.n_first + n_out, bits);
  }
}

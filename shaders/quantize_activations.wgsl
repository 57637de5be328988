// quantize_activations: bf16 rows of activations to int8 codes, one scale a block, one sum a run.
//
// Math:     a = RNE(127 * x / amax_b), an exact rational rounding; d_b = amax_b / 127 relative to the row's 2^E_x;
//           asum = sum of a over a run.
// Layout:   x bf16[M, K]; codes int8[M, K], each 8 consecutive k as two words, the even k and then the odd k, so that
//           `w & 0x0f0f0f0f` and `(w >> 4) & 0x0f0f0f0f` of a weight word meet them with no permutation;
//           run_terms {f32 d_b, f32 asum}[M, nRuns], nRuns = K / RUN_SIZE; row_exponent i32[M], E_x or NAN_ROW.
// Threads:  workgroup (i, m) owns blocks 64 i .. 64 i + 63 of row m; a lane owns 8 consecutive k, four lanes a block.
//           Every workgroup reads its whole row for E_x, four loads at a time: less than a second dispatch costs.
// Traffic:  reads 2 M K ceil(K / 2048) bytes, all but the first 2 M K from cache;
//           writes M K + 8 M K / RUN_SIZE + 4 M bytes.
// Numerics: NUMERICS.md section 1. Magnitudes of bf16 compare as integers. A quotient is guessed in f32 and rounded by
//           its rest in integers. The only float operation whose rounding can be seen is the product of d_b; nothing
//           consumes it here, so nothing can be fused.
// Limits:   K a multiple of 32; M at most 65535, one row of workgroups each.

const BLOCK_SIZE = 32u;
const NAN_ROW = 0x7fffffff;
const THREADS = 256u;
/// Activations of a lane.
const LANE_SIZE = 8u;
const LANES_PER_BLOCK = BLOCK_SIZE / LANE_SIZE;
const BLOCKS_PER_WORKGROUP = THREADS / LANES_PER_BLOCK;
/// Largest magnitudes that the lanes share: enough to keep them out of each other's way.
const ROW_MAXIMA = 8u;
/// The least bf16 magnitude that is not subnormal, and the least that is not finite.
const MIN_NORMAL = 0x0080u;
const INFINITE = 0x7f80u;
/// A block this far below the row's largest contributes nothing that could be seen.
const MIN_RELATIVE_EXPONENT = -100;

/// RN32(1 / 127). Divisions of f32 may be off by a few units in the last place, so there are none.
const INV_127 = 0.007874015718698502;

/// Activations of a run: 32, or 16 when groupSize is 16.
override RUN_SIZE: u32 = 32u;

struct Params {
  /// K / 32
  blocks: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> codes: array<vec2<u32>>;
@group(0) @binding(2) var<storage, read_write> run_terms: array<vec2<f32>>;
@group(0) @binding(3) var<storage, read_write> row_exponent: array<i32>;
@group(0) @binding(4) var<uniform> p: Params;

var<workgroup> row_max: array<atomic<u32>, ROW_MAXIMA>;
var<workgroup> block_max: array<atomic<u32>, BLOCKS_PER_WORKGROUP>;
var<workgroup> run_sum: array<atomic<i32>, THREADS * LANE_SIZE / RUN_SIZE>;

fn exponent_of(magnitude: u32) -> i32 {
  return i32(magnitude >> 7u) - 127;
}

fn significand_of(magnitude: u32) -> u32 {
  return 128u + (magnitude & 127u);
}

/// The largest magnitude among 8 bf16 values.
fn largest(words: vec4<u32>) -> u32 {
  let pair = max(words & vec4(0x7fffu), (words >> vec4(16u)) & vec4(0x7fffu));
  return max(max(pair.x, pair.y), max(pair.z, pair.w));
}

/// RNE(127 * value / amax) of a bf16 value: its quotient is m_i * 127 / (m_b * 2^t), t = e_b - e_i; `inverse` is about
/// 1 / m_b.
fn quantize_one(value: u32, amax: u32, inverse: f32) -> i32 {
  let magnitude = value & 0x7fffu;
  let shift = u32(exponent_of(amax) - exponent_of(magnitude));
  if magnitude < MIN_NORMAL || shift > 16u {
    return 0;
  }
  let numerator = 127 * i32(significand_of(magnitude));
  let denominator = i32(significand_of(amax) << shift);
  // At most 127, so the guess errs by less than 2^-12. It can be one off only beside an integer, where the rest, then below
  // 0 or above the denominator, rounds to that same integer.
  let floored = i32(f32(numerator) * inverse * bitcast<f32>((127u - shift) << 23u));
  let rest = numerator - floored * denominator;
  let twice_rest = 2 * rest;
  let rounds_up = twice_rest > denominator || (twice_rest == denominator && (floored & 1) == 1);
  let code = floored + i32(rounds_up);
  return select(code, -code, (value & 0x8000u) != 0u);
}

@compute @workgroup_size(THREADS)
fn quantize_activations(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let m = workgroup.y;
  let lanes_per_row = p.blocks * LANES_PER_BLOCK;
  let row = m * lanes_per_row;
  let column = workgroup.x * THREADS + lane;
  let in_row = column < lanes_per_row;

  var words = vec4(0u);
  if in_row {
    words = x[row + column];
  }
  var scanned = 0u;
  let last = row + lanes_per_row - 1u;
  for (var i = row + lane; i <= last; i += 4u * THREADS) {
    let a = x[i];
    let b = x[min(i + THREADS, last)];
    let c = x[min(i + 2u * THREADS, last)];
    let d = x[min(i + 3u * THREADS, last)];
    scanned = max(scanned, max(max(largest(a), largest(b)), max(largest(c), largest(d))));
  }
  atomicMax(&row_max[lane % ROW_MAXIMA], scanned);
  atomicMax(&block_max[lane / LANES_PER_BLOCK], largest(words));
  workgroupBarrier();

  var row_largest = 0u;
  for (var i = 0u; i < ROW_MAXIMA; i++) {
    row_largest = max(row_largest, atomicLoad(&row_max[i]));
  }
  let amax = atomicLoad(&block_max[lane / LANES_PER_BLOCK]);
  let exponent = select(exponent_of(row_largest), 0, row_largest < MIN_NORMAL);
  let relative = exponent_of(amax) - exponent;
  let is_nan = row_largest >= INFINITE;
  let is_live = !is_nan && amax >= MIN_NORMAL && relative >= MIN_RELATIVE_EXPONENT;

  var d_b = 0.0;
  var even = 0u;
  var odd = 0u;
  var sum = 0;
  if is_live {
    let power = bitcast<f32>(u32(relative + 127) << 23u);
    d_b = f32(significand_of(amax)) * 0.0078125 * INV_127 * power;
    let inverse = 1.0 / f32(significand_of(amax));
    for (var i = 0u; i < 4u; i++) {
      let low = quantize_one(words[i] & 0xffffu, amax, inverse);
      let high = quantize_one(words[i] >> 16u, amax, inverse);
      even |= (u32(low) & 0xffu) << (8u * i);
      odd |= (u32(high) & 0xffu) << (8u * i);
      sum += low + high;
    }
  }
  let lanes_per_run = RUN_SIZE / LANE_SIZE;
  atomicAdd(&run_sum[lane / lanes_per_run], sum);
  workgroupBarrier();

  if in_row {
    codes[row + column] = vec2(even, odd);
    if lane % lanes_per_run == 0u {
      let asum = f32(atomicLoad(&run_sum[lane / lanes_per_run]));
      run_terms[(row + column) / lanes_per_run] = vec2(d_b, asum);
    }
    if column == 0u {
      row_exponent[m] = select(exponent, NAN_ROW, is_nan);
    }
  }
}

// quantize_activations: bf16 rows of activations to int8 codes, one scale word a block, one sum a run.
// What a block's codes and scale word are stands in block_codes.wgsl.
//
// Math:     a = RNE(127 * x / amax_b), an exact rational rounding; scale_word, which with the largest of its row gives d_b;
//           asum = sum of a over a run.
// Layout:   x bf16[M, K]; codes int8[M, K], each block as four words of its even k and then four of its odd k, so that
//           `w & 0x0f0f0f0f` and `(w >> 4) & 0x0f0f0f0f` of a weight word meet them with no permutation;
//           run_terms {i32 scale_word, f32 asum}[M, 1 + nRuns], nRuns = K / RUN_SIZE; first comes the row's largest word plus
//           WORD_BIAS.
// Threads:  workgroup (i, m) owns blocks 64 i .. 64 i + 63 of row m; a lane owns 8 consecutive k, four lanes a block. The
//           first of a row also looks through all of it, four loads at a time: less than a second dispatch costs.
// Traffic:  reads 2 M K bytes, and the row once more from cache; writes M K + 8 M (1 + nRuns) bytes.
// Numerics: NUMERICS.md section 1. A quotient is guessed in f32 and rounded by its rest in integers. The only float
//           operation whose rounding can be seen is the product of the scale word; nothing can be fused into it.
// Limits:   K a multiple of 32; M at most 65535, one row of workgroups each.

const THREADS = 256u;
/// Activations of a lane.
const LANE_SIZE = 8u;
const LANES_PER_BLOCK = BLOCK_SIZE / LANE_SIZE;
const BLOCKS_PER_WORKGROUP = THREADS / LANES_PER_BLOCK;

/// Largest magnitudes that the lanes share: enough to keep them out of each other's way.
const ROW_MAXIMA = 8u;

/// Activations of a run: 32, or 16 when groupSize is 16.
override RUN_SIZE: u32 = 32u;

struct Params {
  /// K / 32
  blocks: u32,
}

@group(0) @binding(0) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(1) var<storage, read_write> codes: array<u32>;
@group(0) @binding(2) var<storage, read_write> run_terms: array<vec2<u32>>;
@group(0) @binding(3) var<uniform> p: Params;

var<workgroup> row_max: array<atomic<u32>, ROW_MAXIMA>;
var<workgroup> block_maxima: array<atomic<u32>, BLOCKS_PER_WORKGROUP>;
var<workgroup> run_sum: array<atomic<i32>, 2u * BLOCKS_PER_WORKGROUP>;

/// The largest magnitude among 8 bf16 values.
fn largest(words: vec4<u32>) -> u32 {
  let pair = max(words & vec4(0x7fffu), (words >> vec4(16u)) & vec4(0x7fffu));
  return max(max(pair.x, pair.y), max(pair.z, pair.w));
}

@compute @workgroup_size(THREADS)
fn quantize_activations(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let lanes_per_row = p.blocks * LANES_PER_BLOCK;
  let column = workgroup.x * THREADS + lane;
  let in_row = column < lanes_per_row;
  let place = workgroup.y * lanes_per_row + column;

  var words = vec4(0u);
  if in_row {
    words = x[place];
  }
  if workgroup.x == 0u {
    let row = workgroup.y * lanes_per_row;
    let last = row + lanes_per_row - 1u;
    var scanned = 0u;
    for (var i = row + lane; i <= last; i += 4u * THREADS) {
      let a = x[i];
      let b = x[min(i + THREADS, last)];
      let c = x[min(i + 2u * THREADS, last)];
      let d = x[min(i + 3u * THREADS, last)];
      scanned = max(scanned, max(max(largest(a), largest(b)), max(largest(c), largest(d))));
    }
    atomicMax(&row_max[lane % ROW_MAXIMA], scanned);
  }
  atomicMax(&block_maxima[lane / LANES_PER_BLOCK], largest(words));
  workgroupBarrier();

  let block_max = atomicLoad(&block_maxima[lane / LANES_PER_BLOCK]);
  let inverse = inverse_of(block_max);
  var even = 0u;
  var odd = 0u;
  var sum = 0;
  for (var i = 0u; i < 4u; i++) {
    let low = quantize_code(words[i] & 0xffffu, block_max, inverse);
    let high = quantize_code(words[i] >> 16u, block_max, inverse);
    even |= (u32(low) & 0xffu) << (8u * i);
    odd |= (u32(high) & 0xffu) << (8u * i);
    sum += low + high;
  }
  let lanes_per_run = RUN_SIZE / LANE_SIZE;
  atomicAdd(&run_sum[lane / lanes_per_run], sum);
  workgroupBarrier();

  if in_row {
    let first = place / LANES_PER_BLOCK * 8u + lane % LANES_PER_BLOCK;
    codes[first] = even;
    codes[first + 4u] = odd;
    let first_term = workgroup.y * (1u + lanes_per_row / lanes_per_run);
    if lane % lanes_per_run == 0u {
      let asum = f32(atomicLoad(&run_sum[lane / lanes_per_run]));
      run_terms[first_term + 1u + column / lanes_per_run] = vec2(u32(scale_word_of(block_max)), bitcast<u32>(asum));
    }
    if column == 0u {
      var row_largest = 0u;
      for (var i = 0u; i < ROW_MAXIMA; i++) {
        row_largest = max(row_largest, atomicLoad(&row_max[i]));
      }
      run_terms[first_term] = vec2(u32(scale_word_of(row_largest)) + WORD_BIAS, 0u);
    }
  }
}

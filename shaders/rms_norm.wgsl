// rms_norm: what a linear gave to the residual stream, and the stream to the int8 codes that the next linears read.
// Arithmetic comes from elementary.wgsl and reduce_tree.wgsl, codes from block_codes.wgsl and block_lanes.wgsl.
//
// Math:     where HAS_BRANCH, hidden = (hidden + RMSNorm(y, branch_weight)) * scalar; then the codes of
//           bf(RMSNorm(hidden, next_weight)).
// Layout:   y, hidden f32[M, n]; branch_weight, next_weight bf16[n]; codes, run_terms as quantize_activations.wgsl has them;
//           later_terms those of the codes that come to be after these, by a kernel of many workgroups a row.
// Threads:  a workgroup owns a row, lane j the values i with i mod 256 = j, as the sums of squares are defined; then 8
//           consecutive ones at a time.
// Traffic:  reads 8 M n bytes, and hidden once more from cache, and the weights; writes 4 M n and 7 M n / 4 bytes.
// Numerics: DECODER.md, RMSNorm and steps 1, 7 and 8. Every sum and product is fenced.
// Limits:   n a multiple of 32.

/// Values that a lane has on their way at once.
const LOADS = 8u;

override HAS_BRANCH: bool = true;

struct Params {
  n: u32,
  /// RN32(1 / n)
  inverse_n: f32,
  epsilon: f32,
  /// What the sum is multiplied by; 1 changes nothing.
  scalar: f32,
  /// The row of y and hidden that the first workgroup takes, to make row 0 of the codes.
  first_row: u32,
  /// Words between the rows of later_terms.
  later_words: u32,
  /// 0, which no compiler knows.
  zero: u32,
}

@group(0) @binding(0) var<storage, read> y: array<f32>;
@group(0) @binding(1) var<storage, read_write> hidden: array<f32>;
@group(0) @binding(2) var<storage, read> branch_weight: array<u32>;
@group(0) @binding(3) var<storage, read> next_weight: array<u32>;
@group(0) @binding(4) var<storage, read_write> codes: array<u32>;
@group(0) @binding(5) var<storage, read_write> run_terms: array<atomic<u32>>;
@group(0) @binding(6) var<storage, read_write> later_terms: array<u32>;
@group(0) @binding(7) var<uniform> p: Params;

/// The r of a norm from a lane's sum of squares.
fn scale_of(squares: f32, lane: u32) -> f32 {
  return rsqrt(add(mul(tree_sum(squares, lane), p.inverse_n), p.epsilon));
}

fn branch_weight_of(i: u32) -> f32 {
  return bitcast<f32>((branch_weight[i / 2u] >> (16u * (i & 1u))) << 16u);
}

/// The next norm of two neighbours, as bf16.
fn normed_pair(i: u32, first: u32, r: f32) -> u32 {
  let weights = next_weight[i / 2u];
  return packed_bf16(
    mul(mul(hidden[first + i], r), low_bf16(weights)),
    mul(mul(hidden[first + i + 1u], r), high_bf16(weights)),
  );
}

@compute @workgroup_size(THREADS)
fn rms_norm(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup.x;
  let first = (p.first_row + row) * p.n;
  let blocks = p.n / BLOCK_SIZE;
  if lane == 0u {
    atomicStore(&run_terms[row * term_words(blocks)], 0u);
    later_terms[row * p.later_words] = 0u;
  }

  var squares = 0.0;
  if HAS_BRANCH {
    for (var i = lane; i < p.n; i += LOADS * THREADS) {
      var values: array<f32, LOADS>;
      for (var j = 0u; j < LOADS; j++) {
        let at = i + j * THREADS;
        values[j] = select(0.0, y[first + min(at, p.n - 1u)], at < p.n);
      }
      for (var j = 0u; j < LOADS; j++) {
        squares = add(squares, mul(values[j], values[j]));
      }
    }
    let r = scale_of(squares, lane);
    squares = 0.0;
    for (var i = lane; i < p.n; i += LOADS * THREADS) {
      var values: array<f32, LOADS>;
      for (var j = 0u; j < LOADS; j++) {
        let at = min(i + j * THREADS, p.n - 1u);
        values[j] = mul(add(hidden[first + at], mul(mul(y[first + at], r), branch_weight_of(at))), p.scalar);
      }
      for (var j = 0u; j < LOADS; j++) {
        let at = i + j * THREADS;
        if at < p.n {
          hidden[first + at] = values[j];
          squares = add(squares, mul(values[j], values[j]));
        }
      }
    }
  } else {
    for (var i = lane; i < p.n; i += THREADS) {
      let value = hidden[first + i];
      squares = add(squares, mul(value, value));
    }
  }
  let r = scale_of(squares, lane);
  // What other lanes have written to hidden and run_terms is there.
  storageBarrier();

  let columns = p.n / LANE_SIZE;
  for (var begin = 0u; begin < columns; begin += THREADS) {
    let column = begin + lane;
    var words = vec4(0u);
    if column < columns {
      let i = LANE_SIZE * column;
      words = vec4(
        normed_pair(i, first, r),
        normed_pair(i + 2u, first, r),
        normed_pair(i + 4u, first, r),
        normed_pair(i + 6u, first, r),
      );
    }
    quantize_lane(words, lane, row, column, blocks);
  }
}

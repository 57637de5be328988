// The plain way, for the race only: the weight written out as f32, then an f32 matrix-vector product.
//
// Math:     w[n, k] = (q - z) * s * 2^-E_w, and x is 2^E_w times what it stands for; y[n] = sum of w[n, k] * x[k], in f32,
//           in whatever order the lanes take.
// Layout:   qdata u8[N, K/2], eight codes a word, even k in the low nibbles; scale_zero u32[N, nGroups], scale * 2^-E_w as
//           bf16 in the low half, zeroPoint in the high half; w f32[rows, K]; x f32[K]; y f32[N].
// Threads:  dequantize: a lane owns one word, 8 consecutive k. multiply: 32 lanes a row, 8 rows a workgroup, 16 bytes a
//           load.
// Traffic:  dequantize reads N K / 2 + 4 N nGroups bytes and writes 4 N K; multiply reads 4 N K and x, writes 4 N.
// Numerics: none of NUMERICS.md: another operator, which rounds as it pleases.
// Limits:   M = 1; K a multiple of 32; rows at a time bounded by the binding size of the device.

const THREADS = 256u;
const LANES_PER_ROW = 32u;
const ROWS_PER_WORKGROUP = THREADS / LANES_PER_ROW;
const WORD_CODES = 8u;

struct Params {
  /// Of the piece at hand.
  first_row: u32,
  rows: u32,
  k: u32,
  /// log2 of groupSize
  group_shift: u32,
}

@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> qdata: array<u32>;
@group(0) @binding(2) var<storage, read> scale_zero: array<u32>;
@group(0) @binding(3) var<storage, read_write> w: array<vec4<f32>>;

@compute @workgroup_size(THREADS)
fn dequantize(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
) {
  let words_per_row = p.k / WORD_CODES;
  let i = (workgroup.y * workgroups.x + workgroup.x) * THREADS + lane;
  if i >= p.rows * words_per_row {
    return;
  }
  let n = p.first_row + i / words_per_row;
  let k = (i % words_per_row) * WORD_CODES;
  let word = qdata[n * words_per_row + i % words_per_row];
  let group = scale_zero[n * (p.k >> p.group_shift) + (k >> p.group_shift)];
  let s = bitcast<f32>(group << 16u);
  let z = bitcast<f32>(group & 0xffff0000u);
  let even = (vec4<f32>((vec4(word) >> vec4(0u, 8u, 16u, 24u)) & vec4(15u)) - z) * s;
  let odd = (vec4<f32>((vec4(word) >> vec4(4u, 12u, 20u, 28u)) & vec4(15u)) - z) * s;
  w[2u * i] = vec4(even.x, odd.x, even.y, odd.y);
  w[2u * i + 1u] = vec4(even.z, odd.z, even.w, odd.w);
}

@group(0) @binding(4) var<storage, read> weights: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> y: array<f32>;

var<workgroup> partial: array<f32, THREADS>;

@compute @workgroup_size(THREADS)
fn multiply(
  @builtin(workgroup_id) workgroup: vec3<u32>,
  @builtin(num_workgroups) workgroups: vec3<u32>,
  @builtin(local_invocation_index) thread: u32,
) {
  let row = (workgroup.y * workgroups.x + workgroup.x) * ROWS_PER_WORKGROUP + thread / LANES_PER_ROW;
  let lane = thread % LANES_PER_ROW;
  let vectors = p.k / 4u;
  var sum = 0.0;
  if row < p.rows {
    for (var i = lane; i < vectors; i += LANES_PER_ROW) {
      sum += dot(weights[row * vectors + i], x[i]);
    }
  }
  partial[thread] = sum;
  for (var width = LANES_PER_ROW / 2u; width > 0u; width /= 2u) {
    workgroupBarrier();
    if lane < width {
      partial[thread] += partial[thread + width];
    }
  }
  if lane == 0u && row < p.rows {
    y[p.first_row + row] = partial[thread];
  }
}

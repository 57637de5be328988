// gated_gelu: gate and up to what down_proj reads. Arithmetic comes from elementary.wgsl, codes from block_codes.wgsl and
// block_lanes.wgsl.
//
// Math:     the codes of bf(gelu(gate) * up), gelu by its tanh, which is a logistic function here.
// Layout:   gate, up f32[M, n]; codes, run_terms of bf16[M, n] as quantize_activations.wgsl has them, whose largest words
//           begin as 0.
// Threads:  workgroup (i, m) owns values 512 i .. 512 i + 511 of row m; a lane 8 consecutive ones.
// Traffic:  reads 8 M n bytes, writes 7 M n / 4.
// Numerics: DECODER.md, step 8. Every sum and product is fenced.
// Limits:   n a multiple of 32.

const THREADS = 64u;

struct Params {
  n: u32,
  /// 0, which no compiler knows.
  zero: u32,
}

@group(0) @binding(0) var<storage, read> gate: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> up: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> run_terms: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> p: Params;

fn gelu(g: f32) -> f32 {
  // RN32(0.044715)
  let cubic = mul(bitcast<f32>(0x3d372713u), mul(mul(g, g), g));
  let z = clamp(mul(bitcast<f32>(0x3fcc422au), add(g, cubic)), -80.0, 80.0);
  return mul(g, rcp(add(1.0, exponential(-z))));
}

fn gated_pair(g: vec2<f32>, u: vec2<f32>) -> u32 {
  return packed_bf16(mul(gelu(g.x), u.x), mul(gelu(g.y), u.y));
}

@compute @workgroup_size(THREADS)
fn gated_gelu(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let row = workgroup.y;
  let column = workgroup.x * THREADS + lane;
  var words = vec4(0u);
  if column < p.n / LANE_SIZE {
    let place = (row * p.n + LANE_SIZE * column) / 4u;
    let g = array(gate[place], gate[place + 1u]);
    let u = array(up[place], up[place + 1u]);
    words = vec4(
      gated_pair(g[0].xy, u[0].xy),
      gated_pair(g[0].zw, u[0].zw),
      gated_pair(g[1].xy, u[1].xy),
      gated_pair(g[1].zw, u[1].zw),
    );
  }
  quantize_lane(words, lane, row, column, p.n / BLOCK_SIZE);
}

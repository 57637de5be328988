// combine_chunks: the chunks of attention_chunks.wgsl to what o_proj reads. Arithmetic comes from elementary.wgsl, codes
// from block_codes.wgsl and block_lanes.wgsl.
//
// Math:     M = largest m, f = exp(m - M); L = sum of l f, O = sum of o f over the chunks; the codes of bf(O / L).
// Layout:   chunk_terms {m, l}[M, HEADS, max_chunks], outputs f32[M, HEADS, max_chunks, D], D = HEAD_SIZE; codes, run_terms of
//           bf16[M, HEADS * D] as quantize_activations.wgsl has them, whose largest words begin as 0.
// Threads:  workgroup (j, m) owns head j of token m; a lane 8 consecutive values, and every THREADS-th f.
// Traffic:  reads 4 D + 8 bytes a chunk and head; writes 7 D / 4 bytes a head.
// Numerics: DECODER.md, step 6, chunks in ascending order. Every sum and product is fenced.
// Limits:   D a multiple of 32, at most 2048.

const CHUNK = 256u;

override HEAD_SIZE: u32 = 64u;
override HEADS: u32 = 1u;
/// Positions p with t - p < WINDOW are seen.
override WINDOW: u32 = 0xffffffffu;
/// HEAD_SIZE / 8
override THREADS: u32 = 8u;

struct Params {
  slots: u32,
  /// Chunks of a token that there is room for.
  max_chunks: u32,
  /// 0, which no compiler knows.
  zero: u32,
}

struct Step {
  /// Of the first token.
  position: u32,
}

@group(0) @binding(0) var<storage, read> chunk_terms: array<vec2<f32>>;
@group(0) @binding(1) var<storage, read> outputs: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> codes: array<u32>;
@group(0) @binding(3) var<storage, read_write> run_terms: array<atomic<u32>>;
@group(0) @binding(4) var<uniform> step: Step;
@group(0) @binding(5) var<uniform> p: Params;

/// f, and l f, of THREADS chunks.
var<workgroup> factors: array<vec2<f32>, THREADS>;

@compute @workgroup_size(THREADS)
fn combine_chunks(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let head = workgroup.x;
  let token = workgroup.y;
  let t = step.position + token;
  let oldest = select(0u, t - (WINDOW - 1u), t >= WINDOW);
  let chunks = t / CHUNK - oldest / CHUNK + 1u;
  let first = (token * HEADS + head) * p.max_chunks;

  var m = chunk_terms[first].x;
  for (var i = 1u; i < chunks; i++) {
    m = max(m, chunk_terms[first + i].x);
  }
  var sum = 0.0;
  var low = vec4(0.0);
  var high = vec4(0.0);
  for (var begin = 0u; begin < chunks; begin += THREADS) {
    if begin + lane < chunks {
      let terms = chunk_terms[first + begin + lane];
      let f = exponential(add(terms.x, -m));
      factors[lane] = vec2(f, mul(terms.y, f));
    }
    workgroupBarrier();
    for (var i = 0u; i < min(THREADS, chunks - begin); i++) {
      let f = factors[i].x;
      let place = ((first + begin + i) * HEAD_SIZE + LANE_SIZE * lane) / 4u;
      sum = add(sum, factors[i].y);
      low = fence4(low + fence4(outputs[place] * f));
      high = fence4(high + fence4(outputs[place + 1u] * f));
    }
    workgroupBarrier();
  }
  let inverse = rcp(sum);
  low = fence4(low * inverse);
  high = fence4(high * inverse);
  let words = vec4(
    packed_bf16(low.x, low.y),
    packed_bf16(low.z, low.w),
    packed_bf16(high.x, high.y),
    packed_bf16(high.z, high.w),
  );
  quantize_lane(words, lane, token, head * THREADS + lane, HEADS * HEAD_SIZE / BLOCK_SIZE);
}

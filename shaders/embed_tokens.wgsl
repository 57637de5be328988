// embed_tokens: rows of the embedding to the residual stream.
//
// Math:     hidden = E[token] * RN32(sqrt(hidden size)).
// Layout:   rows bf16[M, hidden], the tokens' rows of E, which the host had copied; hidden f32[M, hidden].
// Threads:  a lane owns two neighbours.
// Traffic:  reads 2 M hidden bytes, writes 4 M hidden.
// Numerics: DECODER.md, token to hidden. One product, which nothing here consumes.
// Limits:   hidden even.

struct Params {
  /// M * hidden / 2
  pairs: u32,
  /// RN32(sqrt(hidden size))
  scale: f32,
}

@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read_write> hidden: array<vec2<f32>>;
@group(0) @binding(2) var<uniform> p: Params;

@compute @workgroup_size(256)
fn embed_tokens(@builtin(global_invocation_id) id: vec3<u32>) {
  if id.x < p.pairs {
    let word = rows[id.x];
    hidden[id.x] = vec2(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u)) * p.scale;
  }
}

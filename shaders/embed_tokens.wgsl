// embed_tokens: rows of the embedding to the residual stream.
//
// Math:     hidden = E[token] * RN32(sqrt(hidden size)).
// Layout:   rows bf16[count, hidden], the rows of E from `first` that fit a binding; hidden f32[M, hidden]; tokens come with
//           the step, but for what arg_max left in last_token, which the host need not have read.
// Threads:  workgroup (i, m) owns 512 values of token m, a lane two neighbours. E takes a dispatch for each of its parts;
//           tokens whose rows lie in another part are left alone.
// Traffic:  reads 2 M hidden bytes, writes 4 M hidden.
// Numerics: DECODER.md, token to hidden. One product, which nothing here consumes.
// Limits:   hidden even; M up to 4.

/// In place of a token: the one that the last greedy step left.
const LAST_TOKEN = 0xffffffffu;

struct Params {
  /// hidden / 2
  pairs: u32,
  /// RN32(sqrt(hidden size))
  scale: f32,
  first: u32,
  count: u32,
}

struct Step {
  /// Of the first token.
  position: u32,
  tokens: vec4<u32>,
}

@group(0) @binding(0) var<storage, read> rows: array<u32>;
@group(0) @binding(1) var<storage, read> last_token: u32;
@group(0) @binding(2) var<storage, read_write> hidden: array<vec2<f32>>;
@group(0) @binding(3) var<uniform> step: Step;
@group(0) @binding(4) var<uniform> p: Params;

@compute @workgroup_size(256)
fn embed_tokens(@builtin(global_invocation_id) id: vec3<u32>) {
  let asked = step.tokens[id.y];
  let token = select(asked, last_token, asked == LAST_TOKEN);
  // A token before `first` wraps around to a row far beyond.
  let row = token - p.first;
  if row < p.count && id.x < p.pairs {
    let word = rows[row * p.pairs + id.x];
    hidden[id.y * p.pairs + id.x] = vec2(bitcast<f32>(word << 16u), bitcast<f32>(word & 0xffff0000u)) * p.scale;
  }
}

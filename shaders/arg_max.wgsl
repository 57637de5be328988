// arg_max: the index of the largest logit, the lowest among equals.
//
// Math:     token = min { i : logits[i] = max logits }.
// Layout:   logits f32[count]; token u32.
// Threads:  one workgroup; lane j owns the logits i with i mod 256 = j.
// Traffic:  reads 4 count bytes.
// Numerics: DECODER.md, logits. Comparisons only; 0 and -0 are equal.
// Limits:   none.

const THREADS = 256u;
/// Logits that a lane has on their way at once.
const LOADS = 8u;

struct Params {
  count: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<f32>;
@group(0) @binding(1) var<storage, read_write> token: array<u32>;
@group(0) @binding(2) var<uniform> p: Params;

var<workgroup> largest: array<f32, THREADS>;
var<workgroup> indices: array<u32, THREADS>;

@compute @workgroup_size(THREADS)
fn arg_max(@builtin(local_invocation_index) lane: u32) {
  // A lane past the end holds the last logit, which some other lane holds too.
  var index = min(lane, p.count - 1u);
  var value = logits[index];
  for (var i = lane; i < p.count; i += LOADS * THREADS) {
    var loaded: array<f32, LOADS>;
    for (var j = 0u; j < LOADS; j++) {
      loaded[j] = logits[min(i + j * THREADS, p.count - 1u)];
    }
    for (var j = 0u; j < LOADS; j++) {
      let is_larger = loaded[j] > value;
      value = select(value, loaded[j], is_larger);
      index = select(index, min(i + j * THREADS, p.count - 1u), is_larger);
    }
  }
  largest[lane] = value;
  indices[lane] = index;
  for (var s = THREADS / 2u; s > 0u; s /= 2u) {
    workgroupBarrier();
    if lane < s {
      let other = largest[lane + s];
      let other_index = indices[lane + s];
      if other > largest[lane] || (other == largest[lane] && other_index < indices[lane]) {
        largest[lane] = other;
        indices[lane] = other_index;
      }
    }
  }
  if lane == 0u {
    token[0] = indices[0];
  }
}

// attention_chunks: the softmax of one query head over the positions of one chunk, and their values. Arithmetic comes from
// elementary.wgsl and reduce_tree.wgsl; combine_chunks.wgsl puts the chunks together.
//
// Math:     score_p = q · k_p; m = largest score; e_p = bf(exp(score_p - m)); l = sum of e_p; o = sum of e_p v_p.
// Layout:   queries f32[M, HEADS, D], D = HEAD_SIZE; keys bf16[KEY_VALUE_HEADS, slots / 32, D / 8, 32, 8], so that lanes of
//           neighbouring positions read neighbouring 16 bytes; values bf16[KEY_VALUE_HEADS, slots, D]; position p lies in slot
//           p mod slots. chunk_terms {m, l}[M, HEADS, max_chunks]; outputs f32[M, HEADS, max_chunks, D]; of a token the first
//           chunk is the one of its first visible position.
// Threads:  workgroup (i, j, m) owns chunk i of head j of token m; a lane a position, then two neighbours of o.
// Traffic:  reads 4 D bytes a visible position and head, shared by the heads of a group in cache; writes 4 D + 8 bytes a chunk.
// Numerics: DECODER.md, steps 5 and 6. Products of two bf16 are exact; every sum is fenced.
// Limits:   D a multiple of 32, at most 2048 of it in workgroup memory.

const CHUNK = 256u;
/// Pieces of a key, of 8 values, and words of values that a lane has on their way at once.
const KEY_LOADS = 16u;
const VALUE_LOADS = 32u;

override HEAD_SIZE: u32 = 64u;
override HEADS: u32 = 1u;
override KEY_VALUE_HEADS: u32 = 1u;
/// Positions p with t - p < WINDOW are seen.
override WINDOW: u32 = 0xffffffffu;

struct Params {
  /// Positions in the cache, a multiple of 32.
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

@group(0) @binding(0) var<storage, read> queries: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> keys: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> values: array<u32>;
@group(0) @binding(3) var<storage, read_write> chunk_terms: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> outputs: array<vec2<f32>>;
@group(0) @binding(5) var<uniform> step: Step;
@group(0) @binding(6) var<uniform> p: Params;

var<workgroup> query: array<vec4<f32>, HEAD_SIZE / 4u>;
/// e_p of the chunk's positions.
var<workgroup> shares: array<f32, CHUNK>;

/// Four consecutive values of a key from two words.
fn four_of(words: vec2<u32>) -> vec4<f32> {
  return vec4(low_bf16(words.x), high_bf16(words.x), low_bf16(words.y), high_bf16(words.y));
}

/// The score of the position in `slot`: 32 partial sums, four a register, then their tree.
fn score_of(key_value_head: u32, slot: u32) -> f32 {
  let pieces = HEAD_SIZE / 8u;
  let first = (key_value_head * p.slots + slot) / 32u * pieces * 32u + slot % 32u;
  var a: array<vec4<f32>, 8>;
  for (var begin = 0u; begin < pieces; begin += KEY_LOADS) {
    var words: array<vec4<u32>, KEY_LOADS>;
    for (var i = 0u; i < KEY_LOADS; i++) {
      words[i] = keys[first + min(begin + i, pieces - 1u) * 32u];
    }
    for (var i = 0u; i < KEY_LOADS; i++) {
      if begin + i < pieces {
        let j = 2u * (i % 4u);
        let piece = 2u * (begin + i);
        a[j] = fence4(a[j] + query[piece] * four_of(words[i].xy));
        a[j + 1u] = fence4(a[j + 1u] + query[piece + 1u] * four_of(words[i].zw));
      }
    }
  }
  for (var j = 0u; j < 4u; j++) {
    a[j] = fence4(a[j] + a[j + 4u]);
  }
  let four = fence4(fence4(a[0] + a[2]) + fence4(a[1] + a[3]));
  return add(add(four.x, four.z), add(four.y, four.w));
}

@compute @workgroup_size(THREADS)
fn attention_chunks(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let token = workgroup.z;
  let head = workgroup.y;
  let key_value_head = head * KEY_VALUE_HEADS / HEADS;
  let t = step.position + token;
  let oldest = select(0u, t - (WINDOW - 1u), t >= WINDOW);
  let begin = (oldest / CHUNK + workgroup.x) * CHUNK;
  if begin > t {
    return;
  }
  let first = max(oldest, begin);
  let last = min(t, begin + CHUNK - 1u);

  let row = token * HEADS + head;
  for (var i = lane; i < HEAD_SIZE / 4u; i += THREADS) {
    query[i] = queries[row * (HEAD_SIZE / 4u) + i];
  }
  workgroupBarrier();
  let position = begin + lane;
  let is_visible = position >= first && position <= last;
  var score = bitcast<f32>(0xff7fffffu);
  if is_visible {
    score = score_of(key_value_head, position % p.slots);
  }
  let m = tree_max(score, lane);
  var share = 0.0;
  if is_visible {
    share = low_bf16(bf16_bits(exponential(add(score, -m))));
  }
  shares[lane] = share;
  let l = tree_sum(share, lane);

  let chunk = row * p.max_chunks + workgroup.x;
  if lane == 0u {
    chunk_terms[chunk] = vec2(m, l);
  }
  let slot = first % p.slots;
  let cached = key_value_head * p.slots;
  for (var word = lane; word < HEAD_SIZE / 2u; word += THREADS) {
    var o = vec2(0.0);
    for (var at = first; at <= last; at += VALUE_LOADS) {
      var words: array<u32, VALUE_LOADS>;
      for (var i = 0u; i < VALUE_LOADS; i++) {
        // What is visible is never more than a ring of the cache.
        let place = slot + min(at + i, last) - first;
        let wrapped = select(place, place - p.slots, place >= p.slots);
        words[i] = values[(cached + wrapped) * (HEAD_SIZE / 2u) + word];
      }
      for (var i = 0u; i < VALUE_LOADS; i++) {
        // Beyond the last one 0 is added, which changes no sum that began with 0.
        let e = select(0.0, shares[min(at + i, last) - begin], at + i <= last);
        o = vec2(add(o.x, e * low_bf16(words[i])), add(o.y, e * high_bf16(words[i])));
      }
    }
    outputs[chunk * (HEAD_SIZE / 2u) + word] = o;
  }
}

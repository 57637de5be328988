// rotate_heads: what the linears q, k and v gave to queries and to the cache. Arithmetic comes from elementary.wgsl and
// reduce_tree.wgsl.
//
// Math:     queries = bf(rotate(RMSNorm(q, q_norm))), keys = bf(rotate(RMSNorm(k, k_norm))), values = bf(RMSNorm(v)).
// Layout:   q f32[M, HEADS * D], k, v f32[M, KEY_VALUE_HEADS * D], D = HEAD_SIZE; head_norms bf16[2, D], of q and of k; rotary
//           {cos, sin} f32[M, D/2]; queries f32[M, HEADS * D] that are bf16 values; keys, values as attention_chunks.wgsl has
//           them. Position t lies in slot t mod slots of the cache.
// Threads:  workgroup (i, m) owns a head of token m: first those of q, then of k, then of v. Lane j owns the values i with
//           i mod 256 = j in the sum, then pairs of neighbours.
// Traffic:  reads 4 M D (HEADS + 2 KEY_VALUE_HEADS) bytes, writes as many for queries and half of it for keys and values.
// Numerics: DECODER.md, steps 2 to 4. Every sum and product is fenced.
// Limits:   D a multiple of 32.

override HEAD_SIZE: u32 = 64u;
override HEADS: u32 = 1u;
override KEY_VALUE_HEADS: u32 = 1u;

struct Params {
  /// RN32(1 / D)
  inverse_n: f32,
  epsilon: f32,
  /// Positions in the cache, a multiple of 32.
  slots: u32,
  /// 0, which no compiler knows.
  zero: u32,
}

struct Step {
  /// Of the first token.
  position: u32,
}

@group(0) @binding(0) var<storage, read> q: array<f32>;
@group(0) @binding(1) var<storage, read> k: array<f32>;
@group(0) @binding(2) var<storage, read> v: array<f32>;
@group(0) @binding(3) var<storage, read> head_norms: array<u32>;
@group(0) @binding(4) var<storage, read> rotary: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read_write> queries: array<f32>;
@group(0) @binding(6) var<storage, read_write> keys: array<u32>;
@group(0) @binding(7) var<storage, read_write> values: array<u32>;
@group(0) @binding(8) var<uniform> step: Step;
@group(0) @binding(9) var<uniform> p: Params;

var<workgroup> normed: array<f32, HEAD_SIZE>;

/// Value i of this head after the rotation; `table` is where the token's cosines and sines begin.
fn rotated(i: u32, table: u32) -> f32 {
  let half = HEAD_SIZE / 2u;
  let turn = rotary[table + i % half];
  if i < half {
    return add(mul(normed[i], turn.x), -mul(normed[i + half], turn.y));
  }
  return add(mul(normed[i], turn.x), mul(normed[i - half], turn.y));
}

@compute @workgroup_size(THREADS)
fn rotate_heads(@builtin(workgroup_id) workgroup: vec3<u32>, @builtin(local_invocation_index) lane: u32) {
  let token = workgroup.y;
  let is_query = workgroup.x < HEADS;
  let is_value = workgroup.x >= HEADS + KEY_VALUE_HEADS;
  let head = select((workgroup.x - HEADS) % KEY_VALUE_HEADS, workgroup.x, is_query);
  let first = (token * select(KEY_VALUE_HEADS, HEADS, is_query) + head) * HEAD_SIZE;

  var squares = 0.0;
  for (var i = lane; i < HEAD_SIZE; i += THREADS) {
    var x: f32;
    if is_query {
      x = q[first + i];
    } else if is_value {
      x = v[first + i];
    } else {
      x = k[first + i];
    }
    normed[i] = x;
    squares = add(squares, mul(x, x));
  }
  let r = rsqrt(add(mul(tree_sum(squares, lane), p.inverse_n), p.epsilon));
  for (var i = lane; i < HEAD_SIZE; i += THREADS) {
    let norms = head_norms[(select(HEAD_SIZE, 0u, is_query) + i) / 2u];
    let weight = bitcast<f32>((norms >> (16u * (i & 1u))) << 16u);
    let x = mul(normed[i], r);
    normed[i] = select(mul(x, weight), x, is_value);
  }
  workgroupBarrier();

  let table = token * (HEAD_SIZE / 2u);
  let slot = (step.position + token) % p.slots;
  for (var i = 2u * lane; i < HEAD_SIZE; i += 2u * THREADS) {
    if is_value {
      values[((head * p.slots + slot) * HEAD_SIZE + i) / 2u] = packed_bf16(normed[i], normed[i + 1u]);
    } else {
      let pair = packed_bf16(rotated(i, table), rotated(i + 1u, table));
      if is_query {
        queries[first + i] = low_bf16(pair);
        queries[first + i + 1u] = high_bf16(pair);
      } else {
        let tile = (head * p.slots + slot) / 32u;
        keys[((tile * (HEAD_SIZE / 8u) + i / 8u) * 32u + slot % 32u) * 4u + i % 8u / 2u] = pair;
      }
    }
  }
}

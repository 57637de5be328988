// rotate_heads: what the linears q, k and v gave to queries and to the cache.
//
// Math:     queries = bf(rotate(RMSNorm(q, query_norm))), keys = bf(rotate(RMSNorm(k, key_norm))), values = bf(RMSNorm(v)).
// Layout:   q f32[M, heads * D], k, v f32[M, key_value_heads * D]; norms bf16[D]; rotary {cos, sin} f32[M, frequencies];
//           queries, keys and values as attention.cuh lays them out.
// Threads:  block (i, m) owns a head of token m: first those of q, then of k, then of v. Thread j owns the values with index mod
//           256 = j.
// Traffic:  reads 4 M D (heads + 2 key_value_heads) bytes, writes half of it.
// Numerics: DECODER.md, steps 2 to 4 (elementary.cuh). No product is fused with a sum.
// Limits:   D even, at most SAMEBITS_MAX_HEAD_SIZE.

#include "attention.cuh"
#include "launch.cuh"
#include "reduce_tree.cuh"

namespace samebits {
namespace {

constexpr int THREADS = TREE_SLOTS;
constexpr int EACH = SAMEBITS_MAX_HEAD_SIZE / THREADS;

__global__ void __launch_bounds__(THREADS) rotate_heads(const SamebitsAttention of) {
  begin_beside_previous();
  __shared__ float squares[TREE_SLOTS];
  __shared__ float normed[SAMEBITS_MAX_HEAD_SIZE];
  const int thread = threadIdx.x, row = blockIdx.x, m = blockIdx.y;
  const int size = of.head_size, words = words_of(size), padded = padded_of(size);
  const bool is_query = row < of.heads, is_value = row >= of.heads + of.key_value_heads;
  const int head = is_query ? row : (row - of.heads) % of.key_value_heads;
  const int heads = is_query ? of.heads : of.key_value_heads;
  const float *const from = (is_query ? of.q : is_value ? of.v : of.k) + (static_cast<size_t>(m) * heads + head) * size;
  const auto *const weight = static_cast<const uint16_t *>(is_query ? of.query_norm : of.key_norm);

  float x[EACH];
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    const int i = k * THREADS + thread;
    x[k] = i < size ? from[i] : 0.0f;
    sum = add(sum, mul(x[k], x[k]));
  }
  const float r = rms_scale(sum, squares, 1.0f / static_cast<float>(size), of.epsilon);
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    const int i = k * THREADS + thread;
    if (i >= size) continue;
    x[k] = mul(x[k], r);
    if (!is_value) x[k] = mul(x[k], float_from_bf16(weight[i]));
    normed[i] = x[k];
  }
  __syncthreads();

  const int position = of.input->position + m, half = size / 2;
  const size_t cached = cache_row(of, head, position, padded);
  const float *const turns = of.rotary + static_cast<size_t>(m) * of.frequencies * 2;
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    const int i = k * THREADS + thread;
    if (i >= padded) continue;
    if (is_value) {
      static_cast<uint16_t *>(of.values)[cached + i] = static_cast<uint16_t>(i < size ? bf16_bits(x[k]) : 0u);
      continue;
    }
    uint32_t turned = 0;
    if (i < size) {
      const int pair = i % half;
      const bool turns_it = pair < of.frequencies;
      const float c = turns_it ? turns[2 * pair] : 1.0f, s = turns_it ? turns[2 * pair + 1] : 0.0f;
      turned = bf16_bits(i < half ? add(mul(normed[i], c), -mul(normed[i + half], s))
                                  : add(mul(normed[i], c), mul(normed[i - half], s)));
    }
    uint16_t *const to = is_query ? static_cast<uint16_t *>(of.queries) + (static_cast<size_t>(m) * heads + head) * padded
                                  : static_cast<uint16_t *>(of.keys) + cached;
    to[place_in_head(i, words)] = static_cast<uint16_t>(turned);
  }
}

}  // namespace
}  // namespace samebits

uint64_t samebits_cache_bytes(int32_t key_value_heads, int32_t head_size, int32_t slots) {
  return static_cast<uint64_t>(key_value_heads) * static_cast<uint64_t>(slots) *
         static_cast<uint64_t>(samebits::padded_of(head_size)) * 2;
}

uint64_t samebits_query_bytes(int32_t heads, int32_t head_size) {
  return samebits_cache_bytes(heads, head_size, SAMEBITS_ROWS_PER_PASS);
}

// Of whole chunks and one more, because the first need not begin one.
int32_t samebits_chunks_of(int32_t slots) { return (slots + SAMEBITS_CHUNK_POSITIONS - 2) / SAMEBITS_CHUNK_POSITIONS + 1; }

int samebits_rotate_heads(const SamebitsLaunch *launch, const SamebitsAttention *of, int32_t m) {
  using namespace samebits;
  if (of->head_size < 2 || of->head_size > SAMEBITS_MAX_HEAD_SIZE || of->head_size % 2 != 0) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(of->heads + 2 * of->key_value_heads), static_cast<unsigned>(m));
  return launch_overlapping_kernel(*launch, rotate_heads, grid, THREADS, *of);
}

int samebits_load_rotate_heads() { return samebits::load_kernel(samebits::rotate_heads); }

// attention_chunks: the softmax of a step's queries over the positions of each chunk, and the values there.
//
// Math:     m = largest score; e_p = bf(exp(score_p - m)); l = sum of e_p; o = sum of e_p v_p, p ascending.
// Layout:   scores as attention_scores.cu leaves them, values as attention.cuh has them; chunk_terms {m, l} f32[M, heads, chunks],
//           outputs f32[M, heads, chunks, D].
// Threads:  a block takes SLICE values of a head in one chunk, for every query of the heads that read it: all of its threads copy
//           them to shared memory, while warp i computes the softmax of query i; then lane j of warp i sums values 2 j and 2 j + 1.
//           Each slice computes the softmax again.
// Traffic:  reads 2 D bytes a value once, and the scores D / SLICE times; writes 4 D + 8 bytes a chunk and query.
// Numerics: DECODER.md, step 6. Products of two bf16 are exact.
// Limits:   D at most SAMEBITS_MAX_HEAD_SIZE.

#include "attention.cuh"
#include "launch.cuh"
#include "reduce_tree.cuh"

namespace samebits {
namespace {

constexpr int WARPS = 8;
constexpr int THREADS = WARPS * WARP;
constexpr int SLICE = 2 * WARP;  // values
constexpr int VECTORS_PER_ROW = SLICE * 2 / 16;
constexpr int ROWS_AT_ONCE = THREADS / VECTORS_PER_ROW;
constexpr int LOADS = CHUNK_POSITIONS / ROWS_AT_ONCE;
constexpr int BLOCKS_PER_MULTIPROCESSOR = 4;
// No score is less.
constexpr uint32_t NO_SCORE = 0xff7fffffu;

// Leaves e of the chunk's visible positions in `shares`, and 0 for the others; for a whole warp.
__device__ __forceinline__ float2 softmax_of(const float *scores, int begin, Range seen, float *shares) {
  const int lane = threadIdx.x % WARP;
  float score[SLOTS_PER_LANE], largest = float_from_bits(NO_SCORE);
#pragma unroll
  for (int i = 0; i < SLOTS_PER_LANE; i++) {
    const int slot = lane + WARP * i, position = begin + slot;
    const bool is_seen = position >= seen.first && position <= seen.last;
    score[i] = is_seen ? scores[slot] : float_from_bits(NO_SCORE);
    largest = score[i] > largest ? score[i] : largest;
  }
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2) {
    const float other = __shfl_xor_sync(ALL_LANES, largest, distance);
    largest = other > largest ? other : largest;
  }
  float share[SLOTS_PER_LANE];
#pragma unroll
  for (int i = 0; i < SLOTS_PER_LANE; i++) {
    const int slot = lane + WARP * i, position = begin + slot;
    const bool is_seen = position >= seen.first && position <= seen.last;
    share[i] = is_seen ? float_from_bf16(bf16_bits(exponential(add(score[i], -largest)))) : 0.0f;
    shares[slot] = share[i];
  }
  __syncwarp();
  return make_float2(largest, tree_sum(share));
}

__global__ void __launch_bounds__(THREADS) attention_chunks(const SamebitsAttention of, int m_count) {
  begin_beside_previous();
  __shared__ uint4 tile[CHUNK_POSITIONS * VECTORS_PER_ROW];
  __shared__ float all_shares[WARPS][CHUNK_POSITIONS];
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  float *const shares = all_shares[warp];
  const StepRange step = step_range(of, m_count);
  const int heads_per_key = of.heads / of.key_value_heads, queries = heads_per_key * m_count;
  const int padded = padded_of(of.head_size), slices = (of.head_size + SLICE - 1) / SLICE;

  for (int work = blockIdx.x; work < of.key_value_heads * step.chunks * slices; work += gridDim.x) {
    const int slice = work % slices, chunk = work / slices % step.chunks, key_value_head = work / slices / step.chunks;
    const int begin = (step.first_chunk + chunk) * CHUNK_POSITIONS;
    uint4 vectors[LOADS] = {};
#pragma unroll
    for (int i = 0; i < LOADS; i++) {
      const int position = begin + i * ROWS_AT_ONCE + static_cast<int>(threadIdx.x) / VECTORS_PER_ROW;
      if (position < step.seen.first || position > step.seen.last) continue;
      const uint16_t *const row = static_cast<const uint16_t *>(of.values) + cache_row(of, key_value_head, position, padded);
      vectors[i] = reinterpret_cast<const uint4 *>(row + slice * SLICE)[threadIdx.x % VECTORS_PER_ROW];
    }
    __syncthreads();  // the block is done with the tile before
    for (int query = warp; query < max(queries, WARPS); query += WARPS) {
      const int m = query / heads_per_key, head = key_value_head * heads_per_key + query % heads_per_key;
      const Range all = seen_from(of, step.position + m);
      const Range seen = {max(all.first, begin), min(all.last, begin + CHUNK_POSITIONS - 1)};
      const bool has_query = query < queries && seen.first <= seen.last;
      const size_t row = chunk_row(of, m, head, chunk);
      if (has_query) {
        const float2 terms = softmax_of(of.scores + row * CHUNK_POSITIONS, begin, seen, shares);
        if (slice == 0 && lane == 0) reinterpret_cast<float2 *>(of.chunk_terms)[row] = terms;
      }
      if (query < WARPS) {
#pragma unroll
        for (int i = 0; i < LOADS; i++) tile[i * THREADS + threadIdx.x] = vectors[i];
        __syncthreads();
      }
      if (!has_query) continue;
      const uint32_t *const words = reinterpret_cast<const uint32_t *>(tile) + lane;
      float low = 0.0f, high = 0.0f;
#pragma unroll 8
      for (int slot = seen.first - begin; slot <= seen.last - begin; slot++) {
        const uint32_t word = words[slot * (SLICE / 2)];
        low = add_exact_product(low, shares[slot], low_bf16(word));
        high = add_exact_product(high, shares[slot], high_bf16(word));
      }
      __syncwarp();
      const int d = slice * SLICE + 2 * lane;
      if (d < of.head_size) *reinterpret_cast<float2 *>(of.outputs + row * of.head_size + d) = make_float2(low, high);
    }
  }
}

}  // namespace
}  // namespace samebits

int samebits_attention_chunks(const SamebitsLaunch *launch, const SamebitsAttention *of, int32_t m) {
  using namespace samebits;
  const int slices = (of->head_size + SLICE - 1) / SLICE;
  const int64_t blocks = static_cast<int64_t>(of->key_value_heads) * of->chunks * slices;
  const int64_t most = static_cast<int64_t>(launch->multiprocessor_count) * BLOCKS_PER_MULTIPROCESSOR;
  const dim3 grid(static_cast<unsigned>(blocks < most ? blocks : most));
  return launch_overlapping_kernel(*launch, attention_chunks, grid, THREADS, *of, static_cast<int>(m));
}

int samebits_load_attention_chunks() { return samebits::load_kernel(samebits::attention_chunks); }

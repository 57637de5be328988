// attention_scores: every query of a step against every key that it may see.
//
// Math:     score_p = q · k_p as 32 partial sums, a[i mod 32] over i ascending, and their tree.
// Layout:   queries and keys as attention.cuh lays them out; scores f32[M, heads, chunks, 256], chunks counted from the first one
//           that the step sees. Of a position that only some tokens of the step see, all get a score.
// Threads:  a warp has KEYS keys of a head in registers and takes every query of the heads that read it. Lane j sums a[j]; the
//           tree halves, round by round, the keys that a lane sums for. Blocks take groups of positions until none is left, so
//           that the grid need not know the position.
// Traffic:  reads 2 D bytes a key once, and writes 4 bytes a score.
// Numerics: DECODER.md, step 5. Products of two bf16 are exact.
// Limits:   D at most SAMEBITS_MAX_HEAD_SIZE.

#include "attention.cuh"
#include "elementary.cuh"
#include "launch.cuh"

namespace samebits {
namespace {

constexpr int WARPS = 8;
constexpr int KEYS = 8;
constexpr int GROUP = WARPS * KEYS;  // positions of a block
constexpr int GROUPS_PER_CHUNK = CHUNK_POSITIONS / GROUP;
constexpr int BLOCKS_PER_MULTIPROCESSOR = 8;

// The words of a lane of a head: neighbouring words are one load.
template <int WORDS>
__device__ __forceinline__ void load_head(uint32_t (&words)[WORDS], const uint16_t *head) {
  const int lane = threadIdx.x % WARP;
  if constexpr (WORDS >= 4) {
#pragma unroll
    for (int i = 0; i < WORDS / 4; i++) {
      const uint4 v = reinterpret_cast<const uint4 *>(head)[i * WARP + lane];
      words[4 * i] = v.x, words[4 * i + 1] = v.y, words[4 * i + 2] = v.z, words[4 * i + 3] = v.w;
    }
  } else if constexpr (WORDS == 2) {
    const uint2 v = reinterpret_cast<const uint2 *>(head)[lane];
    words[0] = v.x, words[1] = v.y;
  } else {
    words[0] = reinterpret_cast<const uint32_t *>(head)[lane];
  }
}

// One round of the trees of 2 * HALF keys: of the lanes that meet, each keeps half of the keys.
template <int HALF>
__device__ __forceinline__ void fold(float (&sums)[KEYS], int distance) {
  const bool is_upper = (threadIdx.x & static_cast<unsigned>(distance)) != 0;
#pragma unroll
  for (int j = 0; j < HALF; j++) {
    const float given = is_upper ? sums[j] : sums[j + HALF], kept = is_upper ? sums[j + HALF] : sums[j];
    sums[j] = add(kept, __shfl_xor_sync(ALL_LANES, given, distance));
  }
}

template <int WORDS>
__global__ void __launch_bounds__(WARPS *WARP) attention_scores(const SamebitsAttention of, int m_count) {
  begin_beside_previous();
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const StepRange step = step_range(of, m_count);
  const int groups = step.chunks * GROUPS_PER_CHUNK, heads_per_key = of.heads / of.key_value_heads;
  constexpr int padded = WORDS * LANE_STRIDE;
  for (int work = blockIdx.x; work < groups * of.key_value_heads; work += gridDim.x) {
    const int key_value_head = work / groups, group = work % groups;
    const int first = step.first_chunk * CHUNK_POSITIONS + group * GROUP + warp * KEYS;
    if (first > step.seen.last || first + KEYS <= step.seen.first) continue;

    uint32_t keys[KEYS][WORDS];
#pragma unroll
    for (int j = 0; j < KEYS; j++) {
      const int position = first + j < step.seen.first  ? step.seen.first
                           : first + j > step.seen.last ? step.seen.last
                                                        : first + j;
      load_head<WORDS>(keys[j], static_cast<const uint16_t *>(of.keys) + cache_row(of, key_value_head, position, padded));
    }
    for (int query = 0; query < heads_per_key * m_count; query++) {
      const int m = query / heads_per_key, head = key_value_head * heads_per_key + query % heads_per_key;
      uint32_t words[WORDS];
      load_head<WORDS>(words, static_cast<const uint16_t *>(of.queries) + (static_cast<size_t>(m) * of.heads + head) * padded);
      float sums[KEYS] = {};
#pragma unroll
      for (int i = 0; i < WORDS; i++) {
        const float low = low_bf16(words[i]), high = high_bf16(words[i]);
#pragma unroll
        for (int j = 0; j < KEYS; j++) {
          sums[j] = add_exact_product(sums[j], low, low_bf16(keys[j][i]));
          sums[j] = add_exact_product(sums[j], high, high_bf16(keys[j][i]));
        }
      }
      fold<4>(sums, 16);
      fold<2>(sums, 8);
      fold<1>(sums, 4);
      float score = sums[0];
      score = add(score, __shfl_xor_sync(ALL_LANES, score, 2));
      score = add(score, __shfl_xor_sync(ALL_LANES, score, 1));
      if (lane % 4 == 0) {
        const int chunk = group / GROUPS_PER_CHUNK, slot = first % CHUNK_POSITIONS + lane / 4;
        of.scores[chunk_row(of, m, head, chunk) * CHUNK_POSITIONS + slot] = score;
      }
    }
  }
}

using Kernel = void (*)(SamebitsAttention, int);

Kernel kernel_for(int words) {
  switch (words) {
    case 1: return attention_scores<1>;
    case 2: return attention_scores<2>;
    case 4: return attention_scores<4>;
    default: return attention_scores<MAX_WORDS>;
  }
}

}  // namespace
}  // namespace samebits

int samebits_attention_scores(const SamebitsLaunch *launch, const SamebitsAttention *of, int32_t m) {
  using namespace samebits;
  const int64_t groups = static_cast<int64_t>(of->chunks) * GROUPS_PER_CHUNK * of->key_value_heads;
  const int64_t most = static_cast<int64_t>(launch->multiprocessor_count) * BLOCKS_PER_MULTIPROCESSOR;
  const dim3 grid(static_cast<unsigned>(groups < most ? groups : most));
  return launch_overlapping_kernel(*launch, kernel_for(words_of(of->head_size)), grid, WARPS * WARP, *of, static_cast<int>(m));
}

int samebits_load_attention_scores() {
  using namespace samebits;
  for (const int words : {1, 2, 4, MAX_WORDS}) {
    if (const int error = load_kernel(kernel_for(words))) return error;
  }
  return cudaSuccess;
}

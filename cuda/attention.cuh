// What the kernels of attention agree on: which positions a token sees, and how queries, keys and values lie in memory.
//
//   heads    padded to `padded` values, 64 times a power of two
//   queries  bf16[M, heads, padded], and
//   keys     bf16[key_value_heads, slots, padded], of each head in the order in which the lanes of a warp read it: lane j has the
//            values j, j + 32, ..., in words of two, four words or less after each other; padding is 0
//   values   bf16[key_value_heads, slots, padded] in their order; padding is anything

#pragma once

#include "decoder.h"
#include "hardware.cuh"

namespace samebits {

constexpr int CHUNK_POSITIONS = SAMEBITS_CHUNK_POSITIONS;
constexpr int LANE_STRIDE = SAMEBITS_CACHE_HEAD_SIZE;  // values that give each lane one word
constexpr int MAX_WORDS = SAMEBITS_MAX_HEAD_SIZE / LANE_STRIDE;

// Words that a lane has of a padded head: 1, 2, 4 or 8.
__host__ __device__ inline int words_of(int head_size) {
  int words = 1;
  while (words * LANE_STRIDE < head_size) words *= 2;
  return words;
}

__host__ __device__ inline int padded_of(int head_size) { return words_of(head_size) * LANE_STRIDE; }

// Where value i of a query or key lies in its head.
__device__ __forceinline__ int place_in_head(int i, int words) {
  const int lane = i % WARP, pair = i / WARP / 2, together = words < 4 ? words : 4;
  return 2 * (pair / together * WARP * together + lane * together + pair % together) + i / WARP % 2;
}

// Positions first..last.
struct Range {
  int first, last;
};

__device__ __forceinline__ Range seen_from(const SamebitsAttention &of, int t) {
  return {t >= of.window ? t - of.window + 1 : 0, t};
}

// Chunks that the tokens of a step see, and all of the positions.
struct StepRange {
  int position;
  int first_chunk, chunks;
  Range seen;
};

__device__ __forceinline__ StepRange step_range(const SamebitsAttention &of, int m_count) {
  const int position = of.input->position;
  const Range seen = {seen_from(of, position).first, position + m_count - 1};
  const int first_chunk = seen.first / CHUNK_POSITIONS;
  return {position, first_chunk, seen.last / CHUNK_POSITIONS - first_chunk + 1, seen};
}

__device__ __forceinline__ size_t cache_row(const SamebitsAttention &of, int key_value_head, int position, int padded) {
  return (static_cast<size_t>(key_value_head) * of.slots + position % of.slots) * padded;
}

// Of a token's head and a chunk of the step.
__device__ __forceinline__ size_t chunk_row(const SamebitsAttention &of, int m, int head, int chunk) {
  return (static_cast<size_t>(m) * of.heads + head) * of.chunks + chunk;
}

}  // namespace samebits

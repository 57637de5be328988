// How a block gets a step's activations: its warps look at them until every word is there.

#pragma once

#include "walk.cuh"

namespace samebits {

// Of x, for each thread: with one row all of it where K is common, with more there is more to fetch.
__host__ __device__ constexpr int vectors_in_flight(int m) { return m == 1 ? 4 : 8; }

__device__ __forceinline__ bool is_pending(uint32_t word) { return word == PENDING; }

__device__ __forceinline__ bool is_pending(const uint4 &v) {
  return is_pending(v.x) || is_pending(v.y) || is_pending(v.z) || is_pending(v.w);
}

// Waits until the last of what a step waits for has been written, as a sign that the rest will be there or soon come. Every look
// takes from the weights' way through L2, and all blocks look at the same line: so one warp of the block looks, and tells. The only
// loop in which a warp that waits asks for weights.
template <typename Word, typename WhileWaiting>
__device__ __forceinline__ void await_last(const Word *last, Barrier &comes, int number, WhileWaiting while_waiting) {
  const bool looks = threadIdx.x < WARP;
  const auto is_there = [&] {
    return looks ? __any_sync(ALL_LANES, is_pending(load_shared_by_all(last))) == 0 : comes.is_over(number);
  };
  while (!is_there()) while_waiting();
  if (!looks) return;
  comes.arrive();
  comes.wait(number);
}

// Waits until all M rows of a step's x are written, copies them to `to` if there is one, and finds the largest scale word of
// each as far as this warp has seen it.
template <int M>
__device__ __forceinline__ void receive(const void *x, int chunks, int row_bytes, char *to, int32_t (&largest)[M]) {
  constexpr int VECTORS = vectors_in_flight(M);
  const int lane = threadIdx.x % WARP, threads = blockDim.x;
  const int row_vectors = row_bytes / VECTOR_BYTES, vectors = M * row_vectors;
  const int code_vectors = chunks * BLOCKS_PER_CHUNK * CODE_VECTORS;
  const uint4 *const from = static_cast<const uint4 *>(x);
#pragma unroll
  for (int m = 0; m < M; m++) largest[m] = ZERO_BLOCK;
#pragma unroll 1
  for (int first = threadIdx.x - lane; first < vectors; first += threads * VECTORS) {
    uint4 v[VECTORS];
#pragma unroll
    for (int i = 0; i < VECTORS; i++) v[i] = make_uint4(first + i * threads + lane < vectors ? PENDING : 0, 0, 0, 0);
    const auto look = [&] {
#pragma unroll
      for (int i = 0; i < VECTORS; i++) {
        if (is_pending(v[i])) v[i] = load_shared_by_all(from + first + i * threads + lane);
      }
      bool misses = false;
#pragma unroll
      for (int i = 0; i < VECTORS; i++) misses = misses || is_pending(v[i]);
      return misses;
    };
    while (__any_sync(ALL_LANES, look()) != 0) look_again();
#pragma unroll
    for (int i = 0; i < VECTORS; i++) {
      const int at = first + i * threads + lane;
      if (at >= vectors) continue;
      if (to != nullptr) reinterpret_cast<uint4 *>(to)[at] = v[i];
      // Terms are pairs of a scale word and a sum.
      const int32_t word = max(static_cast<int32_t>(v[i].x), static_cast<int32_t>(v[i].z));
#pragma unroll
      for (int m = 0; m < M; m++) {
        const int in_row = at - m * row_vectors;
        if (in_row >= code_vectors && in_row < row_vectors) largest[m] = max(largest[m], word);
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; m++) largest[m] = max_over_warp(largest[m]);
}

}  // namespace samebits

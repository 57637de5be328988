// How a block gets a step's activations: its warps look at them until every word is there.

#pragma once

#include "walk.cuh"

namespace samebits {

// Of x, for each thread; with one row two or three are enough, with more there is more to fetch.
__host__ __device__ constexpr int vectors_in_flight(int m) { return m == 1 ? 3 : 8; }

__device__ __forceinline__ bool is_pending(const uint4 &v) {
  return v.x == PENDING || v.y == PENDING || v.z == PENDING || v.w == PENDING;
}

// Waits until all M rows of a step's x are written, copies them to `to` if there is one, and finds the largest scale word of
// each as far as this warp has seen it.
template <int M, typename WhileWaiting>
__device__ __forceinline__ void receive(const void *x, int chunks, int row_bytes, char *to, int32_t (&largest)[M],
                                        WhileWaiting while_waiting) {
  constexpr int VECTORS = vectors_in_flight(M);
  const int lane = threadIdx.x % WARP, threads = blockDim.x;
  const int row_vectors = row_bytes / VECTOR_BYTES, vectors = M * row_vectors;
  const int code_vectors = chunks * BLOCKS_PER_CHUNK * CODE_VECTORS;
#pragma unroll
  for (int m = 0; m < M; m++) largest[m] = ZERO_BLOCK;
  for (int first = threadIdx.x - lane; first < vectors; first += threads * VECTORS) {
    uint4 v[VECTORS];
#pragma unroll
    for (int i = 0; i < VECTORS; i++) v[i] = make_uint4(PENDING, 0, 0, 0);
    // Every look takes from the weights' way through L2: so a thread looks at the first vector that it waits for, and at the
    // others once that has come.
    bool waits = true;
    for (bool looks_at_all = true; waits;) {
      uint32_t asked = 0;
#pragma unroll
      for (int i = 0; i < VECTORS; i++) {
        const int at = first + i * threads + lane;
        if (at >= vectors || !is_pending(v[i]) || (asked != 0 && !looks_at_all)) continue;
        v[i] = load_shared_by_all(static_cast<const uint4 *>(x) + at);
        asked |= 1u << i;
      }
      waits = looks_at_all = false;
#pragma unroll
      for (int i = 0; i < VECTORS; i++) {
        const bool is_missing = first + i * threads + lane < vectors && is_pending(v[i]);
        waits = waits || is_missing;
        looks_at_all = looks_at_all || (!is_missing && (asked >> i & 1u) != 0);
      }
      waits = __any_sync(ALL_LANES, waits) != 0;
      if (waits) while_waiting();
    }
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

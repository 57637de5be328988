// The sum of 256 values as DECODER.md orders it: for s = 128, 64, ..., 1 in turn, slot j takes slot j + s.

#pragma once

#include "elementary.cuh"
#include "hardware.cuh"

namespace samebits {

constexpr int TREE_SLOTS = 256;
constexpr int SLOTS_PER_LANE = TREE_SLOTS / WARP;

// For a whole warp, every lane of which gets the sum; a lane brings slots lane, lane + 32, .... Rounds of 128, 64 and 32 stay
// in a lane. In the others both of two lanes make the same sum, so that it does not matter which is slot j.
__device__ __forceinline__ float tree_sum(float (&slots)[SLOTS_PER_LANE]) {
#pragma unroll
  for (int s = SLOTS_PER_LANE / 2; s > 0; s /= 2) {
#pragma unroll
    for (int j = 0; j < s; j++) slots[j] = add(slots[j], slots[j + s]);
  }
  float sum = slots[0];
#pragma unroll
  for (int s = WARP / 2; s > 0; s /= 2) sum = add(sum, __shfl_xor_sync(ALL_LANES, sum, s));
  return sum;
}

// The r of RMSNorm for a block of 256 threads, each with the partial sum of its slot; `squares` is shared by them. Call it again
// with the same memory only after the block has synchronized.
__device__ __forceinline__ float rms_scale(float partial_sum, float *squares, float inverse_n, float epsilon) {
  squares[threadIdx.x] = partial_sum;
  __syncthreads();
  float slots[SLOTS_PER_LANE];
#pragma unroll
  for (int i = 0; i < SLOTS_PER_LANE; i++) slots[i] = squares[threadIdx.x % WARP + WARP * i];
  return rsqrt(add(mul(tree_sum(slots), inverse_n), epsilon));
}

}  // namespace samebits

// soft_cap: logits kept between -cap and cap, in place; and arg_max, the largest of them, in the same pass.
//
// Math:     logit = cap * (1 - 2 / (exp(2 l / cap) + 1)); token = min { i : logits[i] = max logits }.
// Layout:   logits f32[rows, n]; best u64, larger for a larger logit and, among equals, for a lower index.
// Threads:  a thread owns one logit, and those a grid further; grid (blocks, rows).
// Traffic:  reads 4 rows n bytes, and writes as many where there is a cap.
// Numerics: DECODER.md, logits (elementary.cuh). 0 and -0 are equal; NaN is smaller than all.
// Limits:   best for one row only.

#include "decoder.h"
#include "elementary.cuh"
#include "hardware.cuh"
#include "launch.cuh"

namespace samebits {
namespace {

constexpr int THREADS = 256;
constexpr int BLOCKS_PER_MULTIPROCESSOR = 4;

// Ordered as the logits are, then against their indices.
__device__ __forceinline__ uint64_t rank_of(float logit, int index) {
  const uint32_t bits = bits_from_float(add(logit, 0.0f));
  const uint32_t ordered = logit != logit ? 0u : (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | (0xffffffffu - static_cast<uint32_t>(index));
}

__global__ void __launch_bounds__(THREADS) soft_cap(const SamebitsLogits of) {
  float *const logits = of.logits + static_cast<size_t>(blockIdx.y) * of.n;
  const float two_over_cap = of.cap == 0.0f ? 0.0f : 2.0f / of.cap;
  uint64_t best = 0;
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < of.n; i += gridDim.x * THREADS) {
    float logit = logits[i];
    if (of.cap != 0.0f) {
      logit = soft_capped(logit, of.cap, two_over_cap);
      logits[i] = logit;
    }
    const uint64_t rank = rank_of(logit, i);
    best = rank > best ? rank : best;
  }
  if (of.best == nullptr) return;
  for (int distance = WARP / 2; distance > 0; distance /= 2) {
    const uint64_t other = __shfl_xor_sync(ALL_LANES, best, distance);
    best = other > best ? other : best;
  }
  if (threadIdx.x % WARP == 0) atomicMax(reinterpret_cast<unsigned long long *>(of.best), best);
}

}  // namespace
}  // namespace samebits

int samebits_soft_cap(const SamebitsLaunch *launch, const SamebitsLogits *of, int32_t rows) {
  using namespace samebits;
  const int blocks = (of->n + THREADS - 1) / THREADS, most = launch->multiprocessor_count * BLOCKS_PER_MULTIPROCESSOR;
  const dim3 grid(static_cast<unsigned>(blocks < most ? blocks : most), static_cast<unsigned>(rows));
  return launch_kernel(*launch, soft_cap, grid, THREADS, *of);
}

int32_t samebits_token_of(uint64_t best) { return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(best)); }

int samebits_load_soft_cap() { return samebits::load_kernel(samebits::soft_cap); }

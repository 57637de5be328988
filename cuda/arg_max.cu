// arg_max: the index of the largest logit, the lowest among equals.
//
// Math:     token = min { i : logits[i] = max logits }.
// Layout:   logits f32[n]; best u64, 0 before, larger for a larger logit and, among equals, for a lower index.
// Threads:  a thread takes a logit, and those a grid further; the best of a warp goes to all by an atomic maximum.
// Traffic:  reads 4 n bytes.
// Numerics: DECODER.md, logits. Comparisons only; 0 and -0 are equal, NaN is less than any other.
// Limits:   n below 2^32.

#include "decoder.h"
#include "elementary.cuh"
#include "hardware.cuh"
#include "launch.cuh"

namespace samebits {
namespace {

constexpr int THREADS = 256;
constexpr int BLOCKS_PER_MULTIPROCESSOR = 4;

__device__ __forceinline__ uint64_t rank_of(float logit, int index) {
  const uint32_t bits = bits_from_float(add(logit, 0.0f));
  const uint32_t ordered = logit != logit ? 0u : (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
  return static_cast<uint64_t>(ordered) << 32 | (0xffffffffu - static_cast<uint32_t>(index));
}

__global__ void __launch_bounds__(THREADS) arg_max(const float *logits, int n, unsigned long long *best_of_all) {
  uint64_t best = 0;
  for (int i = blockIdx.x * THREADS + threadIdx.x; i < n; i += gridDim.x * THREADS) {
    const uint64_t rank = rank_of(logits[i], i);
    best = rank > best ? rank : best;
  }
  for (int distance = WARP / 2; distance > 0; distance /= 2) {
    const uint64_t other = __shfl_xor_sync(ALL_LANES, best, distance);
    best = other > best ? other : best;
  }
  if (threadIdx.x % WARP == 0) atomicMax(best_of_all, best);
}

}  // namespace
}  // namespace samebits

int samebits_arg_max(const SamebitsLaunch *launch, const float *logits, int32_t n, uint64_t *best) {
  using namespace samebits;
  const int blocks = (n + THREADS - 1) / THREADS, most = launch->multiprocessor_count * BLOCKS_PER_MULTIPROCESSOR;
  const dim3 grid(static_cast<unsigned>(blocks < most ? blocks : most));
  return launch_kernel(*launch, arg_max, grid, THREADS, logits, static_cast<int>(n),
                       reinterpret_cast<unsigned long long *>(best));
}

int32_t samebits_token_of(uint64_t best) { return static_cast<int32_t>(0xffffffffu - static_cast<uint32_t>(best)); }

int samebits_load_arg_max() { return samebits::load_kernel(samebits::arg_max); }

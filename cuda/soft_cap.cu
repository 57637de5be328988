// soft_cap: logits kept between -cap and cap, in place.
//
// Math:     logit = cap * (1 - 2 / (exp(2 l / cap) + 1)), which is cap * tanh(l / cap).
// Layout:   logits f32[rows, n].
// Threads:  a thread a logit; grid (n / THREADS, rows).
// Traffic:  reads and writes 4 rows n bytes.
// Numerics: DECODER.md, logits (elementary.cuh). No product is fused with a sum.
// Limits:   none.

#include "decoder.h"
#include "elementary.cuh"
#include "launch.cuh"

namespace samebits {
namespace {

constexpr int THREADS = 256;

__global__ void __launch_bounds__(THREADS) soft_cap(float *logits, int n, float cap, float two_over_cap) {
  const int i = blockIdx.x * THREADS + threadIdx.x;
  if (i >= n) return;
  float *const logit = logits + static_cast<size_t>(blockIdx.y) * n + i;
  *logit = soft_capped(*logit, cap, two_over_cap);
}

}  // namespace
}  // namespace samebits

int samebits_soft_cap(const SamebitsLaunch *launch, float *logits, int32_t n, float cap, int32_t rows) {
  using namespace samebits;
  const dim3 grid(static_cast<unsigned>((n + THREADS - 1) / THREADS), static_cast<unsigned>(rows));
  return launch_kernel(*launch, soft_cap, grid, THREADS, logits, static_cast<int>(n), cap, 2.0f / cap);
}

int samebits_load_soft_cap() { return samebits::load_kernel(samebits::soft_cap); }

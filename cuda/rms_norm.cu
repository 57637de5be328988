// rms_norm: what a linear gave to the residual stream, and the stream to the int8 codes that the next linears read.
//
// Math:     where there is y, next_hidden = (hidden + RMSNorm(y, branch_weight)) * scalar; then the codes of
//           bf(RMSNorm(next_hidden, next_weight)).
// Layout:   y, hidden f32[M, n]; weights bf16[n]; codes as activations.cuh lays them out.
// Threads:  block (i, m): each of the blocks of a row has all of its sums, thread j the values with index mod 256 = j, as the sums
//           are defined; block i writes every gridDim.x-th 256 values. Quantizing takes longer than the sums.
// Traffic:  reads 8 M n bytes, and from cache what the other blocks of a row read; writes 4 M n and the codes.
// Numerics: DECODER.md, RMSNorm, steps 1, 7 and 8 (elementary.cuh). No product is fused with a sum.
// Limits:   n a multiple of 32, at most SAMEBITS_MAX_HIDDEN_SIZE; next_hidden apart from hidden, which other blocks still read.

#include "launch.cuh"
#include "quantize_row.cuh"
#include "reduce_tree.cuh"

namespace samebits {
namespace {

constexpr int THREADS = TREE_SLOTS;
// Blocks of a row: with more, each repeats the sums for fewer codes.
constexpr int MAX_BLOCKS = 8;

// EACH: values of a thread.
template <int EACH, bool HAS_BRANCH>
__global__ void __launch_bounds__(THREADS) rms_norm(const SamebitsNorm of) {
  __shared__ float squares[2][TREE_SLOTS];
  __shared__ uint16_t x[EACH * THREADS];
  const int thread = threadIdx.x, m = blockIdx.y, n = of.n;
  const size_t row = static_cast<size_t>(m) * n;
  const float inverse_n = 1.0f / static_cast<float>(n);
  const auto *const branch_weight = static_cast<const uint16_t *>(of.branch_weight);
  const auto *const next_weight = static_cast<const uint16_t *>(of.next_weight);

  float hidden[EACH];
  uint16_t weight[EACH];
  float sum = 0.0f;
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    const int i = k * THREADS + thread;
    hidden[k] = i < n ? of.hidden[row + i] : 0.0f;
    weight[k] = i < n ? next_weight[i] : 0;
  }
  if (HAS_BRANCH) {
    float y[EACH];
    uint16_t y_weight[EACH];
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      const int i = k * THREADS + thread;
      y[k] = i < n ? of.y[row + i] : 0.0f;
      y_weight[k] = i < n ? branch_weight[i] : 0;
    }
#pragma unroll
    for (int k = 0; k < EACH; k++) sum = add(sum, mul(y[k], y[k]));
    const float r = rms_scale(sum, squares[0], inverse_n, of.epsilon);
#pragma unroll
    for (int k = 0; k < EACH; k++) {
      hidden[k] = mul(add(hidden[k], mul(mul(y[k], r), float_from_bf16(y_weight[k]))), of.scalar);
    }
    sum = 0.0f;
  }
#pragma unroll
  for (int k = 0; k < EACH; k++) sum = add(sum, mul(hidden[k], hidden[k]));
  const float r = rms_scale(sum, squares[1], inverse_n, of.epsilon);
#pragma unroll
  for (int k = 0; k < EACH; k++) {
    const int i = k * THREADS + thread;
    x[i] = static_cast<uint16_t>(i < n ? bf16_bits(mul(mul(hidden[k], r), float_from_bf16(weight[k]))) : 0u);
    if (HAS_BRANCH && i < n && k % gridDim.x == blockIdx.x) of.next_hidden[row + i] = hidden[k];
  }

  const int padded = chunks_of(n) * BLOCKS_PER_CHUNK * BLOCK_SIZE;
  for (int i = blockIdx.x * THREADS + thread; i < padded; i += gridDim.x * THREADS) {
    quantize_block(of.x, m, n, i / BLOCK_SIZE, x[i]);
  }
}

using Kernel = void (*)(SamebitsNorm);

template <bool HAS_BRANCH>
Kernel kernel_for(int n) {
  const int each = (n + THREADS - 1) / THREADS;
  if (each <= 2) return rms_norm<2, HAS_BRANCH>;
  if (each <= 8) return rms_norm<8, HAS_BRANCH>;
  if (each <= 16) return rms_norm<16, HAS_BRANCH>;
  if (each <= 24) return rms_norm<24, HAS_BRANCH>;
  if (each <= 32) return rms_norm<32, HAS_BRANCH>;
  return rms_norm<SAMEBITS_MAX_HIDDEN_SIZE / THREADS, HAS_BRANCH>;
}

}  // namespace
}  // namespace samebits

int samebits_rms_norm(const SamebitsLaunch *launch, const SamebitsNorm *of, int32_t m) {
  using namespace samebits;
  if (of->n < BLOCK_SIZE || of->n > SAMEBITS_MAX_HIDDEN_SIZE || of->n % BLOCK_SIZE != 0) return cudaErrorInvalidValue;
  const int each = (of->n + THREADS - 1) / THREADS;
  const dim3 grid(static_cast<unsigned>(each < MAX_BLOCKS ? each : MAX_BLOCKS), static_cast<unsigned>(m));
  const Kernel kernel = of->y != nullptr ? kernel_for<true>(of->n) : kernel_for<false>(of->n);
  return launch_kernel(*launch, kernel, grid, THREADS, *of);
}

int samebits_load_rms_norm() {
  using namespace samebits;
  for (const int each : {2, 8, 16, 24, 32, SAMEBITS_MAX_HIDDEN_SIZE / THREADS}) {
    if (const int error = load_kernel(kernel_for<true>(each * THREADS))) return error;
    if (const int error = load_kernel(kernel_for<false>(each * THREADS))) return error;
  }
  return cudaSuccess;
}

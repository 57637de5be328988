// quantize_activations: bf16 activations to int8, a block of 32 at a time (NUMERICS.md section 1).
//
// Math:     a_i = RNE(127 * x_i / amax_b), asum per run, and of d_b what does not depend on the row (scale_word_of).
// Layout:   x bf16[M, K]; rows as activations.cuh lays them out. Padding blocks are blocks of zeros.
// Threads:  a warp a block, one activation a lane; grid (blocks / WARPS, M).
// Traffic:  reads M * K * 2 bytes; writes M * (K + 8 * K / RUN_SIZE).
// Numerics: integers, except the one product of the scale word.
// Limits:   K a multiple of 32; x 2-byte and rows 16-byte aligned; M at most 65535 (grid y).

#include "activations.cuh"
#include "launch.cuh"
#include "samebits.h"

namespace samebits {
namespace {

constexpr int WARPS = 8;

template <int RUNS>
__global__ void __launch_bounds__(WARPS *WARP) quantize_activations(const uint16_t *x, char *rows, int k) {
  begin_beside_previous();
  const int chunks = chunks_of(k);
  const int block = blockIdx.x * WARPS + threadIdx.x / WARP;
  if (block >= chunks * BLOCKS_PER_CHUNK) return;
  const size_t row = blockIdx.y;
  const int at = block * BLOCK_SIZE + threadIdx.x % WARP;
  write_block<RUNS>(rows + row * row_bytes_of(chunks, RUNS), chunks, block, at < k ? x[row * k + at] : 0u);
}

}  // namespace
}  // namespace samebits

uint64_t samebits_quantized_row_bytes(int32_t k, int32_t group_size) {
  return static_cast<uint64_t>(samebits::row_bytes_of(samebits::chunks_of(k), group_size == 16 ? 2 : 1));
}

int samebits_load_quantize_activations() {
  const int error = samebits::load_kernel(samebits::quantize_activations<1>);
  return error ? error : samebits::load_kernel(samebits::quantize_activations<2>);
}

int samebits_quantize_activations(const SamebitsLaunch *launch, const void *x, void *rows, int32_t m, int32_t k,
                                  int32_t group_size) {
  using namespace samebits;
  if (m < 1 || m > SAMEBITS_MAX_M || k < BLOCK_SIZE || k > SAMEBITS_MAX_K || k % BLOCK_SIZE != 0) {
    return cudaErrorInvalidValue;
  }
  const int blocks = chunks_of(k) * BLOCKS_PER_CHUNK;
  const dim3 grid(static_cast<unsigned>((blocks + WARPS - 1) / WARPS), static_cast<unsigned>(m));
  const auto kernel = group_size == 16 ? quantize_activations<2> : quantize_activations<1>;
  return launch_kernel(*launch, kernel, grid, WARPS * WARP, static_cast<const uint16_t *>(x), static_cast<char *>(rows),
                       static_cast<int>(k));
}

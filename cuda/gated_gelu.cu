// gated_gelu: gate and up to the int8 codes that down_proj reads.
//
// Math:     the codes of bf(gelu(gate) * up), gelu by its tanh.
// Layout:   gate, up f32[M, n]; codes as activations.cuh lays them out.
// Threads:  a warp a block of 32, one value a lane; grid (blocks / WARPS, M).
// Traffic:  reads 8 M n bytes, writes the codes.
// Numerics: DECODER.md, step 8 (elementary.cuh). No product is fused with a sum.
// Limits:   n a multiple of 32.

#include "elementary.cuh"
#include "launch.cuh"
#include "quantize_row.cuh"

namespace samebits {
namespace {

constexpr int WARPS = 4;

__global__ void __launch_bounds__(WARPS *WARP) gated_gelu(const SamebitsGelu of) {
  const int block = blockIdx.x * WARPS + threadIdx.x / WARP, m = blockIdx.y;
  if (block >= chunks_of(of.n) * BLOCKS_PER_CHUNK) return;
  const int i = block * BLOCK_SIZE + threadIdx.x % WARP;
  uint32_t x = 0;
  if (i < of.n) {
    const size_t at = static_cast<size_t>(m) * of.n + i;
    x = bf16_bits(mul(gelu(of.gate[at]), of.up[at]));
  }
  quantize_block(of.gated, m, of.n, block, x);
}

}  // namespace
}  // namespace samebits

int samebits_gated_gelu(const SamebitsLaunch *launch, const SamebitsGelu *of, int32_t m) {
  using namespace samebits;
  const int blocks = chunks_of(of->n) * BLOCKS_PER_CHUNK;
  const dim3 grid(static_cast<unsigned>((blocks + WARPS - 1) / WARPS), static_cast<unsigned>(m));
  return launch_kernel(*launch, gated_gelu, grid, WARPS * WARP, *of);
}

int samebits_load_gated_gelu() { return samebits::load_kernel(samebits::gated_gelu); }

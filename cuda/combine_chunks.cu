// combine_chunks: the chunks of attention_chunks.cu to the int8 codes that o_proj reads.
//
// Math:     M = largest m, f = exp(m - M); L = sum of l f, O = sum of o f over the chunks; the codes of bf(O / L).
// Layout:   chunk_terms {m, l} f32[M, heads, chunks], outputs f32[M, heads, chunks, D]; codes of bf16[M, heads * D] as
//           activations.cuh lays them out.
// Threads:  a warp a block of 32 values, one a lane; grid (blocks / WARPS, M).
// Traffic:  reads 4 D + 8 bytes a chunk and head, and writes the codes.
// Numerics: DECODER.md, step 6, chunks in ascending order (elementary.cuh). No product is fused with a sum.
// Limits:   heads * D a multiple of 32.

#include "attention.cuh"
#include "elementary.cuh"
#include "launch.cuh"
#include "quantize_row.cuh"

namespace samebits {
namespace {

constexpr int WARPS = 4;

__global__ void __launch_bounds__(WARPS *WARP) combine_chunks(const SamebitsAttention of, int m_count) {
  begin_beside_previous();
  const int n = of.heads * of.head_size, m = blockIdx.y;
  const int block = blockIdx.x * WARPS + threadIdx.x / WARP, i = block * BLOCK_SIZE + threadIdx.x % WARP;
  if (block >= chunks_of(n) * BLOCKS_PER_CHUNK) return;
  uint32_t x = 0;
  if (i < n) {
    const StepRange step = step_range(of, m_count);
    const Range seen = seen_from(of, step.position + m);
    const int first = seen.first / CHUNK_POSITIONS - step.first_chunk;
    const int count = seen.last / CHUNK_POSITIONS - seen.first / CHUNK_POSITIONS + 1;
    const size_t row = chunk_row(of, m, i / of.head_size, first);
    const float2 *const terms = reinterpret_cast<const float2 *>(of.chunk_terms) + row;
    const float *const outputs = of.outputs + row * of.head_size + i % of.head_size;
    float largest = terms[0].x;
    for (int c = 1; c < count; c++) largest = terms[c].x > largest ? terms[c].x : largest;
    float sum = 0.0f, output = 0.0f;
#pragma unroll 4
    for (int c = 0; c < count; c++) {
      const float factor = exponential(add(terms[c].x, -largest));
      sum = add(sum, mul(terms[c].y, factor));
      output = add(output, mul(outputs[static_cast<size_t>(c) * of.head_size], factor));
    }
    x = bf16_bits(mul(output, rcp(sum)));
  }
  quantize_block(of.attended, m, n, block, x);
}

}  // namespace
}  // namespace samebits

int samebits_combine_chunks(const SamebitsLaunch *launch, const SamebitsAttention *of, int32_t m) {
  using namespace samebits;
  const int blocks = chunks_of(of->heads * of->head_size) * BLOCKS_PER_CHUNK;
  const dim3 grid(static_cast<unsigned>((blocks + WARPS - 1) / WARPS), static_cast<unsigned>(m));
  return launch_overlapping_kernel(*launch, combine_chunks, grid, WARPS * WARP, *of, static_cast<int>(m));
}

int samebits_load_combine_chunks() { return samebits::load_kernel(samebits::combine_chunks); }

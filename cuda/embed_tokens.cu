// embed_tokens: rows of the embedding to the residual stream.
//
// Math:     hidden = E[token] * RN32(sqrt(n)).
// Layout:   E bf16[vocabulary, n]; hidden f32[M, n].
// Threads:  a thread a value; grid (n / THREADS, M).
// Traffic:  reads 2 M n bytes, writes 4 M n.
// Numerics: DECODER.md, token to hidden. One product, which nothing here consumes.
// Limits:   tokens below the vocabulary's size.

#include "decoder.h"
#include "elementary.cuh"
#include "launch.cuh"

namespace samebits {
namespace {

constexpr int THREADS = 256;

__global__ void __launch_bounds__(THREADS) embed_tokens(const SamebitsEmbed of) {
  const int i = blockIdx.x * THREADS + threadIdx.x, m = blockIdx.y;
  if (i >= of.n) return;
  const uint16_t *const row = static_cast<const uint16_t *>(of.embedding) + static_cast<size_t>(of.input->tokens[m]) * of.n;
  of.hidden[static_cast<size_t>(m) * of.n + i] = mul(float_from_bf16(row[i]), of.scale);
}

}  // namespace
}  // namespace samebits

int samebits_embed_tokens(const SamebitsLaunch *launch, const SamebitsEmbed *of, int32_t m) {
  using namespace samebits;
  const dim3 grid(static_cast<unsigned>((of->n + THREADS - 1) / THREADS), static_cast<unsigned>(m));
  return launch_kernel(*launch, embed_tokens, grid, THREADS, *of);
}

int samebits_load_embed_tokens() { return samebits::load_kernel(samebits::embed_tokens); }

// How quantized activations lie in memory, and the one function that writes them: the quantizer's threads call it, and so do
// those of a linear whose output is the next one's input.
//
// A row of K is padded to whole chunks of 128 k, and holds codes, then terms:
//   codes  8 bytes for 8 k: first the even k, then the odd. A weight word, 8 codes of 4 bits, meets them with
//          `w & 0x0f0f0f0f` and `w >> 4 & 0x0f0f0f0f` and no permutation.
//   terms  {i32 scale word, f32 asum} a run of 32 or 16 k (numerics.cuh).
// No word of a row can be PENDING, so a reader sees of every word by itself whether it has been written.

#pragma once

#include "hardware.cuh"
#include "numerics.cuh"

namespace samebits {

constexpr int BLOCKS_PER_CHUNK = 4;
constexpr int CODE_VECTORS = 2;  // 16-byte vectors of a block's codes
// Neither four codes (each -127..127), nor a scale word, nor an integer as f32.
constexpr uint32_t PENDING = 0x80808080u;

__host__ __device__ __forceinline__ int chunks_of(int k) { return (k / BLOCK_SIZE + BLOCKS_PER_CHUNK - 1) / BLOCKS_PER_CHUNK; }

// Bytes of a quantized row.
__host__ __device__ __forceinline__ int row_bytes_of(int chunks, int runs) {
  return chunks * BLOCKS_PER_CHUNK * (BLOCK_SIZE + 8 * runs);
}

// Writes block `block` of a row that others read, one activation a lane, as bf16 bits; for a whole warp.
template <int RUNS>
__device__ __forceinline__ void write_block(char *row, int chunks, int block, uint32_t x) {
  const int lane = threadIdx.x % WARP;
  const uint32_t magnitude = x & 0x7fffu;
  const uint32_t block_max = static_cast<uint32_t>(max_over_warp(static_cast<int>(magnitude)));
  const int32_t scale_word = scale_word_of(block_max);
  int code = 0;
  if (scale_word != ZERO_BLOCK && scale_word != NAN_BLOCK) {
    code = quantize_code(magnitude, block_max, block_reciprocal(block_max));
    if ((x & 0x8000u) != 0) code = -code;
  }

  int asum = code;
#pragma unroll
  for (int distance = WARP / RUNS / 2; distance > 0; distance /= 2) asum += __shfl_xor_sync(ALL_LANES, asum, distance);

  // Lanes 8j and 8j + 1 gather the even and the odd codes of the 8 k from 8j.
  uint32_t word = static_cast<uint32_t>(code) & 0xffu;
  word |= __shfl_xor_sync(ALL_LANES, word, 2) << 8;
  word |= __shfl_xor_sync(ALL_LANES, word, 4) << 16;
  const int j = lane / 8, odd = lane % 8;
  if (odd < 2) {
    uint32_t *const codes = reinterpret_cast<uint32_t *>(row) + block * (BLOCK_SIZE / 4);
    store_shared_by_all(codes + 2 * j + odd, word);
  }
  if (lane % (WARP / RUNS) == 0) {
    uint64_t *const terms = reinterpret_cast<uint64_t *>(row + chunks * BLOCKS_PER_CHUNK * BLOCK_SIZE);
    const uint64_t sum_bits = bits_from_float(static_cast<float>(asum));
    store_shared_by_all(terms + block * RUNS + lane / (WARP / RUNS), sum_bits << 32 | static_cast<uint32_t>(scale_word));
  }
}

}  // namespace samebits

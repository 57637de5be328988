// What becomes of the sums of a tile: outputs, and the codes that a later step reads.

#pragma once

#include "elementary.cuh"
#include "walk.cuh"

namespace samebits {

// Block `tile` of a row that a linear quantizes, and what pads the row behind its last block.
template <int RUNS>
__device__ __forceinline__ void write_output_block(const SamebitsLinear &linear, char *row, int tile, uint32_t value) {
  const int chunks = chunks_of(linear.n), blocks = linear.n / BLOCK_SIZE;
  const int end = tile < blocks - 1 ? tile + 1 : chunks * BLOCKS_PER_CHUNK;
#pragma unroll 1
  for (int block = tile; block < end; block++, value = 0) write_block<RUNS>(row, chunks, block, value);
}

// y of 32 rows from their sums, one a lane; and quantized, if a later step reads it.
template <int RUNS>
__device__ __forceinline__ void finish(const SamebitsLinear &linear, int tile, int m, int64_t sum, int row_exponent) {
  const int lane = threadIdx.x % WARP, n = tile * TILE_ROWS + lane;
  const uint32_t bits = result_bits(sum, linear.weight_exponent, row_exponent);
  const size_t at = static_cast<size_t>(m) * linear.n + n;
  if (!linear.output_bf16) {
    if (n < linear.n) static_cast<uint32_t *>(linear.y)[at] = bits;
    return;
  }
  const uint16_t rounded = bf16_from_result(bits);
  if (linear.quantized != nullptr) {
    const size_t row_bytes = row_bytes_of(chunks_of(linear.n), RUNS);
    write_output_block<RUNS>(linear, static_cast<char *>(linear.quantized) + m * row_bytes, tile, rounded);
  }
  if (n < linear.n) static_cast<uint16_t *>(linear.y)[at] = rounded;
}

// The same in a walk that decodes: y is f32 for whoever waits for it, or, gated, what the next step reads.
template <int RUNS>
__device__ __forceinline__ void finish_decoding(const SamebitsLinear &linear, int tile, int64_t sum, int row_exponent) {
  const int n = tile * TILE_ROWS + static_cast<int>(threadIdx.x % WARP);
  const uint32_t bits = result_bits(sum, linear.weight_exponent, row_exponent);
  if (linear.gate == nullptr) {
    if (n < linear.n) store_shared_by_all(static_cast<uint32_t *>(linear.y) + n, bits);
    return;
  }
  uint32_t gate = PENDING;
  while (true) {
    if (gate == PENDING) gate = load_shared_by_all(static_cast<const uint32_t *>(linear.gate) + n);
    if (__any_sync(ALL_LANES, gate == PENDING) == 0) break;
    look_again();
  }
  write_output_block<RUNS>(linear, static_cast<char *>(linear.quantized), tile,
                           bf16_bits(mul(gelu(float_from_bits(gate)), float_from_bits(bits))));
}

}  // namespace samebits

// bf16 values, one a lane of a warp, as quantized rows for every kind of linear that reads them.

#pragma once

#include "activations.cuh"
#include "decoder.h"

namespace samebits {

// Writes block `block` of row `m` of K = `k`, as write_block does, wherever somebody reads it.
__device__ __forceinline__ void quantize_block(const SamebitsQuantizedRows &to, int m, int k, int block, uint32_t x) {
  const int chunks = chunks_of(k);
  if (to.rows[0] != nullptr) {
    write_block<1>(static_cast<char *>(to.rows[0]) + static_cast<size_t>(m) * row_bytes_of(chunks, 1), chunks, block, x);
  }
  if (to.rows[1] != nullptr) {
    write_block<2>(static_cast<char *>(to.rows[1]) + static_cast<size_t>(m) * row_bytes_of(chunks, 2), chunks, block, x);
  }
}

}  // namespace samebits

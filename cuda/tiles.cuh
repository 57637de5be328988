// How weights lie in device memory: in tiles of 32 rows and chunks of 128 k, in the order in which lanes read them, so that
// what a warp loads at once is one stretch of memory. With g = lane / 4 and t = lane % 4:
//
//   codes       [tile][chunk][vector of 16 bytes]: vector 32 j + lane is block t of the chunk, row 8 j + g of the tile
//   scale_zero  [tile][chunk, or group when that is larger][g][group of the chunk][j]: u32, scale in the low and zero point
//               in the high half, so that a lane's four rows lie side by side
//
// N and K are padded with zeros to whole tiles and chunks.

#pragma once

#include "activations.cuh"
#include "samebits.h"

namespace samebits {

constexpr int TILE_ROWS = 32;
constexpr int ROWS_PER_LANE = 4;
constexpr int ROWS_APART = TILE_ROWS / ROWS_PER_LANE;  // of one lane
constexpr int CHUNK_K = BLOCK_SIZE * BLOCKS_PER_CHUNK;
constexpr int VECTOR_BYTES = 16;
constexpr int CHUNK_CODE_BYTES = TILE_ROWS * CHUNK_K / 2;

__host__ __device__ __forceinline__ int tiles_of(int n) { return (n + TILE_ROWS - 1) / TILE_ROWS; }

// Where in the scales of a tile those of a chunk's group `group` begin, for the lanes with this g.
__host__ __device__ __forceinline__ int scale_offset(const SamebitsScaleLayout &of, int chunk, int g, int group) {
  return (((chunk >> of.log2_group_chunks) * ROWS_APART + g) * of.groups_per_chunk + group) * VECTOR_BYTES;
}

inline SamebitsScaleLayout scale_layout_of(const SamebitsShape &shape) {
  SamebitsScaleLayout layout = {1, 0, 0};
  if (shape.group_size < CHUNK_K) layout.groups_per_chunk = CHUNK_K / shape.group_size;
  while (CHUNK_K << layout.log2_group_chunks < shape.group_size) layout.log2_group_chunks++;
  const int chunks = chunks_of(shape.k);
  layout.tile_bytes = scale_offset(layout, chunks - 1, ROWS_APART, 0);
  return layout;
}

}  // namespace samebits

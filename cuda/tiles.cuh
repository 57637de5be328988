// How weights lie in device memory: in tiles of 32 rows and chunks of 128 k, in the order in which lanes read them, so that
// what a warp loads at once is one stretch of memory. With g = lane / 4 and t = lane % 4:
//
//   codes   [tile][chunk][vector of 16 bytes]: vector 32 j + lane is block t of the chunk, row 8 j + g of the tile
//   scales  [tile][chunk, or group when that is larger][g][group of the chunk][j]: u32, scale in the low and zero point or
//           offset in the high half, so that a lane's four rows lie side by side
//
// Of a nested form, whose K is whole pairs of chunks and whose groups are 256 at the most:
//
//   scales  [tile][pair of chunks], each of them steps [g][j]: u32, of the scale in the low half; then codes [chunk, or the pair
//           when that is a group][group, or with groups of 16 two][g][group of the two][j]: u16, of the scale in the low byte
//
// N and K are padded with zeros to whole tiles and chunks.

#pragma once

#include "activations.cuh"
#include "weight_form.hpp"

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

// Of a pair of chunks of a nested form: its steps, the codes of one chunk's group `group` from theirs on for the lanes with this
// g, how far behind the codes of an even chunk those of an odd one are, and the whole pair.
constexpr int STEPS_BYTES = TILE_ROWS * 4;
constexpr int NESTED_CODE_BYTES = 2;

__host__ __device__ __forceinline__ int nested_code_offset(int group, int g, int runs) {
  return ((group / runs * ROWS_APART + g) * runs + group % runs) * ROWS_PER_LANE * NESTED_CODE_BYTES;
}

__host__ __device__ __forceinline__ int nested_odd_bytes(const SamebitsScaleLayout &of) {
  return of.log2_group_chunks > 0 ? 0 : of.groups_per_chunk * TILE_ROWS * NESTED_CODE_BYTES;
}

__host__ __device__ __forceinline__ int nested_pair_bytes(const SamebitsScaleLayout &of) {
  return STEPS_BYTES + of.groups_per_chunk * TILE_ROWS * NESTED_CODE_BYTES + nested_odd_bytes(of);
}

inline SamebitsScaleLayout scale_layout_of(const SamebitsShape &shape, SamebitsFormKind form) {
  SamebitsScaleLayout layout = {1, 0, 0};
  if (shape.group_size < CHUNK_K) layout.groups_per_chunk = CHUNK_K / shape.group_size;
  while (CHUNK_K << layout.log2_group_chunks < shape.group_size) layout.log2_group_chunks++;
  const int chunks = chunks_of(shape.k);
  layout.tile_bytes = is_nested(form) ? chunks / 2 * nested_pair_bytes(layout) : scale_offset(layout, chunks - 1, ROWS_APART, 0);
  return layout;
}

}  // namespace samebits

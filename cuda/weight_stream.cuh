// A warp's stream of weights: asynchronous copies, some chunks ahead of its arithmetic, across tiles and steps.

#pragma once

#include "walk.cuh"

namespace samebits {

// What a lane holds of a chunk: one block of four rows, and the scales and zero points of its runs.
template <int RUNS>
struct Chunk {
  uint4 codes[ROWS_PER_LANE];
  uint4 scales[RUNS];
};

// A warp's way through all weights, up to `stages` chunks ahead of its arithmetic.
template <int RUNS, int WARPS_OF_BLOCK>
class Stream {
 public:
  // `ring` is where this lane's vectors of the ring begin.
  __device__ __forceinline__ Stream(const SamebitsStep *known, char *ring, int stages, int warp, int lane)
      : known_(known), ring_(ring), stages_(stages), warp_(warp), lane_(lane) {}

  // Asks for the next chunk, which must have a place; whether the steps up to `last_step` have one.
  __device__ __forceinline__ bool ask(int last_step) {
    if (pair_ >= end_) next_step(last_step);
    if (pair_ >= end_) return false;
    copy_chunk();
    return true;
  }

  // Asks until the ring is full.
  __device__ __forceinline__ void fill(int last_step) {
    while (ahead_ < stages_ && ask(last_step)) {
    }
  }

  // The oldest chunk in the ring, once it is there; its place is free then.
  __device__ __forceinline__ Chunk<RUNS> take() {
    if (ahead_ > 4) {
      await_copies<4>();
    } else if (ahead_ > 3) {
      await_copies<3>();
    } else if (ahead_ > 2) {
      await_copies<2>();
    } else if (ahead_ > 1) {
      await_copies<1>();
    } else {
      await_copies<0>();
    }
    const char *const from = ring_ + oldest_ * stage_bytes_of(RUNS);
    Chunk<RUNS> chunk;
#pragma unroll
    for (int j = 0; j < ROWS_PER_LANE; j++) {
      chunk.codes[j] = *reinterpret_cast<const uint4 *>(from + j * WARP * VECTOR_BYTES);
    }
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      chunk.scales[run] = *reinterpret_cast<const uint4 *>(from + CHUNK_CODE_BYTES + run * WARP * VECTOR_BYTES);
    }
    oldest_ = oldest_ + 1 == stages_ ? 0 : oldest_ + 1;
    ahead_--;
    return chunk;
  }

 private:
  __device__ __forceinline__ void next_step(int last_step) {
    while (pair_ >= end_ && step_ < last_step) {
      const SamebitsStep &next = known_[++step_ % KNOWN_STEPS];
      chunks_ = next.chunks;
      pair_ = first_pair(next, blockIdx.x) + warp_;
      end_ = first_pair(next, blockIdx.x + 1);
      if (pair_ >= end_) continue;
      tile_ = pair_ / chunks_;
      chunk_ = pair_ % chunks_;
      find_linear();
    }
  }

  __device__ __forceinline__ void find_linear() {
    const int g = lane_ / BLOCKS_PER_CHUNK, t = lane_ % BLOCKS_PER_CHUNK;
    const SamebitsLinear &linear = linear_of(known_[step_ % KNOWN_STEPS], tile_);
    const size_t own_tile = tile_ - linear.first_tile, pair = own_tile * chunks_ + chunk_;
    codes_ = static_cast<const char *>(linear.codes) + pair * CHUNK_CODE_BYTES + lane_ * VECTOR_BYTES;
    const int group = t * linear.scale_layout.groups_per_chunk / BLOCKS_PER_CHUNK;
    scales_ = static_cast<const char *>(linear.scale_zero) + own_tile * linear.scale_layout.tile_bytes +
              scale_offset(linear.scale_layout, 0, g, group);
    scale_tile_bytes_ = linear.scale_layout.tile_bytes;
    scale_step_bytes_ = scale_offset(linear.scale_layout, 0, ROWS_APART, 0);
    log2_group_chunks_ = linear.scale_layout.log2_group_chunks;
    last_tile_ = linear.tile_end - 1;
  }

  __device__ __forceinline__ void copy_chunk() {
    char *const to = ring_ + newest_ * stage_bytes_of(RUNS);
#pragma unroll
    for (int j = 0; j < ROWS_PER_LANE; j++) {
      copy_async(to + j * WARP * VECTOR_BYTES, codes_ + j * WARP * VECTOR_BYTES);
    }
    const char *const scales = scales_ + (chunk_ >> log2_group_chunks_) * scale_step_bytes_;
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      copy_async(to + CHUNK_CODE_BYTES + run * WARP * VECTOR_BYTES, scales + run * VECTOR_BYTES);
    }
    commit_copies();
    newest_ = newest_ + 1 == stages_ ? 0 : newest_ + 1;
    ahead_++;

    pair_ += WARPS_OF_BLOCK;
    chunk_ += WARPS_OF_BLOCK;
    codes_ += WARPS_OF_BLOCK * CHUNK_CODE_BYTES;
    while (chunk_ >= chunks_) {
      chunk_ -= chunks_;
      tile_++;
      scales_ += scale_tile_bytes_;
    }
    if (tile_ > last_tile_ && pair_ < end_) find_linear();
  }

  const SamebitsStep *const known_;
  char *const ring_;
  const int stages_, warp_, lane_;
  int newest_ = 0, oldest_ = 0, ahead_ = 0;
  int step_ = -1, pair_ = 0, end_ = 0, tile_ = 0, chunk_ = 0, chunks_ = 1;
  int last_tile_ = 0, scale_tile_bytes_ = 0, scale_step_bytes_ = 0, log2_group_chunks_ = 0;
  const char *codes_ = nullptr, *scales_ = nullptr;
};

}  // namespace samebits

// A warp's stream of weights: asynchronous copies, some chunks ahead of its arithmetic, across tiles and steps.

#pragma once

#include "groups.cuh"
#include "walk.cuh"

namespace samebits {

// What a lane holds of a chunk: one block of four rows, and the groups of its runs.
template <SamebitsFormKind FORM, int RUNS>
struct Chunk {
  uint4 codes[ROWS_PER_LANE];
  typename Groups<FORM, RUNS>::Taken groups;
};

// A warp's way through its stretches of all steps, up to `stages` chunks ahead of its arithmetic.
template <SamebitsFormKind FORM, int RUNS>
class Stream {
 public:
  // `ring` is where this lane's vectors of the ring begin.
  __device__ __forceinline__ Stream(Shared &shared, char *ring, int stages, uint32_t stretch, int warp, int lane)
      : shared_(shared), landed_(shared.landed[warp]), ring_(ring), stages_(stages), stretch_(stretch), lane_(lane) {}

  // Starts the copies of what has a place and may be on its way, of the steps up to `last_step`.
  __device__ __forceinline__ void advance(int last_step) {
    while (flying_ > 0 && landed_[oldest_flying_].is_over(flying_round_)) land();
    while (ahead_ < stages_ && flying_ < (step_ <= used_ ? MAX_FLYING : MAX_FLYING_AHEAD)) {
      if (pair_ >= end_) next_step(last_step);
      if (pair_ >= end_) return;
      copy_chunk();
    }
  }

  // Tells that the chunks of this step can be used as they come.
  __device__ __forceinline__ void use(int step) { used_ = step; }

  // The oldest chunk in the ring, once it is there; its place is free then.
  __device__ __forceinline__ Chunk<FORM, RUNS> take() {
    if (flying_ == ahead_) {
      landed_[oldest_].wait(flying_round_);
      land();
    }
    // A lane reads what it copied itself, so that it may copy there again without asking the others; where it does not, all of
    // them meet before and after.
    if (Groups<FORM, RUNS>::ARE_SHARED) __syncwarp();
    const char *const from = ring_ + oldest_ * stage_bytes_of(RUNS);
    Chunk<FORM, RUNS> chunk;
#pragma unroll
    for (int j = 0; j < ROWS_PER_LANE; j++) {
      chunk.codes[j] = *reinterpret_cast<const uint4 *>(from + j * WARP * VECTOR_BYTES);
    }
    chunk.groups = Groups<FORM, RUNS>::take(from + CHUNK_CODE_BYTES, lane_);
    if (Groups<FORM, RUNS>::ARE_SHARED) __syncwarp();
    oldest_ = oldest_ + 1 == stages_ ? 0 : oldest_ + 1;
    ahead_--;
    return chunk;
  }

 private:
  __device__ __forceinline__ void land() {
    flying_--;
    if (++oldest_flying_ < stages_) return;
    oldest_flying_ = 0;
    flying_round_++;
  }

  __device__ __forceinline__ void next_step(int last_step) {
    while (pair_ >= end_ && step_ < last_step) {
      const SamebitsStep &next = shared_.steps[++step_ % KNOWN_STEPS];
      const Cut cut = shared_.cuts[step_ % KNOWN_STEPS];
      chunks_ = next.chunks;
      pair_ = cut.first_of(stretch_);
      end_ = cut.first_of(stretch_ + 1);
      if (pair_ >= end_) continue;
      tile_ = pair_ / chunks_;
      chunk_ = pair_ - tile_ * chunks_;
      find_linear();
    }
  }

  __device__ __forceinline__ void find_linear() {
    const SamebitsLinear &linear = linear_of(shared_.steps[step_ % KNOWN_STEPS], tile_);
    const size_t own_tile = tile_ - linear.first_tile, pair = own_tile * chunks_ + chunk_;
    codes_ = static_cast<const char *>(linear.codes) + pair * CHUNK_CODE_BYTES + lane_ * VECTOR_BYTES;
    groups_.begin(linear, own_tile, chunk_, lane_);
    last_tile_ = linear.tile_end - 1;
  }

  __device__ __forceinline__ void copy_chunk() {
    char *const to = ring_ + newest_ * stage_bytes_of(RUNS);
#pragma unroll
    for (int j = 0; j < ROWS_PER_LANE; j++) {
      copy_async(to + j * WARP * VECTOR_BYTES, codes_ + j * WARP * VECTOR_BYTES);
    }
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      copy_async(to + CHUNK_CODE_BYTES + run * WARP * VECTOR_BYTES, groups_.source(chunk_, run));
    }
    landed_[newest_].arrive_when_copied();
    newest_ = newest_ + 1 == stages_ ? 0 : newest_ + 1;
    ahead_++;
    flying_++;

    pair_++;
    codes_ += CHUNK_CODE_BYTES;
    groups_.leave_chunk(chunk_);
    if (++chunk_ < chunks_) return;
    chunk_ = 0;
    groups_.leave_tile();
    if (++tile_ > last_tile_ && pair_ < end_) find_linear();
  }

  const Shared &shared_;
  Barrier *const landed_;
  char *const ring_;
  const int stages_;
  const uint32_t stretch_;
  const int lane_;
  int newest_ = 0, oldest_ = 0, ahead_ = 0;  // places in the ring; chunks in it
  int flying_ = 0, oldest_flying_ = 0, flying_round_ = 0;
  int used_ = -1, step_ = -1, pair_ = 0, end_ = 0, tile_ = 0, chunk_ = 0, chunks_ = 1;
  int last_tile_ = 0;
  const char *codes_ = nullptr;
  Groups<FORM, RUNS> groups_;
};

}  // namespace samebits

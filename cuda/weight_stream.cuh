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

// Chunks are numbered through the stretches that the block has of all steps, and its warps take the next one whenever they have a
// place for it: a warp that memory serves worse takes fewer.
template <SamebitsFormKind FORM, int RUNS>
class Stream {
 public:
  static constexpr int NO_CHUNK = 0x7fffffff;

  // `ring` is where this lane's vectors of the ring begin.
  __device__ __forceinline__ Stream(Shared &shared, char *ring, int stages, int warp, int lane)
      : shared_(shared), filled_(shared.filled[warp]), ring_(ring), stages_(stages), lane_(lane) {
    take_number();
  }

  // Asks for what is to be on its way while a warp computes, of the steps up to `last_step`.
  __device__ __forceinline__ void keep_up(int last_step) {
    while (ahead_ < KEPT_AHEAD && copy_next(last_step)) {
    }
  }

  // For a warp that waits: asks for one more chunk, once the one it asked for so before is there.
  __device__ __forceinline__ void fill(int last_step) {
    if (ahead_ == stages_ || (fills_ > 0 && !filled_.is_over(fills_ - 1)) || !copy_next(last_step)) return;
    filled_.arrive_when_copied();
    fills_++;
  }

  // The number of the chunk that take() gives; NO_CHUNK when the steps that keep_up() knew of have none left for this warp.
  __device__ __forceinline__ int next() const {
    return ahead_ == 0 ? NO_CHUNK : __shfl_sync(ALL_LANES, number_, oldest_);
  }

  // The oldest chunk in the ring, once it is there; asks for another in its place.
  __device__ __forceinline__ Chunk<FORM, RUNS> take(int last_step) {
    if (ahead_ > KEPT_AHEAD) {
      await_copy_groups<KEPT_AHEAD>();
    } else if (ahead_ == KEPT_AHEAD) {
      await_copy_groups<KEPT_AHEAD - 1>();
    } else {
      await_copy_groups<0>();
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
    if (ahead_ < KEPT_AHEAD || ++turns_ % CATCHES_UP != 0) copy_next(last_step);
    return chunk;
  }

 private:
  __device__ __forceinline__ void take_number() {
    if (lane_ == 0) taken_ = atomicAdd(&shared_.next_chunk, 1);
  }

  // Compiled into every place that calls it, which are few: what runs once a step is fetched anew each time, at a cycle a byte.
  __device__ __forceinline__ bool copy_next(int last_step) {
    const int number = __shfl_sync(ALL_LANES, taken_, 0);
    while (number >= step_end_) {
      if (step_ == last_step) return false;
      const Cut cut = shared_.cuts[++step_ % KNOWN_STEPS];
      const int begin = cut.first_of(blockIdx.x);
      pair_of_zero_ = begin - step_end_;
      step_end_ += cut.first_of(blockIdx.x + 1) - begin;
      linear_end_ = 0;
    }
    const int pair = number + pair_of_zero_;
    if (pair >= linear_end_) find_linear(pair);
    const uint32_t chunk = static_cast<uint32_t>(pair - linear_begin_);
    const char *const codes = codes_ + static_cast<size_t>(chunk) * CHUNK_CODE_BYTES;
    char *const to = ring_ + newest_ * stage_bytes_of(RUNS);
#pragma unroll
    for (int j = 0; j < ROWS_PER_LANE; j++) {
      copy_async(to + j * WARP * VECTOR_BYTES, codes + j * WARP * VECTOR_BYTES);
    }
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      copy_async(to + CHUNK_CODE_BYTES + run * WARP * VECTOR_BYTES, groups_.source(chunk, run));
    }
    end_copy_group();
    if (lane_ == newest_) number_ = number;
    take_number();
    newest_ = newest_ + 1 == stages_ ? 0 : newest_ + 1;
    ahead_++;
    return true;
  }

  __device__ __forceinline__ void find_linear(int pair) {
    const SamebitsStep &step = shared_.steps[step_ % KNOWN_STEPS];
    const SamebitsLinear &linear = linear_of(step, pair / step.chunks);
    codes_ = static_cast<const char *>(linear.codes) + lane_ * VECTOR_BYTES;
    groups_.begin(linear, lane_);
    linear_begin_ = linear.first_tile * step.chunks;
    linear_end_ = linear.tile_end * step.chunks;
  }

  Shared &shared_;
  Barrier &filled_;
  char *const ring_;
  const int stages_;
  const int lane_;
  int newest_ = 0, oldest_ = 0, ahead_ = 0;  // places in the ring; chunks in it
  int number_ = 0;                           // in lane i, of the chunk in place i
  int taken_ = 0;                            // in lane 0, the number of the chunk to copy next
  int fills_ = 0, turns_ = 0;
  int step_ = -1, step_end_ = 0, pair_of_zero_ = 0, linear_begin_ = 0, linear_end_ = 0;
  const char *codes_ = nullptr;
  Groups<FORM, RUNS> groups_;
};

}  // namespace samebits

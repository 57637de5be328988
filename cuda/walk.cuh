// What a launch of int4_plain_mm is told, what its blocks share, and how it divides their shared memory.

#pragma once

#include "tiles.cuh"

namespace samebits {

constexpr int MAX_ROWS = SAMEBITS_ROWS_PER_PASS;
// With more rows of x each needs more registers; with fewer, memory is not kept busy by two chunks of each.
constexpr int warps_for(int m) { return m == 1 ? 16 : 12; }
constexpr int MAX_WARPS = 16;
// Where shared memory is small.
constexpr int FEW_WARPS = 6;
// Chunks of a warp that are in shared memory or on their way there. What is more is not worth its place.
constexpr int MAX_STAGES = 6, MIN_STAGES = 2;
// Below this, more chunks ahead are better than a second copy of x.
constexpr int ENOUGH_STAGES = 3;
// Chunks that a warp has asked for while it computes: enough to keep memory busy, and no more, for what else the multiprocessor
// asks of memory, activations and other blocks' sums, waits behind all of them. A warp that has more since it waited lets one of
// CATCHES_UP go without asking for another.
constexpr int KEPT_AHEAD = 2, CATCHES_UP = 4;
static_assert(KEPT_AHEAD <= MIN_STAGES, "every chunk has a place");
// Tiles that the warps of a block may be at, at a time.
constexpr int TILE_PLACES = 4;
// Descriptions of steps that are in shared memory at a time.
constexpr int KNOWN_STEPS = 8;
constexpr uint64_t TAIL_PENDING = 0x8080808080808080u;  // no T is so large
constexpr int STEP_VECTORS = sizeof(SamebitsStep) / VECTOR_BYTES;
static_assert(sizeof(SamebitsStep) % VECTOR_BYTES == 0, "steps are copied as vectors");

struct Walk {
  const SamebitsStep *steps;
  uint64_t *tails;  // [step][block of threads][M][TILE_ROWS]
  int count;
  int stages;
  int x_copies;    // in shared memory; 0 when x is read where it is
  int x_bytes[2];  // of each copy
};

// What a kernel is given. The steps of a walk that decodes come with its launch: others are in memory, where a first look takes
// microseconds, as long as one of them may last.
template <bool DECODES>
struct Given {
  Walk walk;
  __device__ __forceinline__ const SamebitsStep *steps() const { return walk.steps; }
};

template <>
struct Given<true> {
  Walk walk;
  alignas(VECTOR_BYTES) SamebitsStep own_steps[SAMEBITS_DECODING_STEPS];
  __device__ __forceinline__ const SamebitsStep *steps() const { return own_steps; }
};

// How the (tile, chunk) pairs of a step, tile after tile, are cut into stretches of the same length, one a block.
struct Cut {
  uint32_t each;   // pairs of a stretch
  uint32_t extra;  // and one more, so often out of 2^32

  static __device__ __forceinline__ Cut of(const SamebitsStep &step, uint32_t stretches) {
    const uint32_t pairs = static_cast<uint32_t>(step.tiles) * static_cast<uint32_t>(step.chunks);
    const uint64_t left = pairs % stretches;
    return {pairs / stretches, static_cast<uint32_t>(((left << 32) + stretches - 1) / stretches)};
  }

  // The first pair of a stretch; its last is before the first of the next.
  __device__ __forceinline__ int first_of(uint32_t stretch) const {
    return static_cast<int>(stretch * each + __umulhi(stretch, extra));
  }
};

// What a block shares besides, in this order: the rings, first because copies into lines that they do not fill from the
// beginning take twice as long; this; the copies of x.
struct alignas(VECTOR_BYTES) Shared {
  SamebitsStep steps[KNOWN_STEPS];
  Cut cuts[KNOWN_STEPS];
  Barrier filled[MAX_WARPS];           // phase i: the i-th chunk that the warp asked for while it waited
  Barrier x_comes;                     // phase i: the last word of step i's x has been seen
  Barrier tile_is_left[TILE_PLACES];   // phase i: by all warps, the i-th tile in that place
  int tile_visits[TILE_PLACES];        // by warps so far
  uint32_t tile_sums[TILE_PLACES][MAX_ROWS][2][TILE_ROWS];  // low and high halves
  int next_chunk;                      // of all that the block's stretches hold, the first that no warp has taken
  int32_t largest_word[2][MAX_WARPS][MAX_ROWS];
  float squares[2 * 256];  // partial sums of the norms of a normed input
};

__host__ __device__ constexpr int stage_bytes_of(int runs) { return CHUNK_CODE_BYTES + WARP * VECTOR_BYTES * runs; }

__device__ __forceinline__ const SamebitsLinear &linear_of(const SamebitsStep &step, int tile) {
  int i = 0;
  while (tile >= step.linears[i].tile_end) i++;
  return step.linears[i];
}

// How a launch divides a block's shared memory. No stages when it does not suffice.
struct Division {
  int warps, stages, x_copies;
  int x_bytes[2];
  int shared_bytes;
};

inline Division divide(int shared_bytes, int runs, int warps, int even_x_bytes, int odd_x_bytes) {
  Division division = {warps, 0, 0, {even_x_bytes, odd_x_bytes}, 0};
  if (even_x_bytes > 0) division.x_copies = odd_x_bytes > 0 ? 2 : 1;
  const int used = static_cast<int>(sizeof(Shared)) + even_x_bytes + odd_x_bytes;
  const int ring_bytes = warps * stage_bytes_of(runs);
  const int stages = used > shared_bytes ? 0 : (shared_bytes - used) / ring_bytes;
  const int fewest = division.x_copies == 2 ? ENOUGH_STAGES : MIN_STAGES;
  division.stages = stages < fewest ? 0 : stages > MAX_STAGES ? MAX_STAGES : stages;
  division.shared_bytes = used + division.stages * ring_bytes;
  return division;
}

// The best that fits: two copies of x, one, fewer warps, none.
inline Division divide(int shared_bytes, int m, int runs, const int (&x_bytes)[2]) {
  const int larger = x_bytes[0] > x_bytes[1] ? x_bytes[0] : x_bytes[1];
  Division division = divide(shared_bytes, runs, warps_for(m), x_bytes[0], x_bytes[1]);
  if (division.stages == 0) division = divide(shared_bytes, runs, warps_for(m), larger, 0);
  if (division.stages == 0 && m == 1) division = divide(shared_bytes, runs, FEW_WARPS, larger, 0);
  if (division.stages == 0 && m == 1) division = divide(shared_bytes, runs, FEW_WARPS, 0, 0);
  return division;
}

inline int x_bytes_of(int m, int k, int runs) { return k == 0 ? 0 : m * row_bytes_of(chunks_of(k), runs); }
inline int runs_of(int group_size) { return group_size == 16 ? 2 : 1; }

}  // namespace samebits

// How the scales of a chunk's rows, and what else its groups have, come from device memory to a lane: which vector each lane
// copies into its warp's ring, and what it then reads there. Layouts are those of tiles.cuh.

#pragma once

#include "form.cuh"
#include "tiles.cuh"

namespace samebits {

// One word a row and group. A lane copies the words of its own rows, a vector for each of its runs, and reads what it copied itself.
template <SamebitsFormKind FORM, int RUNS>
class PlainGroups {
 public:
  // What a lane holds of a chunk.
  struct Taken {
    uint4 words[RUNS];

    // Of the lane's row `row`, 0..3.
    __device__ __forceinline__ GroupNumbers<FORM> numbers(int run, int row, float weight_scale) const {
      const uint4 &of = words[run];
      const uint32_t word = row == 0 ? of.x : row == 1 ? of.y : row == 2 ? of.z : of.w;
      return GroupNumbers<FORM>::of_word(word, weight_scale);
    }
  };

  // Whether lanes read what others copied.
  static constexpr bool ARE_SHARED = false;

  __device__ __forceinline__ void begin(const SamebitsLinear &linear, int lane) {
    const int g = lane / BLOCKS_PER_CHUNK, t = lane % BLOCKS_PER_CHUNK;
    const SamebitsScaleLayout &layout = linear.scale_layout;
    const int group = t * layout.groups_per_chunk / BLOCKS_PER_CHUNK;
    first_ = static_cast<const char *>(linear.scales) + scale_offset(layout, 0, g, group);
    step_bytes_ = scale_offset(layout, 0, ROWS_APART, 0);
    log2_group_chunks_ = layout.log2_group_chunks;
  }

  // What this lane copies of a chunk of the linear, tiles after each other, into its place in vector `run` of the lanes.
  __device__ __forceinline__ const char *source(uint32_t chunk, int run) const {
    return first_ + static_cast<size_t>(chunk >> log2_group_chunks_) * step_bytes_ + run * VECTOR_BYTES;
  }

  // `own` is the lane's place in the first vector of the lanes.
  static __device__ __forceinline__ Taken take(const char *own, int) {
    Taken taken;
#pragma unroll
    for (int run = 0; run < RUNS; run++) taken.words[run] = *reinterpret_cast<const uint4 *>(own + run * WARP * VECTOR_BYTES);
    return taken;
  }

 private:
  uint32_t step_bytes_ = 0, log2_group_chunks_ = 0;
  const char *first_ = nullptr;
};

// Two bytes a row and group, and a word of steps a row and pair of chunks. A vector holds the codes of eight rows, or with groups
// of 16 two for each of four, or the steps of four rows: lanes copy for each other. In the ring, vector 4 h + t has the codes of
// block t for the rows with g / 2 = h, or g = h with groups of 16, whatever the size of a group is; behind them vector g has the
// steps of the rows with this g. With groups of 16 each lane copies a vector of codes and one of steps, else one of either.
template <SamebitsFormKind FORM, int RUNS>
class NestedGroups {
 public:
  struct Taken {
    uint2 codes[RUNS];  // 16 bits a row
    uint4 steps;        // a word a row

    __device__ __forceinline__ GroupNumbers<FORM> numbers(int run, int row, float weight_scale) const {
      const uint32_t pair = row < 2 ? codes[run].x : codes[run].y;
      const uint32_t step = row == 0 ? steps.x : row == 1 ? steps.y : row == 2 ? steps.z : steps.w;
      return GroupNumbers<FORM>::of_codes(row % 2 == 0 ? pair : pair >> 16, step, weight_scale);
    }
  };

  static constexpr bool ARE_SHARED = true;

  __device__ __forceinline__ void begin(const SamebitsLinear &linear, int lane) {
    const SamebitsScaleLayout &layout = linear.scale_layout;
    const int span = lane % BLOCKS_PER_CHUNK * (layout.groups_per_chunk / RUNS) / BLOCKS_PER_CHUNK;
    const int codes = STEPS_BYTES + nested_code_offset(span * RUNS, 0, RUNS) + lane / BLOCKS_PER_CHUNK * VECTOR_BYTES;
    const bool copies_codes = lane < CODE_VECTORS_OF_CHUNK;
    steps_ = lane % ROWS_APART * VECTOR_BYTES;
    codes_ = copies_codes ? codes : steps_;
    odd_bytes_ = copies_codes ? nested_odd_bytes(layout) : 0;
    pair_bytes_ = nested_pair_bytes(layout);
    first_ = static_cast<const char *>(linear.scales);
  }

  // Pairs follow each other, those of the next tile too.
  __device__ __forceinline__ const char *source(uint32_t chunk, int run) const {
    const char *const pair = first_ + static_cast<size_t>(chunk / 2) * static_cast<uint32_t>(pair_bytes());
    return run == 0 ? pair + codes_ + (chunk & 1) * odd_bytes() : pair + steps_;
  }

  static __device__ __forceinline__ Taken take(const char *own, int lane) {
    const int g = lane / BLOCKS_PER_CHUNK, t = lane % BLOCKS_PER_CHUNK;
    const char *const first = own - lane * VECTOR_BYTES;
    const char *const codes = RUNS == 2 ? own : first + (g / 2 * BLOCKS_PER_CHUNK + t) * VECTOR_BYTES + g % 2 * 8;
    Taken taken;
#pragma unroll
    for (int run = 0; run < RUNS; run++) taken.codes[run] = reinterpret_cast<const uint2 *>(codes)[run];
    taken.steps = *reinterpret_cast<const uint4 *>(first + (CODE_VECTORS_OF_CHUNK + g) * VECTOR_BYTES);
    return taken;
  }

 private:
  static constexpr int CODE_VECTORS_OF_CHUNK = WARP / 2 * RUNS;
  // With groups of 16 there is but one layout, and no register for what is the same in all of them.
  static constexpr int CODE_BYTES_OF_CHUNK = CODE_VECTORS_OF_CHUNK * VECTOR_BYTES;

  __device__ __forceinline__ int odd_bytes() const { return RUNS == 2 ? CODE_BYTES_OF_CHUNK : odd_bytes_; }
  __device__ __forceinline__ int pair_bytes() const { return RUNS == 2 ? STEPS_BYTES + 2 * CODE_BYTES_OF_CHUNK : pair_bytes_; }

  int pair_bytes_ = 0, odd_bytes_ = 0, codes_ = 0, steps_ = 0;
  const char *first_ = nullptr;
};

template <SamebitsFormKind FORM, int RUNS, bool NESTED = is_nested(FORM)>
struct GroupsOf {
  using Type = PlainGroups<FORM, RUNS>;
};

template <SamebitsFormKind FORM, int RUNS>
struct GroupsOf<FORM, RUNS, true> {
  using Type = NestedGroups<FORM, RUNS>;
};

template <SamebitsFormKind FORM, int RUNS>
using Groups = typename GroupsOf<FORM, RUNS>::Type;

}  // namespace samebits

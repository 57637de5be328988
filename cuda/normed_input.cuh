// How a block makes a step's activations itself, of what the step before gave to the residual stream: the sum, its norms and
// their codes. Every block does, which takes less time than telling all of them what one has made.

#pragma once

#include "receive.cuh"
#include "reduce_tree.cuh"

namespace samebits {

// Values of a row that a thread has: those with index mod TREE_SLOTS = its number, as the sums of a norm are defined.
constexpr int MAX_COLUMNS = SAMEBITS_MAX_NORMED / TREE_SLOTS;
// Lanes that quantize a block together, 8 values each.
constexpr int LANES_PER_BLOCK = 4;

// The r of RMSNorm, for the whole block, of which the first TREE_SLOTS threads have partial sums.
__device__ __forceinline__ float rms_scale_of_block(float partial_sum, float *squares, const SamebitsNormedInput &of) {
  if (threadIdx.x < TREE_SLOTS) squares[threadIdx.x] = partial_sum;
  __syncthreads();
  float slots[SLOTS_PER_LANE];
#pragma unroll
  for (int i = 0; i < SLOTS_PER_LANE; i++) slots[i] = squares[threadIdx.x % WARP + WARP * i];
  return rsqrt(add(mul(tree_sum(slots), of.inverse_n), of.epsilon));
}

// Quantizes a row of bf16 in shared memory into another place there, for the whole block; the largest scale word that this warp
// has seen.
template <int RUNS>
__device__ __forceinline__ int32_t quantize_shared_row(const char *values, int blocks, int chunks, char *row) {
  constexpr int BLOCKS_PER_WARP = WARP / LANES_PER_BLOCK;
  const int warp = threadIdx.x / WARP, lane = threadIdx.x % WARP, part = lane % LANES_PER_BLOCK;
  const int padded = chunks * BLOCKS_PER_CHUNK;
  int32_t largest = ZERO_BLOCK;
#pragma unroll 1
  for (int first = warp * BLOCKS_PER_WARP; first < padded; first += blockDim.x / WARP * BLOCKS_PER_WARP) {
    const int block = first + lane / LANES_PER_BLOCK;
    uint4 v = make_uint4(0, 0, 0, 0);
    if (block < blocks) v = reinterpret_cast<const uint4 *>(values)[block * LANES_PER_BLOCK + part];
    const uint32_t words[4] = {v.x, v.y, v.z, v.w};
    uint32_t block_max = 0;
#pragma unroll
    for (const uint32_t word : words) block_max = max(block_max, max(word & 0x7fffu, word >> 16 & 0x7fffu));
    block_max = max(block_max, __shfl_xor_sync(ALL_LANES, block_max, 1));
    block_max = max(block_max, __shfl_xor_sync(ALL_LANES, block_max, 2));
    const int32_t scale_word = scale_word_of(block_max);
    const bool has_codes = scale_word != ZERO_BLOCK && scale_word != NAN_BLOCK;
    const uint32_t reciprocal = has_codes ? block_reciprocal(block_max) : 0;
    uint32_t codes[2] = {0, 0};
    int asum = 0;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const uint32_t x = words[i / 2] >> (i % 2 * 16);
      int code = has_codes ? quantize_code(x & 0x7fffu, block_max, reciprocal) : 0;
      if ((x & 0x8000u) != 0) code = -code;
      asum += code;
      codes[i % 2] |= (static_cast<uint32_t>(code) & 0xffu) << (i / 2 * 8);
    }
    asum += __shfl_xor_sync(ALL_LANES, asum, 1);
    if (RUNS == 1) asum += __shfl_xor_sync(ALL_LANES, asum, 2);
    if (block >= padded) continue;
    reinterpret_cast<uint2 *>(row)[block * LANES_PER_BLOCK + part] = {codes[0], codes[1]};
    if (part % (LANES_PER_BLOCK / RUNS) == 0) {
      uint2 *const terms = reinterpret_cast<uint2 *>(row + padded * BLOCK_SIZE) + block * RUNS;
      terms[part * RUNS / LANES_PER_BLOCK] = {static_cast<uint32_t>(scale_word), bits_from_float(static_cast<float>(asum))};
    }
    largest = max(largest, scale_word);
  }
  return max_over_warp(largest);
}

// Waits for the branch, and writes the codes of x to `to`. `staging` has room for x as bf16; nobody reads it once the branch is
// there. `squares` are two times TREE_SLOTS floats.
template <int RUNS, typename WhileWaiting>
__device__ __forceinline__ int32_t make_normed(const SamebitsNormedInput &of, int chunks, char *to, char *staging, float *squares,
                                               Barrier &comes, int number, WhileWaiting while_waiting) {
  const int thread = threadIdx.x;
  const int columns = thread < TREE_SLOTS ? (of.n - thread + TREE_SLOTS - 1) / TREE_SLOTS : 0;
  float *const own_hidden = static_cast<float *>(of.own_hidden) + static_cast<size_t>(blockIdx.x) * of.n + thread;
  const float *const old_hidden = of.hidden != nullptr ? static_cast<const float *>(of.hidden) + thread : own_hidden;
  const uint16_t *const branch_weights = static_cast<const uint16_t *>(of.branch_weight) + thread;
  const uint16_t *const next_weights = static_cast<const uint16_t *>(of.weight) + thread;
  float hidden[MAX_COLUMNS];
  uint32_t branch[MAX_COLUMNS], weights[MAX_COLUMNS];
#pragma unroll
  for (int c = 0; c < MAX_COLUMNS; c++) {
    const bool is_there = c < columns;
    branch[c] = is_there ? PENDING : 0;
    hidden[c] = is_there ? old_hidden[c * TREE_SLOTS] : 0.0f;
    weights[c] = is_there ? branch_weights[c * TREE_SLOTS] | static_cast<uint32_t>(next_weights[c * TREE_SLOTS]) << 16 : 0;
  }

  const uint32_t *const branches = static_cast<const uint32_t *>(of.branch);
  const uint32_t *const last = branches + of.n - 1;
  const auto look = [&] {
#pragma unroll
    for (int c = 0; c < MAX_COLUMNS; c++) {
      if (is_pending(branch[c])) branch[c] = load_shared_by_all(branches + thread + c * TREE_SLOTS);
    }
    bool misses = false;
#pragma unroll
    for (int c = 0; c < MAX_COLUMNS; c++) misses = misses || is_pending(branch[c]);
    return misses;
  };
  look();
  await_last(last, comes, number, while_waiting);
  while (__any_sync(ALL_LANES, look()) != 0) look_again();

  // Values that are not there are zeros, and add nothing.
  float sum = 0.0f;
#pragma unroll
  for (int c = 0; c < MAX_COLUMNS; c++) sum = add(sum, mul(float_from_bits(branch[c]), float_from_bits(branch[c])));
  const float branch_scale = rms_scale_of_block(sum, squares, of);
  sum = 0.0f;
#pragma unroll
  for (int c = 0; c < MAX_COLUMNS; c++) {
    const float y = mul(mul(float_from_bits(branch[c]), branch_scale), low_bf16(weights[c]));
    hidden[c] = mul(add(hidden[c], y), of.scalar);
    sum = add(sum, mul(hidden[c], hidden[c]));
  }
  const float scale = rms_scale_of_block(sum, squares + TREE_SLOTS, of);

  float *const new_hidden = of.next_hidden != nullptr ? static_cast<float *>(of.next_hidden) + thread : own_hidden;
  const bool keeps_hidden = of.next_hidden == nullptr || blockIdx.x == 0;
  uint16_t *const x = reinterpret_cast<uint16_t *>(staging) + thread;
#pragma unroll
  for (int c = 0; c < MAX_COLUMNS; c++) {
    if (c >= columns) continue;
    if (keeps_hidden) new_hidden[c * TREE_SLOTS] = hidden[c];
    x[c * TREE_SLOTS] = static_cast<uint16_t>(bf16_bits(mul(mul(hidden[c], scale), high_bf16(weights[c]))));
  }
  __syncthreads();
  return quantize_shared_row<RUNS>(staging, of.n / BLOCK_SIZE, chunks, to);
}

}  // namespace samebits

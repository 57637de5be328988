// What a warp computes of a tile: products on tensor cores, NUMERICS.md section 3 for each, and their sums over the lanes.

#pragma once

#include "weight_stream.cuh"

namespace samebits {

constexpr uint32_t LOW_NIBBLES = 0x0f0f0f0fu;

// Adds to each of the lane's four rows what one chunk contributes, for M rows of x. `x` are the codes of block t of the first
// row, `terms` its terms; `center` is the linear's.
template <SamebitsFormKind FORM, int M, int RUNS>
__device__ __forceinline__ void multiply(int64_t (&total)[M][ROWS_PER_LANE], const Chunk<FORM, RUNS> &chunk, const char *x,
                                         const uint2 *terms, int row_bytes, const int (&exponent)[M], float weight_scale,
                                         float center, int g, int t) {
  constexpr int PAIRS = (M + 1) / 2;
  // This lane passes on the k of block t to column g: something only in the two columns of that block.
  uint4 columns[PAIRS][CODE_VECTORS];
  const uint4 *const own = reinterpret_cast<const uint4 *>(x + (g % 2) * row_bytes);
#pragma unroll
  for (int pair = 0; pair < PAIRS; pair++) {
    columns[pair][0] = columns[pair][1] = make_uint4(0, 0, 0, 0);
    if (g / 2 == t && 2 * pair + g % 2 < M) {
      const uint4 *const row = reinterpret_cast<const uint4 *>(reinterpret_cast<const char *>(own) + 2 * pair * row_bytes);
      columns[pair][0] = row[0];
      columns[pair][1] = row[1];
    }
  }
  float block_scale[M][RUNS], asum[M][RUNS];
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      const uint2 term = reinterpret_cast<const uint2 *>(reinterpret_cast<const char *>(terms) + m * row_bytes)[run];
      block_scale[m][run] = block_scale_of(static_cast<int32_t>(term.x), exponent[m]);
      asum[m][run] = float_from_bits(term.y);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const uint4 &upper = chunk.codes[2 * half], &lower = chunk.codes[2 * half + 1];
    const uint32_t words[4][2] = {{upper.x, lower.x}, {upper.y, lower.y}, {upper.z, lower.z}, {upper.w, lower.w}};
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      int c[PAIRS][4] = {};
#pragma unroll
      for (int i = run * 4 / RUNS; i < (run + 1) * 4 / RUNS; i++) {
        const uint32_t a[4] = {words[i][0] & LOW_NIBBLES, words[i][1] & LOW_NIBBLES, words[i][0] >> 4 & LOW_NIBBLES,
                               words[i][1] >> 4 & LOW_NIBBLES};
#pragma unroll
        for (int pair = 0; pair < PAIRS; pair++) {
          const uint4 &of = columns[pair][i / 2];
          const uint32_t b[2] = {i % 2 == 0 ? of.x : of.z, i % 2 == 0 ? of.y : of.w};
          multiply_u8_s8(c[pair], a, b);
        }
      }
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const GroupNumbers<FORM> numbers = chunk.groups.numbers(run, 2 * half + r, weight_scale);
#pragma unroll
        for (int m = 0; m < M; m++) {
          total[m][2 * half + r] += numbers.contribution(c[m / 2][2 * r + m % 2], asum[m][run], center, block_scale[m][run]);
        }
      }
    }
  }
}

// Sums over the four lanes of a row; lane (g, t) gets row 8 t + g of the tile.
__device__ __forceinline__ int64_t sum_over_blocks(const int64_t (&total)[ROWS_PER_LANE]) {
  const int lane = threadIdx.x % WARP;
  const bool first = (lane & 1) == 0, second = (lane & 2) == 0;
  int64_t low = first ? total[0] : total[1], high = first ? total[2] : total[3];
  low += __shfl_xor_sync(ALL_LANES, first ? total[1] : total[0], 1);
  high += __shfl_xor_sync(ALL_LANES, first ? total[3] : total[2], 1);
  return (second ? low : high) + __shfl_xor_sync(ALL_LANES, second ? high : low, 2);
}

// Adds a sum a lane to those of a tile in shared memory, whose halves are words that atomics know.
__device__ __forceinline__ void add_to_sum(uint32_t (&tile)[2][TILE_ROWS], int64_t sum) {
  const int lane = threadIdx.x % WARP;
  const uint32_t low = static_cast<uint32_t>(sum), high = static_cast<uint32_t>(static_cast<uint64_t>(sum) >> 32);
  const uint32_t carry = atomicAdd(&tile[0][lane], low) + low < low ? 1u : 0u;
  atomicAdd(&tile[1][lane], high + carry);
}

// A lane's sum, leaving zero for the next tile.
__device__ __forceinline__ int64_t take_sum(uint32_t (&tile)[2][TILE_ROWS]) {
  const int lane = threadIdx.x % WARP;
  const uint64_t sum = static_cast<uint64_t>(tile[1][lane]) << 32 | tile[0][lane];
  tile[0][lane] = tile[1][lane] = 0;
  return static_cast<int64_t>(sum);
}

}  // namespace samebits

// int4_plain_mm: y = x · wᵀ for 4-bit weights and int8 activations, at the speed of reading the weight once.
//
// Math:     T = sum over runs of C, C = RNE(RN32(RN32(s * 2^-E_w * d_b) * RN32(dp - z * asum)) * 2^32),
//           dp = sum over the run of q * a; y = T * 2^(E_w + E_x - 32).
// Layout:   qdata u8[N, K/2], even k in the low nibble; scale_zero u32[N, nGroups], s in the low and z in the high half,
//           or [nGroups, N] for NATIVE, the layout before, which only the benchmark runs; codes, run_terms, row_exponent
//           as quantize_activations writes them; y f32[M, N] or bf16[M, N].
// Threads:  a warp owns ROWS_PER_WARP rows of the weight; a lane takes every 32nd block of 32 k, which is one 16-byte load
//           a row. Where N alone cannot fill the device, `split` warps share the rows and each takes every split-th step.
// Traffic:  reads N * K / 2 + N * nGroups * 4 bytes once for up to MAX_ROWS rows of x, and from L1/L2
//           N / ROWS_PER_WARP * M * (K + 8 * K / RUN_SIZE); writes M * N * (4 or 2).
// Numerics: NUMERICS.md sections 3 and 4 (numerics.cuh). Only integers are summed, so split and order cannot be seen.
// Limits:   K a multiple of 32, at most 65504; group size 16 or a power of two >= 32; all operands 16-byte aligned.

#include "launch.cuh"
#include "numerics.cuh"
#include "samebits.h"

namespace samebits {
namespace {

constexpr int MAX_ROWS = 4;
constexpr int LANES_PER_ROW = 32;
constexpr int ROWS_PER_WARP = 2;
constexpr int WARPS = 4;
constexpr int THREADS = WARPS * LANES_PER_ROW;
// Below this many warps a multiprocessor has too few loads in flight to keep memory busy.
constexpr int WARPS_PER_MULTIPROCESSOR = 24;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr uint32_t LOW_NIBBLES = 0x0f0f0f0fu;

// A launch's constants. `split` and `blocks_per_group` are powers of two.
struct Shape {
  int n;
  int blocks;            // K / 32
  int groups;            // nGroups
  int log2_group_blocks; // blocks of a group (0 when the group is at most a block)
  int split;             // warps that share the same rows
  int weight_exponent;   // E_w
  float weight_scale;    // 2^-E_w
};

// What a lane holds of one weight row for one block: 32 codes, and the scale and zero point of each of its runs.
template <int RUNS>
struct Piece {
  uint4 q;
  uint32_t scale_zero[RUNS];
};

template <int RUNS, SamebitsLayout LAYOUT>
__device__ __forceinline__ Piece<RUNS> load_piece(const uint4 *__restrict__ qdata,
                                                  const uint32_t *__restrict__ scale_zero, const Shape &shape, int row,
                                                  int block) {
  Piece<RUNS> piece;
  // Every weight is used once: streaming loads leave L1 to the activations.
  piece.q = __ldcs(qdata + static_cast<size_t>(row) * shape.blocks + block);
  const int group = RUNS == 1 ? block >> shape.log2_group_blocks : block * RUNS;
  if (LAYOUT == SAMEBITS_NATIVE) {
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      piece.scale_zero[run] = __ldg(scale_zero + static_cast<size_t>(group + run) * shape.n + row);
    }
  } else if (RUNS == 2) {
    const uint2 both = __ldcs(reinterpret_cast<const uint2 *>(scale_zero + static_cast<size_t>(row) * shape.groups + group));
    piece.scale_zero[0] = both.x;
    piece.scale_zero[RUNS - 1] = both.y;
  } else {
    piece.scale_zero[0] = __ldcs(scale_zero + static_cast<size_t>(row) * shape.groups + group);
  }
  return piece;
}

// q · a over 16 k: two words of weights against four words of codes, even and odd k apart.
__device__ __forceinline__ int dot16(uint32_t w0, uint32_t w1, const uint4 &a, int sum) {
  sum = __dp4a(static_cast<int>(w0 & LOW_NIBBLES), static_cast<int>(a.x), sum);
  sum = __dp4a(static_cast<int>(w0 >> 4 & LOW_NIBBLES), static_cast<int>(a.y), sum);
  sum = __dp4a(static_cast<int>(w1 & LOW_NIBBLES), static_cast<int>(a.z), sum);
  return __dp4a(static_cast<int>(w1 >> 4 & LOW_NIBBLES), static_cast<int>(a.w), sum);
}

// Adds the contributions of one block of k, for each of ROWS_PER_WARP weight rows and M rows of x.
template <int M, int RUNS>
__device__ __forceinline__ void accumulate(long long (&total)[M][ROWS_PER_WARP],
                                           const Piece<RUNS> (&pieces)[ROWS_PER_WARP],
                                           const uint4 *codes, const float2 *run_terms, const Shape &shape,
                                           int block) {
#pragma unroll
  for (int m = 0; m < M; m++) {
    const size_t at = static_cast<size_t>(m) * shape.blocks + block;
    const uint4 a[2] = {codes[2 * at], codes[2 * at + 1]};
    float2 terms[RUNS];
    if (RUNS == 2) {
      const float4 both = reinterpret_cast<const float4 *>(run_terms)[at];
      terms[0] = make_float2(both.x, both.y);
      terms[RUNS - 1] = make_float2(both.z, both.w);
    } else {
      terms[0] = run_terms[at];
    }
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; r++) {
      const uint4 &q = pieces[r].q;
      int dp[2];
      dp[0] = dot16(q.x, q.y, a[0], 0);
      dp[RUNS - 1] = dot16(q.z, q.w, a[1], RUNS == 2 ? 0 : dp[0]);
#pragma unroll
      for (int run = 0; run < RUNS; run++) {
        const uint32_t scale_zero = pieces[r].scale_zero[run];
        total[m][r] += run_contribution(dp[run], terms[run].y, product(scale_of(scale_zero), shape.weight_scale),
                                        zero_point_of(scale_zero), terms[run].x);
      }
    }
  }
}

// The activations' operands are not __restrict__: the kernel before may write them after this one has started, and the
// compiler must not read them through the read-only cache, which is not coherent with that.
template <int M, int RUN_SIZE, SamebitsLayout LAYOUT>
__global__ void __launch_bounds__(THREADS)
    int4_plain_mm(const uint4 *__restrict__ qdata, const uint32_t *__restrict__ scale_zero, const uint4 *codes,
                  const float2 *run_terms, const int32_t *row_exponent, void *y, const Shape shape,
                  const size_t y_offset, const bool output_bf16) {
  constexpr int RUNS = BLOCK_SIZE / RUN_SIZE;
  constexpr int STEPS = 2;  // loads in flight per row
  __shared__ long long partial[WARPS][M][ROWS_PER_WARP];
  allow_next_kernel();

  const int warp = threadIdx.x / LANES_PER_ROW;
  const int lane = threadIdx.x % LANES_PER_ROW;
  const int rows_per_block = ROWS_PER_WARP * WARPS / shape.split;
  const int block_row = blockIdx.x * rows_per_block;
  int row[ROWS_PER_WARP];
#pragma unroll
  for (int r = 0; r < ROWS_PER_WARP; r++) {
    // Rows past the end read the last row again, and are not stored.
    row[r] = min(block_row + warp / shape.split * ROWS_PER_WARP + r, shape.n - 1);
  }

  const int stride = LANES_PER_ROW * shape.split;
  int block = lane + LANES_PER_ROW * (warp % shape.split);
  Piece<RUNS> pieces[STEPS][ROWS_PER_WARP];
  const auto load = [&](Piece<RUNS>(&into)[ROWS_PER_WARP], int at) {
    if (at >= shape.blocks) return;
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; r++) into[r] = load_piece<RUNS, LAYOUT>(qdata, scale_zero, shape, row[r], at);
  };
#pragma unroll
  for (int step = 0; step < STEPS; step++) load(pieces[step], block + step * stride);

  // Weights depend on no kernel and are on their way; activations are the work of the kernel before.
  wait_for_previous_kernel();
  long long total[M][ROWS_PER_WARP] = {};
  for (; block < shape.blocks; block += STEPS * stride) {
#pragma unroll
    for (int step = 0; step < STEPS; step++) {
      const int at = block + step * stride;
      if (at < shape.blocks) accumulate<M, RUNS>(total, pieces[step], codes, run_terms, shape, at);
      load(pieces[step], at + STEPS * stride);
    }
  }

#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int r = 0; r < ROWS_PER_WARP; r++) {
#pragma unroll
      for (int distance = LANES_PER_ROW / 2; distance > 0; distance /= 2) {
        total[m][r] += __shfl_xor_sync(ALL_LANES, total[m][r], distance);
      }
      if (lane == 0) partial[warp][m][r] = total[m][r];
    }
  }
  __syncthreads();

  // One thread per output adds the partial sums of the warps that shared its row.
  const int outputs = M * rows_per_block;
  if (threadIdx.x >= outputs) return;
  const int m = threadIdx.x / rows_per_block;
  const int r = threadIdx.x % rows_per_block;
  if (block_row + r >= shape.n) return;
  long long sum = 0;
  for (int part = 0; part < shape.split; part++) {
    sum += partial[r / ROWS_PER_WARP * shape.split + part][m][r % ROWS_PER_WARP];
  }
  const uint32_t bits = result_bits(sum, shape.weight_exponent, row_exponent[m]);
  const size_t at = y_offset + static_cast<size_t>(m) * shape.n + block_row + r;
  if (output_bf16) {
    static_cast<uint16_t *>(y)[at] = bf16_from_result(bits);
  } else {
    static_cast<uint32_t *>(y)[at] = bits;
  }
}

using Kernel = void (*)(const uint4 *, const uint32_t *, const uint4 *, const float2 *, const int32_t *, void *, Shape,
                        size_t, bool);

template <int M>
Kernel kernel_for(int group_size, SamebitsLayout layout) {
  if (layout == SAMEBITS_NATIVE) {
    return group_size == 16 ? int4_plain_mm<M, 16, SAMEBITS_NATIVE> : int4_plain_mm<M, 32, SAMEBITS_NATIVE>;
  }
  return group_size == 16 ? int4_plain_mm<M, 16, SAMEBITS_COALESCED> : int4_plain_mm<M, 32, SAMEBITS_COALESCED>;
}

Kernel kernel_for(int m, int group_size, SamebitsLayout layout) {
  switch (m) {
    case 1: return kernel_for<1>(group_size, layout);
    case 2: return kernel_for<2>(group_size, layout);
    case 3: return kernel_for<3>(group_size, layout);
    default: return kernel_for<MAX_ROWS>(group_size, layout);
  }
}

int floor_log2(int value) {
  int log2 = 0;
  while (value >> (log2 + 1) != 0) log2++;
  return log2;
}

// Warps that share rows: enough to fill the device, but never more than have a step to do.
int choose_split(int n, int blocks, int multiprocessor_count) {
  const int row_sets = (n + ROWS_PER_WARP - 1) / ROWS_PER_WARP;
  int split = 1;
  while (split < WARPS && split * LANES_PER_ROW < blocks &&
         row_sets * split < WARPS_PER_MULTIPROCESSOR * multiprocessor_count) {
    split *= 2;
  }
  return split;
}

}  // namespace
}  // namespace samebits

int samebits_load_int4_plain_mm() {
  using namespace samebits;
  for (int m = 1; m <= MAX_ROWS; m++) {
    for (int group_size = 16; group_size <= 32; group_size *= 2) {
      for (const SamebitsLayout layout : {SAMEBITS_COALESCED, SAMEBITS_NATIVE}) {
        if (const int error = load_kernel(kernel_for(m, group_size, layout))) return error;
      }
    }
  }
  return cudaSuccess;
}

int samebits_int4_plain_mm(const SamebitsLaunch *launch, const SamebitsDeviceWeight *weight,
                           const SamebitsActivations *activations, void *y, int32_t m, int32_t output_bf16) {
  using namespace samebits;
  const SamebitsShape &of = weight->shape;
  if (m < 1 || of.n < 1 || of.k < BLOCK_SIZE || of.k > SAMEBITS_MAX_K || of.k % BLOCK_SIZE != 0) {
    return cudaErrorInvalidValue;
  }
  Shape shape;
  shape.n = of.n;
  shape.blocks = of.k / BLOCK_SIZE;
  shape.groups = of.n_groups;
  shape.log2_group_blocks = of.group_size <= BLOCK_SIZE ? 0 : floor_log2(of.group_size / BLOCK_SIZE);
  shape.split = choose_split(of.n, shape.blocks, launch->multiprocessor_count);
  shape.weight_exponent = weight->weight_exponent;
  shape.weight_scale = power_of_two(-weight->weight_exponent);
  const int rows_per_block = ROWS_PER_WARP * WARPS / shape.split;
  const dim3 grid(static_cast<unsigned>((of.n + rows_per_block - 1) / rows_per_block));
  const size_t runs = of.group_size == 16 ? 2 * static_cast<size_t>(shape.blocks) : static_cast<size_t>(shape.blocks);

  for (int32_t first = 0; first < m; first += MAX_ROWS) {
    const int rows = m - first < MAX_ROWS ? m - first : MAX_ROWS;
    const size_t skipped = static_cast<size_t>(first);
    const int error = launch_kernel(
        *launch, kernel_for(rows, of.group_size, weight->layout), grid, THREADS, static_cast<const uint4 *>(weight->qdata),
        weight->scale_zero, reinterpret_cast<const uint4 *>(activations->codes + skipped * of.k),
        reinterpret_cast<const float2 *>(activations->run_terms) + skipped * runs,
        static_cast<const int32_t *>(activations->row_exponent + skipped), y, shape, skipped * of.n, output_bf16 != 0);
    if (error) return error;
  }
  return cudaSuccess;
}

// baseline_mm: the plain kernel that the [N, nGroups] layout was introduced with, and the same with [nGroups, N] as before it.
// The benchmark compares with both; nothing else runs them. Their results have the same bits.
//
// Math:     as quantize_activations and int4_plain_mm.
// Layout:   qdata u8[N, K/2], even k in the low nibble; scale_zero u32[N, nGroups] or u32[nGroups, N], scale in the low half;
//           scratch: codes int8[M, K], even and odd k apart in each 8; {f32 d_b * 2^32, f32 asum}[M, runs]; i32 E_x[M].
// Threads:  quantizing: 8 consecutive k a thread, and every block of threads finds the maximum of its whole row by itself.
//           Multiplying: a warp a row of the weight; a lane takes every 32nd block of 32 k, 4 bytes of codes at a time.
// Traffic:  reads the weight once for every row of x.
// Numerics: as int4_plain_mm.
// Limits:   K a multiple of 32; group size 16 or a power of two >= 32.

#include "hardware.cuh"
#include "launch.cuh"
#include "numerics.cuh"

namespace samebits {
namespace {

constexpr int THREADS = 256;
constexpr int WARPS = THREADS / WARP;
constexpr int K_PER_THREAD = 8;
constexpr uint32_t LOW_NIBBLES = 0x0f0f0f0fu;

struct Scratch {
  uint32_t *codes;
  float2 *terms;
  int32_t *row_exponent;
};

Scratch scratch_at(void *base, int m, int k, int runs) {
  char *const bytes = static_cast<char *>(base);
  const size_t codes = static_cast<size_t>(m) * k;
  return {reinterpret_cast<uint32_t *>(bytes), reinterpret_cast<float2 *>(bytes + codes),
          reinterpret_cast<int32_t *>(bytes + codes + codes / BLOCK_SIZE * runs * sizeof(float2))};
}

template <int RUNS>
__global__ void __launch_bounds__(THREADS) baseline_quantize(const uint16_t *x, Scratch out, int k) {
  __shared__ int largest[WARPS];
  const size_t row = blockIdx.y;
  x += row * k;
  int row_max = 0;
  for (int i = threadIdx.x; i < k; i += THREADS) row_max = max(row_max, x[i] & 0x7fff);
  row_max = max_over_warp(row_max);
  if (threadIdx.x % WARP == 0) largest[threadIdx.x / WARP] = row_max;
  __syncthreads();
  for (int warp = 0; warp < WARPS; warp++) row_max = max(row_max, largest[warp]);
  const int row_exponent = row_exponent_of(scale_word_of(static_cast<uint32_t>(row_max)));
  if (blockIdx.x == 0 && threadIdx.x == 0) out.row_exponent[row] = row_exponent;

  // Four neighbouring lanes quantize a block; those past the end take part in the shuffles with zeros.
  const int first = (blockIdx.x * THREADS + threadIdx.x) * K_PER_THREAD;
  uint32_t values[K_PER_THREAD];
  int block_max = 0;
  for (int i = 0; i < K_PER_THREAD; i++) {
    values[i] = first + i < k ? x[first + i] : 0u;
    block_max = max(block_max, static_cast<int>(values[i] & 0x7fffu));
  }
  block_max = max(block_max, __shfl_xor_sync(ALL_LANES, block_max, 1));
  block_max = max(block_max, __shfl_xor_sync(ALL_LANES, block_max, 2));
  const int32_t scale_word = scale_word_of(static_cast<uint32_t>(block_max));
  const bool counts = row_exponent != NAN_ROW && scale_word != ZERO_BLOCK;
  const uint32_t reciprocal = counts ? block_reciprocal(static_cast<uint32_t>(block_max)) : 0u;
  uint32_t words[2] = {0, 0};
  int asum = 0;
  for (int i = 0; i < K_PER_THREAD && counts; i++) {
    const int magnitude = quantize_code(values[i] & 0x7fffu, static_cast<uint32_t>(block_max), reciprocal);
    const int code = (values[i] & 0x8000u) != 0 ? -magnitude : magnitude;
    words[i % 2] |= (static_cast<uint32_t>(code) & 0xffu) << (i / 2 * 8);
    asum += code;
  }
  asum += __shfl_xor_sync(ALL_LANES, asum, 1);
  if (RUNS == 1) asum += __shfl_xor_sync(ALL_LANES, asum, 2);
  if (first >= k) return;
  const size_t at = (row * k + first) / 4;
  out.codes[at] = words[0];
  out.codes[at + 1] = words[1];
  constexpr int RUN_SIZE = BLOCK_SIZE / RUNS;
  if (first % RUN_SIZE == 0) {
    out.terms[(row * k + first) / RUN_SIZE] =
        make_float2(counts ? block_scale_of(scale_word, row_exponent) : 0.0f, static_cast<float>(asum));
  }
}

template <int RUNS, SamebitsLayout LAYOUT>
__global__ void __launch_bounds__(THREADS)
    baseline_mm(const SamebitsBaselineWeight weight, const Scratch of, void *y, float weight_scale, bool output_bf16) {
  const int n = blockIdx.x * WARPS + threadIdx.x / WARP, lane = threadIdx.x % WARP;
  if (n >= weight.shape.n) return;
  const int k = weight.shape.k, groups = weight.shape.n_groups;
  const size_t m = blockIdx.y;
  const uint4 *const row = static_cast<const uint4 *>(weight.qdata) + static_cast<size_t>(n) * (k / BLOCK_SIZE);
  int64_t total = 0;
  for (int block = lane; block < k / BLOCK_SIZE; block += WARP) {
    const uint4 q = row[block];
    const uint32_t *const codes = of.codes + (m * k + static_cast<size_t>(block) * BLOCK_SIZE) / 4;
    const uint32_t words[4] = {q.x, q.y, q.z, q.w};
    for (int run = 0; run < RUNS; run++) {
      int dp = 0;
      for (int i = run * 4 / RUNS; i < (run + 1) * 4 / RUNS; i++) {
        dp = __dp4a(static_cast<int>(words[i] & LOW_NIBBLES), static_cast<int>(codes[2 * i]), dp);
        dp = __dp4a(static_cast<int>(words[i] >> 4 & LOW_NIBBLES), static_cast<int>(codes[2 * i + 1]), dp);
      }
      const size_t group = (static_cast<size_t>(block) * RUNS + run) * (BLOCK_SIZE / RUNS) / weight.shape.group_size;
      const uint32_t scale_zero = weight.scale_zero[LAYOUT == SAMEBITS_NATIVE
                                                        ? group * weight.shape.n + n
                                                        : static_cast<size_t>(n) * groups + group];
      const float2 terms = of.terms[(m * (k / BLOCK_SIZE) + block) * RUNS + run];
      total +=
          run_contribution(dp, terms.y, product(low_bf16(scale_zero), weight_scale), high_bf16(scale_zero), terms.x);
    }
  }
  for (int distance = WARP / 2; distance > 0; distance /= 2) total += __shfl_xor_sync(ALL_LANES, total, distance);
  if (lane != 0) return;
  const uint32_t bits = result_bits(total, weight.weight_exponent, of.row_exponent[m]);
  const size_t at = m * weight.shape.n + n;
  if (output_bf16) {
    static_cast<uint16_t *>(y)[at] = bf16_from_result(bits);
  } else {
    static_cast<uint32_t *>(y)[at] = bits;
  }
}

int runs_of(int group_size) { return group_size == 16 ? 2 : 1; }

auto quantize_for(int group_size) { return group_size == 16 ? baseline_quantize<2> : baseline_quantize<1>; }

auto multiply_for(int group_size, SamebitsLayout layout) {
  if (layout == SAMEBITS_NATIVE) {
    return group_size == 16 ? baseline_mm<2, SAMEBITS_NATIVE> : baseline_mm<1, SAMEBITS_NATIVE>;
  }
  return group_size == 16 ? baseline_mm<2, SAMEBITS_COALESCED> : baseline_mm<1, SAMEBITS_COALESCED>;
}

}  // namespace
}  // namespace samebits

uint64_t samebits_baseline_scratch_bytes(int32_t m, int32_t k) {
  const uint64_t codes = static_cast<uint64_t>(m) * static_cast<uint64_t>(k);
  return codes + codes / samebits::BLOCK_SIZE * 2 * sizeof(float2) + static_cast<uint64_t>(m) * sizeof(int32_t);
}

int samebits_load_baseline_mm() {
  using namespace samebits;
  for (const int group_size : {16, 32}) {
    if (const int error = load_kernel(quantize_for(group_size))) return error;
    for (const SamebitsLayout layout : {SAMEBITS_COALESCED, SAMEBITS_NATIVE}) {
      if (const int error = load_kernel(multiply_for(group_size, layout))) return error;
    }
  }
  return cudaSuccess;
}

int samebits_baseline_quantize(const SamebitsLaunch *launch, const void *x, void *scratch, int32_t m, int32_t k,
                               int32_t group_size) {
  using namespace samebits;
  const int per_block = THREADS * K_PER_THREAD;
  const dim3 grid(static_cast<unsigned>((k + per_block - 1) / per_block), static_cast<unsigned>(m));
  return launch_kernel(*launch, quantize_for(group_size), grid, THREADS, static_cast<const uint16_t *>(x),
                       scratch_at(scratch, m, k, runs_of(group_size)), static_cast<int>(k));
}

int samebits_baseline_mm(const SamebitsLaunch *launch, const SamebitsBaselineWeight *weight, const void *scratch, void *y,
                         int32_t m, int32_t output_bf16) {
  using namespace samebits;
  const SamebitsShape &of = weight->shape;
  const dim3 grid(static_cast<unsigned>((of.n + WARPS - 1) / WARPS), static_cast<unsigned>(m));
  return launch_kernel(*launch, multiply_for(of.group_size, weight->layout), grid, THREADS, *weight,
                       scratch_at(const_cast<void *>(scratch), m, of.k, runs_of(of.group_size)), y,
                       power_of_two(-weight->weight_exponent), output_bf16 != 0);
}

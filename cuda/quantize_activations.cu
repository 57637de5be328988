// quantize_activations: bf16 activations to int8, a block of 32 at a time (NUMERICS.md section 1).
//
// Math:     a_i = RNE(127 * x_i / amax_b), d_b = RN32(RN32(m_b / 128) * RN32(1 / 127)) * 2^(e_b - E_x), asum per run.
// Layout:   x bf16[M, K]; codes int8[M, K], run_terms {f32 d_b, f32 asum}[M, K / RUN_SIZE], row_exponent i32[M].
//           codes keeps each 8 consecutive k as two u32: first k0 k2 k4 k6, then k1 k3 k5 k7. A weight word w, 8 codes of
//           4 bits, then meets them with `w & 0x0F0F0F0F` and `(w >> 4) & 0x0F0F0F0F` and no permutation.
// Threads:  grid (slices of a row, M). Every block of threads finds the maximum of its whole row by itself, so that no two
//           blocks have to agree on E_x, then quantizes one slice: 8 consecutive k a thread, 4 neighbouring lanes a block.
// Traffic:  reads M * K * 2 bytes, once more per slice (from L2); writes M * (K + 8 * K / RUN_SIZE + 4).
// Numerics: integers, except the one product of d_b. A NaN row writes NAN_ROW and zeros.
// Limits:   K a multiple of 32; x 16-byte aligned; M at most 65535 (grid y).

#include "launch.cuh"
#include "numerics.cuh"
#include "samebits.h"

namespace samebits {
namespace {

constexpr int THREADS = 256;
constexpr int K_PER_THREAD = 8;
constexpr int SLICE = THREADS * K_PER_THREAD;
constexpr unsigned ALL_LANES = 0xffffffffu;
constexpr uint32_t MAGNITUDES = 0x7fff7fffu;

__device__ uint32_t larger(uint32_t a, uint32_t b) { return a > b ? a : b; }

// The largest of the 8 magnitudes in a vector.
__device__ uint32_t max_magnitude(uint4 v) {
  const uint32_t pairs = __vmaxu2(__vmaxu2(v.x & MAGNITUDES, v.y & MAGNITUDES),
                                  __vmaxu2(v.z & MAGNITUDES, v.w & MAGNITUDES));
  return larger(pairs & 0xffffu, pairs >> 16);
}

// The largest value over all threads of the block; every thread gets it.
__device__ uint32_t block_max_of(uint32_t value) {
  __shared__ uint32_t warp_max[THREADS / 32];
  for (int distance = 16; distance > 0; distance /= 2) {
    value = larger(value, __shfl_xor_sync(ALL_LANES, value, distance));
  }
  if (threadIdx.x % 32 == 0) warp_max[threadIdx.x / 32] = value;
  __syncthreads();
  value = warp_max[0];
  for (int warp = 1; warp < THREADS / 32; warp++) value = larger(value, warp_max[warp]);
  return value;
}

// The signed code of the bf16 in the low half of `bits`, as one byte.
__device__ uint32_t code_byte(uint32_t bits, uint32_t block_max, uint32_t reciprocal) {
  const int code = quantize_code(bits & 0x7fffu, block_max, reciprocal);
  return static_cast<uint32_t>((bits & 0x8000u) != 0 ? -code : code) & 0xffu;
}

// x is not __restrict__: the kernel before may write it after this one has started, and the compiler must not read it
// through the read-only cache, which is not coherent with that.
template <int RUN_SIZE>
__global__ void __launch_bounds__(THREADS)
    quantize_activations(const uint4 *x, uint2 *codes, float2 *run_terms, int32_t *row_exponent, int k) {
  allow_next_kernel();
  wait_for_previous_kernel();
  const int vectors = k / K_PER_THREAD;
  const size_t row = blockIdx.y;
  x += row * vectors;

  uint32_t row_max = 0;
  for (int v = threadIdx.x; v < vectors; v += THREADS) row_max = larger(row_max, max_magnitude(x[v]));
  const int exponent = row_exponent_of(block_max_of(row_max));
  if (blockIdx.x == 0 && threadIdx.x == 0) row_exponent[row] = exponent;

  // Lanes past the end of the row take part in the shuffles with zeros; K / 8 is a multiple of 4, so they fill whole blocks.
  const int v = blockIdx.x * THREADS + threadIdx.x;
  const bool inside = v < vectors;
  const uint4 values = inside ? x[v] : make_uint4(0, 0, 0, 0);
  uint32_t block_max = max_magnitude(values);
  block_max = larger(block_max, __shfl_xor_sync(ALL_LANES, block_max, 1));
  block_max = larger(block_max, __shfl_xor_sync(ALL_LANES, block_max, 2));

  uint2 packed = make_uint2(0, 0);
  float block_scale = 0;
  if (exponent != NAN_ROW && block_counts(block_max, exponent)) {
    block_scale = block_scale_of(block_max, exponent);
    const uint32_t reciprocal = block_reciprocal(block_max);
    const uint32_t words[4] = {values.x, values.y, values.z, values.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
      packed.x |= code_byte(words[i], block_max, reciprocal) << (8 * i);
      packed.y |= code_byte(words[i] >> 16, block_max, reciprocal) << (8 * i);
    }
  }

  int sum = __dp4a(static_cast<int>(packed.x), 0x01010101, __dp4a(static_cast<int>(packed.y), 0x01010101, 0));
  sum += __shfl_xor_sync(ALL_LANES, sum, 1);
  if (RUN_SIZE == 32) sum += __shfl_xor_sync(ALL_LANES, sum, 2);
  if (!inside) return;
  codes[row * vectors + v] = packed;
  constexpr int VECTORS_PER_RUN = RUN_SIZE / K_PER_THREAD;
  if (v % VECTORS_PER_RUN == 0) {
    run_terms[(row * vectors + v) / VECTORS_PER_RUN] = make_float2(block_scale, static_cast<float>(sum));
  }
}

}  // namespace
}  // namespace samebits

int samebits_load_quantize_activations() {
  const int error = samebits::load_kernel(samebits::quantize_activations<16>);
  return error ? error : samebits::load_kernel(samebits::quantize_activations<32>);
}

int samebits_quantize_activations(const SamebitsLaunch *launch, const void *x, const SamebitsActivations *out,
                                  int32_t m, int32_t k, int32_t group_size) {
  using namespace samebits;
  if (m < 1 || m > SAMEBITS_MAX_M || k < BLOCK_SIZE || k > SAMEBITS_MAX_K || k % BLOCK_SIZE != 0) {
    return cudaErrorInvalidValue;
  }
  const dim3 grid(static_cast<unsigned>((k + SLICE - 1) / SLICE), static_cast<unsigned>(m));
  const auto kernel = group_size == 16 ? quantize_activations<16> : quantize_activations<32>;
  return launch_kernel(*launch, kernel, grid, THREADS, static_cast<const uint4 *>(x),
                       reinterpret_cast<uint2 *>(out->codes), reinterpret_cast<float2 *>(out->run_terms),
                       out->row_exponent, static_cast<int>(k));
}

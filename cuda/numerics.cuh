// The arithmetic of NUMERICS.md in plain functions: the kernels are built of them, and the host tests run the same code.
//
// Magnitudes of bf16 (bits without the sign) are integers here: exponent in bits 7..14, fraction in bits 0..6, so that
// they compare as integers. A significand is 128 + fraction, in 128..255; a magnitude below 0x80 (subnormal) counts as 0.

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef __CUDACC__
#define SAMEBITS_INLINE __host__ __device__ __forceinline__
#else
#define SAMEBITS_INLINE inline
#endif

namespace samebits {

constexpr int BLOCK_SIZE = 32;
constexpr int FRACTION_BITS = 32;
constexpr int NAN_ROW = 0x7fffffff;
constexpr uint32_t NAN_BITS = 0x7fc00000u;
constexpr uint32_t BF16_INFINITY = 0x7f80u;
// One in the exponent of an f32.
constexpr int32_t EXPONENT_ONE = 1 << 23;
// The scale words of a block of zeros, less than any other, and of one with Inf or NaN, more than any other.
constexpr int32_t ZERO_BLOCK = -(1 << 30);
constexpr int32_t NAN_BLOCK = 0x7fffffff;
// Bits of RN32(1 / 127): the scale word of a block whose largest magnitude is 1.
constexpr int32_t UNIT_SCALE_WORD = 0x3c010204;
// A block this far below the row's largest contributes nothing that could be seen.
constexpr int MIN_RELATIVE_EXPONENT = -100;
// Beyond this the quotient 127 * x / amax is below one half.
constexpr uint32_t MAX_SHIFT = 16;

SAMEBITS_INLINE float float_from_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

SAMEBITS_INLINE uint32_t bits_from_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// 2^exponent for -126..127.
SAMEBITS_INLINE float power_of_two(int exponent) { return float_from_bits(static_cast<uint32_t>(exponent + 127) << 23); }

// RN32(a * b), never fused with what follows.
SAMEBITS_INLINE float product(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fmul_rn(a, b);
#else
  return a * b;
#endif
}

SAMEBITS_INLINE bool is_zero(uint32_t magnitude) { return magnitude < 0x80u; }
SAMEBITS_INLINE int exponent_of(uint32_t magnitude) { return static_cast<int>(magnitude >> 7) - 127; }
SAMEBITS_INLINE uint32_t significand_of(uint32_t magnitude) { return 128u + (magnitude & 127u); }

// ---- section 1: activations ----

// ceil(2^24 / m_b), with which quantize_code divides: one integer division for a block's 32 quotients.
SAMEBITS_INLINE uint32_t block_reciprocal(uint32_t block_max) {
  const uint32_t significand = significand_of(block_max);
  return ((1u << 24) + significand - 1) / significand;
}

// RNE(127 * |x| / amax_b) as an exact rational, for |x| <= amax_b.
SAMEBITS_INLINE int quantize_code(uint32_t magnitude, uint32_t block_max, uint32_t reciprocal) {
  const uint32_t shift = (block_max >> 7) - (magnitude >> 7);
  if (is_zero(magnitude) || shift > MAX_SHIFT) return 0;
  const uint32_t numerator = 127u * significand_of(magnitude);      // below 2^15
  const uint32_t denominator = significand_of(block_max) << shift;  // below 2^24
  // floor(numerator / denominator): the reciprocal's excess is below 2^8, so the product's is below 2^23, under one unit
  // of 2^-24 times the divisor; and the product itself stays below 2^32.
  const uint32_t quotient = ((numerator >> shift) * reciprocal) >> 24;
  const uint32_t twice_rest = 2u * (numerator - quotient * denominator);
  const bool rounds_up = twice_rest > denominator || (twice_rest == denominator && (quotient & 1u) != 0);
  return static_cast<int>(quotient + (rounds_up ? 1u : 0u));
}

// What a block keeps of its scale, without knowing its row: the bits of RN32(RN32(m_b / 128) * RN32(1 / 127)), whose exponent
// is 120 or 121, plus e_b in the exponent's place. Ordered as the blocks' largest magnitudes are, zeros and NaN included.
SAMEBITS_INLINE int32_t scale_word_of(uint32_t block_max) {
  if (block_max >= BF16_INFINITY) return NAN_BLOCK;
  if (is_zero(block_max)) return ZERO_BLOCK;
  const float significand = static_cast<float>(significand_of(block_max)) * (1.0f / 128.0f);
  const uint32_t bits = bits_from_float(product(significand, 1.0f / 127.0f));
  return static_cast<int32_t>(bits) + exponent_of(block_max) * EXPONENT_ONE;
}

// E_x from the largest scale word of a row, or NAN_ROW when the row holds Inf or NaN.
SAMEBITS_INLINE int row_exponent_of(int32_t largest_word) {
  if (largest_word == NAN_BLOCK) return NAN_ROW;
  return largest_word == ZERO_BLOCK ? 0 : (largest_word - UNIT_SCALE_WORD) >> 23;
}

// d_b * 2^FRACTION_BITS, d_b = RN32(RN32(m_b / 128) * RN32(1 / 127)) * 2^(e_b - E_x); 0 for a block of zeros or one too far
// below its row, which one comparison tells: scale words are ordered, and a factor of two apart they differ by EXPONENT_ONE.
SAMEBITS_INLINE float block_scale_of(int32_t scale_word, int row_exponent) {
  const int32_t bits = scale_word - row_exponent * EXPONENT_ONE;
  if (bits < UNIT_SCALE_WORD + MIN_RELATIVE_EXPONENT * EXPONENT_ONE) return 0.0f;
  // In a NaN row the sum means nothing, and may wrap.
  return float_from_bits(static_cast<uint32_t>(bits) + static_cast<uint32_t>(FRACTION_BITS * EXPONENT_ONE));
}

// ---- section 3: one run; and the other forms of a weight ----

// The first and the second half of a word, and a byte, as the numbers that they stand for, exactly. Subnormals of bf16 were flushed at upload.
SAMEBITS_INLINE float low_bf16(uint32_t word) { return float_from_bits(word << 16); }
SAMEBITS_INLINE float high_bf16(uint32_t word) { return float_from_bits(word & 0xffff0000u); }

// A finite f16.
SAMEBITS_INLINE float float_from_f16(uint16_t bits) {
#ifdef __CUDA_ARCH__
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
#else
  // In the place of an f32 the exponent is 112 too small, also that of a subnormal.
  const float magnitude = float_from_bits((bits & 0x7fffu) << 13) * power_of_two(112);
  return (bits & 0x8000u) != 0 ? -magnitude : magnitude;
#endif
}

SAMEBITS_INLINE float low_f16(uint32_t word) { return float_from_f16(static_cast<uint16_t>(word)); }
SAMEBITS_INLINE float high_f16(uint32_t word) { return float_from_f16(static_cast<uint16_t>(word >> 16)); }

// The low byte, as the last bits of a significand: conversions from integers take longer on some devices.
SAMEBITS_INLINE float float_from_byte(uint32_t word) { return float_from_bits(0x4b000000u | (word & 0xffu)) - 8388608.0f; }

// C of one run. relative_scale is s * 2^-E_w, at most 2/15 in magnitude; block_scale is d_b * 2^FRACTION_BITS. The power of
// two comes early because that changes no rounding: a product with d_b itself could only underflow where it is below
// 2^-126, and then |c| < 2^-126 * 2^28 (|t| < 2^28), which rounds to C = 0 here as there.
SAMEBITS_INLINE long long run_contribution(int dp, float asum, float relative_scale, float zero_point, float block_scale) {
  const float t = fmaf(-zero_point, asum, static_cast<float>(dp));  // z * asum is exact: one rounding
  return llrintf(product(product(relative_scale, block_scale), t));
}

// The same for a zero point of 19 bits, whose product with asum is rounded by itself.
SAMEBITS_INLINE long long nested_zero_contribution(int dp, float asum, float relative_scale, float zero_point,
                                                   float block_scale) {
  const float t = static_cast<float>(dp) - product(zero_point, asum);
  return llrintf(product(product(relative_scale, block_scale), t));
}

// The sum of (q - center) * a of a run, an integer below 2^16.
SAMEBITS_INLINE float centered_sum(int dp, float asum, float center) { return fmaf(-center, asum, static_cast<float>(dp)); }

// C of one run of a form with an offset. scaled_sum is ks * (sum of (q - c) * a) and scaled_asum is ko * asum, integers below
// 2^24; relative_scale and relative_offset are 2^-E_w times what they are multiples of.
SAMEBITS_INLINE long long offset_contribution(float scaled_sum, float scaled_asum, float relative_scale, float relative_offset,
                                              float block_scale) {
  return llrintf(product(product(relative_scale, block_scale), scaled_sum)) +
         llrintf(product(product(relative_offset, block_scale), scaled_asum));
}

// ---- section 4: the result ----

// The bits of y = T * 2^exponent, exponent = E_w + E_x - FRACTION_BITS, rounded once to 24 bits.
SAMEBITS_INLINE uint32_t output_bits(long long total, int exponent) {
  const uint32_t rounded = bits_from_float(static_cast<float>(total));
  const uint32_t sign = rounded & 0x80000000u;
  if (rounded == 0) return 0;
  const int biased = static_cast<int>((rounded >> 23) & 255u) + exponent;
  if (biased <= 0) return sign;
  if (biased >= 255) return sign | 0x7f800000u;
  return sign | static_cast<uint32_t>(biased) << 23 | (rounded & 0x007fffffu);
}

// y of a row from its T and E_x, or NaN for a NaN row.
SAMEBITS_INLINE uint32_t result_bits(long long total, int weight_exponent, int row_exponent) {
  return row_exponent == NAN_ROW ? NAN_BITS : output_bits(total, weight_exponent + row_exponent - FRACTION_BITS);
}

// The bf16 nearest to an f32 result, ties to even.
SAMEBITS_INLINE uint16_t bf16_from_result(uint32_t bits) {
  if (bits == NAN_BITS) return static_cast<uint16_t>(NAN_BITS >> 16);
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

}  // namespace samebits

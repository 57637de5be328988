// The arithmetic of DECODER.md in plain functions: sums and products that are rounded once each, and the functions made of
// them. The decoder's kernels are built of these.

#pragma once

#include "numerics.cuh"

namespace samebits {

// RN32(a * b) and RN32(a + b), never fused with each other.
SAMEBITS_INLINE float mul(float a, float b) { return product(a, b); }
SAMEBITS_INLINE float add(float a, float b) {
#ifdef __CUDA_ARCH__
  return __fadd_rn(a, b);
#else
  return a + b;
#endif
}

// add(sum, a * b) for a product that is exact, as that of two bf16 is: rounded once, fused or not.
SAMEBITS_INLINE float add_exact_product(float sum, float a, float b) { return fmaf(a, b, sum); }

// 1 / x of a positive, normal x.
SAMEBITS_INLINE float rcp(float x) {
  float y = float_from_bits(0x7ef311c7u - bits_from_float(x));
  for (int i = 0; i < 3; i++) y = add(y, mul(y, add(1.0f, -mul(x, y))));
  return y;
}

// 1 / sqrt(x) of a positive, normal x.
SAMEBITS_INLINE float rsqrt(float x) {
  float y = float_from_bits(0x5f3759dfu - (bits_from_float(x) >> 1));
  for (int i = 0; i < 4; i++) {
    const float t = mul(mul(x, y), y);
    y = mul(y, add(1.5f, -mul(0.5f, t)));
  }
  return y;
}

// e^x of x up to 80; 0 unless x > -87.
SAMEBITS_INLINE float exponential(float x) {
  if (!(x > -87.0f)) return 0.0f;
  const float n = rintf(mul(x, float_from_bits(0x3fb8aa3bu)));
  const float r = add(add(x, -mul(n, float_from_bits(0x3f317000u))), -mul(n, float_from_bits(0x3805fdf4u)));
  float p = float_from_bits(0x3ab60b61u);
  p = add(mul(p, r), float_from_bits(0x3c088889u));
  p = add(mul(p, r), float_from_bits(0x3d2aaaabu));
  p = add(mul(p, r), float_from_bits(0x3e2aaaabu));
  p = add(mul(p, r), 0.5f);
  p = add(mul(p, r), 1.0f);
  p = add(mul(p, r), 1.0f);
  return mul(p, float_from_bits(static_cast<uint32_t>(static_cast<int32_t>(n) + 127) << 23));
}

// Neither bound is taken for NaN.
SAMEBITS_INLINE float clamp_to_80(float z) { return z < -80.0f ? -80.0f : z > 80.0f ? 80.0f : z; }

// gelu by its tanh, which is a logistic function here.
SAMEBITS_INLINE float gelu(float g) {
  const float cubic = mul(float_from_bits(0x3d372713u), mul(mul(g, g), g));  // RN32(0.044715)
  const float z = clamp_to_80(mul(float_from_bits(0x3fcc422au), add(g, cubic)));
  return mul(g, rcp(add(1.0f, exponential(-z))));
}

// cap * tanh(l / cap); two_over_cap is RN32(2 / cap).
SAMEBITS_INLINE float soft_capped(float l, float cap, float two_over_cap) {
  const float z = clamp_to_80(mul(l, two_over_cap));
  return mul(cap, add(1.0f, -mul(2.0f, rcp(add(exponential(z), 1.0f)))));
}

// The bits of the bf16 nearest to v, ties to even.
SAMEBITS_INLINE uint32_t bf16_bits(float v) {
  const uint32_t bits = bits_from_float(v);
  if (v != v) return NAN_BITS >> 16;
  return (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16;
}

SAMEBITS_INLINE float float_from_bf16(uint32_t bits) { return float_from_bits(bits << 16); }

}  // namespace samebits

// What the groups of a weight say, form by form, and what a run contributes: a kernel is compiled for one form, and has nothing
// of the others in it. Plain functions; the host tests run the same code.

#pragma once

#include "numerics.cuh"
#include "weight_form.hpp"

namespace samebits {

// The numbers of one group of a row. What a form does not have costs nothing: nobody reads it.
template <SamebitsFormKind FORM>
struct GroupNumbers {
  static constexpr bool IS_NESTED = is_nested(FORM), HAS_OFFSET = has_offset(FORM), IS_F16 = is_f16(FORM);

  float scale;   // 2^-E_w times the scale, or with a nested offset times its step
  float second;  // the zero point; or 2^-E_w times the offset or its step
  float scale_code, second_code;  // with a nested offset: how many steps they are

  // Of a word with the scale in its low and the zero point or the offset in its high half. weight_scale is 2^-E_w.
  static SAMEBITS_INLINE GroupNumbers of_word(uint32_t word, float weight_scale) {
    static_assert(!IS_NESTED, "a nested form has codes and steps");
    const float scale = IS_F16 ? low_f16(word) : low_bf16(word), second = IS_F16 ? high_f16(word) : high_bf16(word);
    return {product(scale, weight_scale), HAS_OFFSET ? product(second, weight_scale) : second, 1, 1};
  }

  // Of the codes, that of the scale in the low byte of 16 bits, and their steps, f16 each. Codes times steps are exact.
  static SAMEBITS_INLINE GroupNumbers of_codes(uint32_t codes, uint32_t steps, float weight_scale) {
    static_assert(IS_NESTED, "no other form has codes and steps");
    const float scale_code = float_from_byte(codes), second_code = float_from_byte(codes >> 8);
    const float scale = product(low_f16(steps), weight_scale), second = high_f16(steps);
    if constexpr (HAS_OFFSET) return {scale, product(second, weight_scale), scale_code, second_code};
    return {product(scale, scale_code), product(second, second_code), 1, 1};
  }

  // C of one run. `center` is what the codes of a form with an offset count from.
  SAMEBITS_INLINE long long contribution(int dp, float asum, float center, float block_scale) const {
    if constexpr (!HAS_OFFSET && !IS_NESTED) return run_contribution(dp, asum, scale, second, block_scale);
    if constexpr (!HAS_OFFSET && IS_NESTED) return nested_zero_contribution(dp, asum, scale, second, block_scale);
    const float centered = centered_sum(dp, asum, center);
    if constexpr (!IS_NESTED) return offset_contribution(centered, asum, scale, second, block_scale);
    return offset_contribution(product(scale_code, centered), product(second_code, asum), scale, second, block_scale);
  }
};

}  // namespace samebits

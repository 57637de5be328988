// What tells the forms of a weight apart (NUMERICS.md), for host and kernels alike. No CUDA here.

#pragma once

#include "samebits.h"

namespace samebits {

// Weights of a row that share the steps of a nested form.
constexpr int STEP_SIZE = 256;

constexpr bool is_nested(SamebitsFormKind kind) { return kind == SAMEBITS_NESTED_ZERO || kind == SAMEBITS_NESTED_OFFSET; }

constexpr bool has_offset(SamebitsFormKind kind) {
  return kind == SAMEBITS_OFFSET_BF16 || kind == SAMEBITS_OFFSET_F16 || kind == SAMEBITS_NESTED_OFFSET;
}

// Whether scales, or their steps, are f16, whose subnormals are values; bf16 otherwise.
constexpr bool is_f16(SamebitsFormKind kind) { return kind != SAMEBITS_ZERO_BF16 && kind != SAMEBITS_OFFSET_BF16; }

// Groups of a row that share the steps of a nested form.
constexpr int groups_per_step(int group_size) { return STEP_SIZE / group_size; }

}  // namespace samebits

// What must hold of a packed weight at the native border. No CUDA here: this file builds and runs on any machine.

#include <algorithm>
#include <cinttypes>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "weight_form.hpp"

namespace {

using samebits::has_offset;
using samebits::is_f16;
using samebits::is_nested;

constexpr const char *kRepack = "Repack with CoalescedInt4Tensor.fromInt4Tensor or 'samebits convert'.";
constexpr double kMaxZeroPoint = 65536;
constexpr uint32_t kInfinityBits = 0x7f80, kF16InfinityBits = 0x7c00;

__attribute__((format(printf, 2, 3))) void print(char (&text)[192], const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
}

SamebitsStatus refuse(SamebitsRefusal *refusal, SamebitsStatus status, const char *fix) {
  refusal->status = status;
  print(refusal->fix, "%s", fix);
  return status;
}

// A shape as its producer gave it; more than two dimensions are counted, not listed.
void print_shape(char (&text)[192], const SamebitsOperand &operand, const char *note) {
  if (operand.rank == 2) {
    print(text, "[%" PRId64 ", %" PRId64 "]%s", operand.shape[0], operand.shape[1], note);
  } else {
    print(text, "rank %" PRIu64 "%s", operand.rank, note);
  }
}

SamebitsStatus check_dtype_and_rank(const SamebitsOperand &operand, const char *name, const char *dtype,
                                    SamebitsRefusal *refusal) {
  if (operand.dtype == nullptr || std::strcmp(operand.dtype, dtype) != 0) {
    print(refusal->rule, "%s must be %s", name, dtype);
    print(refusal->expected, "dtype '%s'", dtype);
    print(refusal->got, "dtype '%.64s'", operand.dtype == nullptr ? "" : operand.dtype);
    return refuse(refusal, SAMEBITS_DTYPE_MISMATCH,
                  "Pass packed u8 codes, and bf16 or f16 bit patterns, scale and zero point or offset of one type.");
  }
  if (operand.rank != 2) {
    print(refusal->rule, "%s must be a matrix", name);
    print(refusal->expected, "rank 2");
    print_shape(refusal->got, operand, "");
    return refuse(refusal, SAMEBITS_SHAPE_MISMATCH, "Pack each expert or batch entry as a weight of its own.");
  }
  return SAMEBITS_OK;
}

SamebitsStatus check_dimensions(int64_t n, int64_t half_k, int64_t group_size, SamebitsShape *shape,
                                SamebitsRefusal *refusal) {
  if (n < 1 || n > SAMEBITS_MAX_N) {
    print(refusal->rule, "N, the number of output features, must be a positive integer");
    print(refusal->expected, "1..%d", SAMEBITS_MAX_N);
    print(refusal->got, "%" PRId64, n);
    return refuse(refusal, SAMEBITS_N_UNSUPPORTED, "Check the shape of qdata: u8[N, K/2].");
  }
  if (half_k < SAMEBITS_BLOCK_SIZE / 2 || half_k > SAMEBITS_MAX_K / 2 || half_k % (SAMEBITS_BLOCK_SIZE / 2) != 0) {
    print(refusal->rule, "K, the number of input features, must be a positive multiple of 32");
    print(refusal->expected, "K/2 a multiple of 16 in 16..%d", SAMEBITS_MAX_K / 2);
    print(refusal->got, "K/2 = %" PRId64, half_k);
    return refuse(refusal, SAMEBITS_K_UNSUPPORTED, "Pad the weight and the activations with zeros up to a multiple of 32.");
  }
  const int64_t k = half_k * 2;
  const bool is_power_of_two = group_size >= 16 && (group_size & (group_size - 1)) == 0;
  if (!is_power_of_two || k % group_size != 0) {
    print(refusal->rule, "groupSize must be 16, or a power of two of at least 32, and divide K");
    print(refusal->expected, "a power of two >= 16 that divides K = %" PRId64, k);
    print(refusal->got, "%" PRId64, group_size);
    return refuse(refusal, SAMEBITS_GROUP_SIZE_UNSUPPORTED, "Repack with a supported group size, for example 32.");
  }
  *shape = {static_cast<int32_t>(n), static_cast<int32_t>(k), static_cast<int32_t>(group_size),
            static_cast<int32_t>(k / group_size)};
  return SAMEBITS_OK;
}

// Dimensions were checked before: rows * columns * 2 is at most 2^24 * 4094 * 2, far inside 64 bits.
SamebitsStatus check_byte_length(const SamebitsOperand &operand, const char *name, uint64_t bytes_per_element,
                                 SamebitsRefusal *refusal) {
  const uint64_t expected =
      static_cast<uint64_t>(operand.shape[0]) * static_cast<uint64_t>(operand.shape[1]) * bytes_per_element;
  if (operand.size_bytes == expected) return SAMEBITS_OK;
  print(refusal->rule, "%s must hold exactly its shape [%" PRId64 ", %" PRId64 "]", name, operand.shape[0],
        operand.shape[1]);
  print(refusal->expected, "%" PRIu64 " bytes", expected);
  print(refusal->got, "%" PRIu64 " bytes", operand.size_bytes);
  return refuse(refusal, SAMEBITS_BYTE_LENGTH_MISMATCH,
                "Pass a view of exactly this tensor; the array may be truncated, detached or a view of a larger one.");
}

// An array of a weight's groups, as a message calls it: one value for every `span` weights of a row.
struct GroupOperand {
  const SamebitsOperand &operand;
  const char *name, *dtype;
  int32_t span;
};

SamebitsStatus check_group_operand(const GroupOperand &of, const SamebitsShape &shape, SamebitsLayout layout,
                                   SamebitsRefusal *refusal) {
  const SamebitsOperand &operand = of.operand;
  const SamebitsStatus status = check_dtype_and_rank(operand, of.name, of.dtype, refusal);
  if (status != SAMEBITS_OK) return status;
  const int64_t columns = shape.k / of.span;
  const int64_t coalesced[2] = {shape.n, columns};
  const int64_t native[2] = {columns, shape.n};
  const int64_t(&expected)[2] = layout == SAMEBITS_COALESCED ? coalesced : native;
  if (operand.shape[0] == expected[0] && operand.shape[1] == expected[1]) {
    return check_byte_length(operand, of.name, std::strcmp(of.dtype, "u8") == 0 ? 1 : 2, refusal);
  }
  const char *span = of.span == samebits::STEP_SIZE ? "256" : "groupSize";
  print(refusal->rule, layout == SAMEBITS_COALESCED ? "%s must be %s[N, K/%s]" : "%s must be %s[K/%s, N]", of.name, of.dtype, span);
  print(refusal->expected, "[%" PRId64 ", %" PRId64 "]", expected[0], expected[1]);
  if (layout == SAMEBITS_COALESCED && operand.shape[0] == native[0] && operand.shape[1] == native[1]) {
    print_shape(refusal->got, operand, ", torchao's native layout");
    return refuse(refusal, SAMEBITS_LAYOUT_NATIVE_SCALE, kRepack);
  }
  print_shape(refusal->got, operand, "");
  return refuse(refusal, SAMEBITS_SHAPE_MISMATCH, "Check groupSize and the order of the dimensions.");
}

// The native layout has the default form only.
SamebitsStatus form_of(const SamebitsWeightDescription &of, SamebitsLayout layout, SamebitsForm *form, SamebitsRefusal *refusal) {
  const auto is = [&](const char *name) { return of.form != nullptr && std::strcmp(of.form, name) == 0; };
  const bool has_f16 = layout == SAMEBITS_COALESCED && of.scale.dtype != nullptr && std::strcmp(of.scale.dtype, "f16") == 0;
  bool is_known = true;
  if (is("zero")) {
    form->kind = has_f16 ? SAMEBITS_ZERO_F16 : SAMEBITS_ZERO_BF16;
  } else if (is("offset")) {
    form->kind = has_f16 ? SAMEBITS_OFFSET_F16 : SAMEBITS_OFFSET_BF16;
  } else if (is("nested-zero")) {
    form->kind = SAMEBITS_NESTED_ZERO;
  } else if (is("nested-offset")) {
    form->kind = SAMEBITS_NESTED_OFFSET;
  } else {
    is_known = false;
  }
  is_known = is_known && (of.center == 0 || (of.center == 8 && has_offset(form->kind)));
  form->center = is_known ? static_cast<int32_t>(of.center) : 0;
  if (is_known && (layout == SAMEBITS_COALESCED || form->kind == SAMEBITS_ZERO_BF16)) return SAMEBITS_OK;
  print(refusal->rule, "the form of a packed weight must be a known one");
  print(refusal->expected, layout == SAMEBITS_COALESCED
                               ? "'zero' or 'offset' of bf16 or f16, 'nested-zero' or 'nested-offset'; a center of 0, or 8 with an offset"
                               : "'zero' of bf16, in the native layout");
  print(refusal->got, "'%.64s', center %" PRId64, of.form == nullptr ? "" : of.form, of.center);
  return refuse(refusal, SAMEBITS_FORM_UNKNOWN, "Leave the form out for a zero point and a scale.");
}

SamebitsStatus check_form_shape(const SamebitsForm &form, const SamebitsShape &shape, SamebitsRefusal *refusal) {
  constexpr const char *fix = "Pack this weight with scales of their own.";
  if (!is_nested(form.kind)) return SAMEBITS_OK;
  if (shape.k % samebits::STEP_SIZE != 0) {
    print(refusal->rule, "K of a nested form must be whole steps");
    print(refusal->expected, "a multiple of %d", samebits::STEP_SIZE);
    print(refusal->got, "%d", shape.k);
    return refuse(refusal, SAMEBITS_K_UNSUPPORTED, fix);
  }
  if (shape.group_size > samebits::STEP_SIZE) {
    print(refusal->rule, "a step of a nested form is shared by whole groups");
    print(refusal->expected, "a groupSize of at most %d", samebits::STEP_SIZE);
    print(refusal->got, "%d", shape.group_size);
    return refuse(refusal, SAMEBITS_GROUP_SIZE_UNSUPPORTED, fix);
  }
  return SAMEBITS_OK;
}

// A half as the operator computes with it: subnormals of bf16 count as 0, those of f16 are values.
double value_of(SamebitsFormKind kind, uint16_t bits) {
  if (is_f16(kind)) {
    const int exponent = bits >> 10 & 31, fraction = bits & 1023;
    const double magnitude = exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
    return (bits & 0x8000u) != 0 ? -magnitude : magnitude;
  }
  if ((bits & kInfinityBits) == 0) return 0;
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

SamebitsStatus check_finite(SamebitsFormKind kind, const char *name, SamebitsStatus status, const uint16_t *values, uint64_t count,
                            uint64_t first, SamebitsRefusal *refusal) {
  const uint32_t infinity = is_f16(kind) ? kF16InfinityBits : kInfinityBits;
  for (uint64_t i = 0; i < count; i++) {
    if ((values[i] & infinity) != infinity) continue;
    print(refusal->rule, "%s must be finite", name);
    print(refusal->expected, "finite %s values", is_f16(kind) ? "f16" : "bf16");
    print(refusal->got, "bits 0x%04x at element %" PRIu64, values[i], first + i);
    return refuse(refusal, status, "The checkpoint is damaged or was quantized from non-finite weights; quantize again.");
  }
  return SAMEBITS_OK;
}

// R of one group (NUMERICS.md); each product is rounded once where it does not fit.
double reach_of(const SamebitsForm &form, double scale, double second) {
  if (!has_offset(form.kind)) return std::fabs(scale) * std::fmax(std::fabs(second), std::fabs(15 - second));
  return 2 * std::fmax(std::fabs(scale) * std::max(form.center, 15 - form.center), std::fabs(second));
}

}  // namespace

const char *samebits_status_name(SamebitsStatus status) {
  switch (status) {
    case SAMEBITS_OK: return "OK";
    case SAMEBITS_LAYOUT_NATIVE_SCALE: return "LAYOUT_NATIVE_SCALE";
    case SAMEBITS_LAYOUT_WRONG_TYPE: return "LAYOUT_WRONG_TYPE";
    case SAMEBITS_DTYPE_MISMATCH: return "DTYPE_MISMATCH";
    case SAMEBITS_SHAPE_MISMATCH: return "SHAPE_MISMATCH";
    case SAMEBITS_BYTE_LENGTH_MISMATCH: return "BYTE_LENGTH_MISMATCH";
    case SAMEBITS_N_UNSUPPORTED: return "N_UNSUPPORTED";
    case SAMEBITS_K_UNSUPPORTED: return "K_UNSUPPORTED";
    case SAMEBITS_GROUP_SIZE_UNSUPPORTED: return "GROUP_SIZE_UNSUPPORTED";
    case SAMEBITS_SCALE_NOT_FINITE: return "SCALE_NOT_FINITE";
    case SAMEBITS_ZERO_POINT_NOT_FINITE: return "ZERO_POINT_NOT_FINITE";
    case SAMEBITS_ZERO_POINT_OUT_OF_RANGE: return "ZERO_POINT_OUT_OF_RANGE";
    case SAMEBITS_WEIGHT_EXPONENT_OUT_OF_RANGE: return "WEIGHT_EXPONENT_OUT_OF_RANGE";
    case SAMEBITS_M_UNSUPPORTED: return "M_UNSUPPORTED";
    case SAMEBITS_INPUT_LENGTH_MISMATCH: return "INPUT_LENGTH_MISMATCH";
    case SAMEBITS_FORM_UNKNOWN: return "FORM_UNKNOWN";
    case SAMEBITS_OFFSET_NOT_FINITE: return "OFFSET_NOT_FINITE";
  }
  return "UNKNOWN";
}

SamebitsStatus samebits_validate_description(const SamebitsWeightDescription *description, SamebitsLayout layout,
                                             SamebitsShape *shape, SamebitsForm *form, SamebitsRefusal *refusal) {
  const char *tag = layout == SAMEBITS_COALESCED ? "coalesced-int4" : "native-int4";
  if (description->layout == nullptr || std::strcmp(description->layout, tag) != 0) {
    print(refusal->rule, "the weight must carry the layout tag '%s'", tag);
    print(refusal->expected, "'%s'", tag);
    print(refusal->got, "'%.64s'", description->layout == nullptr ? "" : description->layout);
    return refuse(refusal, SAMEBITS_LAYOUT_WRONG_TYPE, kRepack);
  }
  const SamebitsOperand &qdata = description->qdata;
  SamebitsStatus status = check_dtype_and_rank(qdata, "qdata", "u8", refusal);
  if (status == SAMEBITS_OK) {
    status = check_dimensions(qdata.shape[0], qdata.shape[1], description->group_size, shape, refusal);
  }
  if (status == SAMEBITS_OK) status = check_byte_length(qdata, "qdata", 1, refusal);

  if (status == SAMEBITS_OK) status = form_of(*description, layout, form, refusal);
  if (status == SAMEBITS_OK) status = check_form_shape(*form, *shape, refusal);
  if (status != SAMEBITS_OK) return status;

  const bool nested = is_nested(form->kind), offset = has_offset(form->kind);
  const char *dtype = nested ? "u8" : is_f16(form->kind) ? "f16" : "bf16";
  const GroupOperand operands[] = {
      {description->scale, "scale", dtype, shape->group_size},
      {description->scale_step, "scaleStep", "f16", samebits::STEP_SIZE},
      {description->second, offset ? "offset" : "zeroPoint", dtype, shape->group_size},
      {description->second_step, offset ? "offsetStep" : "zeroPointStep", "f16", samebits::STEP_SIZE},
  };
  for (int i = 0; i < 4 && status == SAMEBITS_OK; i += nested ? 1 : 2) {
    status = check_group_operand(operands[i], *shape, layout, refusal);
  }
  return status;
}

SamebitsStatus samebits_validate_groups(const SamebitsForm *form, const SamebitsGroups *of, double *reach,
                                        SamebitsRefusal *refusal) {
  const bool nested = is_nested(form->kind), offset = has_offset(form->kind);
  const uint64_t per_step = nested ? static_cast<uint64_t>(of->groups_per_step) : 1;
  const uint64_t count = of->count / per_step, first = of->first / per_step;
  const uint16_t *const scale = nested ? of->scale_step : of->scale, *const second = nested ? of->second_step : of->second;
  const char *scale_name = nested ? "scaleStep" : "scale";
  const char *second_name = nested ? (offset ? "offsetStep" : "zeroPointStep") : (offset ? "offset" : "zeroPoint");
  SamebitsStatus status = check_finite(form->kind, scale_name, SAMEBITS_SCALE_NOT_FINITE, scale, count, first, refusal);
  if (status != SAMEBITS_OK) return status;
  status = check_finite(form->kind, second_name, offset ? SAMEBITS_OFFSET_NOT_FINITE : SAMEBITS_ZERO_POINT_NOT_FINITE, second,
                        count, first, refusal);
  if (status != SAMEBITS_OK) return status;
  for (uint64_t i = 0; i < of->count; i++) {
    const double s = value_of(form->kind, scale[i / per_step]) * (nested ? of->scale_code[i] : 1);
    const double z = value_of(form->kind, second[i / per_step]) * (nested ? of->second_code[i] : 1);
    if (!offset && std::fabs(z) > kMaxZeroPoint) {
      print(refusal->rule, "zeroPoint must not exceed 65536 in magnitude");
      print(refusal->expected, "at most 65536");
      print(refusal->got, "%g at element %" PRIu64, z, of->first + i);
      return refuse(refusal, SAMEBITS_ZERO_POINT_OUT_OF_RANGE,
                    "Requantize this group: such a zero point leaves no precision for its weights.");
    }
    *reach = std::fmax(*reach, reach_of(*form, s, z));
  }
  return SAMEBITS_OK;
}

SamebitsStatus samebits_weight_exponent(double reach, int32_t *exponent, SamebitsRefusal *refusal) {
  *exponent = 0;
  if (reach == 0) return SAMEBITS_OK;
  const double fraction = std::frexp(reach, exponent);  // reach = fraction * 2^exponent, fraction in 1/2..1
  if (fraction == 0.5) *exponent -= 1;
  const bool is_reach = std::isfinite(reach) && reach > 0;
  if (is_reach && std::abs(*exponent) <= SAMEBITS_MAX_WEIGHT_EXPONENT) return SAMEBITS_OK;
  print(refusal->rule, "the largest weight that scale and zero point or offset can reach must lie between 2^-100 and 2^100");
  print(refusal->expected, "E_w in -%d..%d", SAMEBITS_MAX_WEIGHT_EXPONENT, SAMEBITS_MAX_WEIGHT_EXPONENT);
  print(refusal->got, "E_w = %d (largest reachable weight %g)", *exponent, reach);
  return refuse(refusal, SAMEBITS_WEIGHT_EXPONENT_OUT_OF_RANGE,
                "The scales are nonsense for a trained weight; check how they were read.");
}

SamebitsStatus samebits_validate_rows(uint64_t length, int32_t k, int32_t *m, SamebitsRefusal *refusal) {
  if (k < SAMEBITS_BLOCK_SIZE) {
    print(refusal->rule, "K, the number of input features, must be a positive multiple of 32");
    print(refusal->expected, "the K of a validated weight");
    print(refusal->got, "%d", k);
    return refuse(refusal, SAMEBITS_K_UNSUPPORTED, "Validate the weight's description first.");
  }
  const uint64_t rows = length / static_cast<uint64_t>(k);
  if (rows == 0 || length % static_cast<uint64_t>(k) != 0) {
    print(refusal->rule, "x must hold whole rows, bf16[M, K]");
    print(refusal->expected, "a positive multiple of K = %d elements", k);
    print(refusal->got, "%" PRIu64 " elements", length);
    return refuse(refusal, SAMEBITS_INPUT_LENGTH_MISMATCH, "Pass one row of K activations for each token.");
  }
  if (rows > SAMEBITS_MAX_M) {
    print(refusal->rule, "M, the rows of activations, must be a positive integer");
    print(refusal->expected, "1..%d", SAMEBITS_MAX_M);
    print(refusal->got, "%" PRIu64, rows);
    return refuse(refusal, SAMEBITS_M_UNSUPPORTED, "Split the activations into several calls.");
  }
  *m = static_cast<int32_t>(rows);
  return SAMEBITS_OK;
}

void samebits_interleave(SamebitsFormKind form, const uint16_t *scale, const uint16_t *second, uint64_t count, uint32_t *words) {
  const auto flushed = [=](uint16_t bits) -> uint32_t { return !is_f16(form) && (bits & kInfinityBits) == 0 ? bits & 0x8000u : bits; };
  for (uint64_t i = 0; i < count; i++) words[i] = flushed(scale[i]) | flushed(second[i]) << 16;
}

void samebits_interleave_codes(const uint8_t *scale, const uint8_t *second, uint64_t count, uint16_t *words) {
  for (uint64_t i = 0; i < count; i++) words[i] = static_cast<uint16_t>(scale[i] | second[i] << 8);
}

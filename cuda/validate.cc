// What must hold of a packed weight at the native border. No CUDA here: this file builds and runs on any machine.

#include <cinttypes>
#include <cmath>
#include <cstdarg>
#include <cstdio>
#include <cstring>

#include "samebits.h"

namespace {

constexpr const char *kRepack = "Repack with CoalescedInt4Tensor.fromInt4Tensor or 'samebits convert'.";
constexpr uint32_t kMaxZeroPointBits = 0x4780;  // bf16 65536; magnitudes compare as integers
constexpr uint32_t kInfinityBits = 0x7f80;

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
    return refuse(refusal, SAMEBITS_DTYPE_MISMATCH, "Pass packed u8 codes, and bf16 bit patterns.");
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

SamebitsStatus check_scale_shape(const SamebitsOperand &operand, const char *name, const SamebitsShape &shape,
                                 SamebitsLayout layout, SamebitsRefusal *refusal) {
  const int64_t coalesced[2] = {shape.n, shape.n_groups};
  const int64_t native[2] = {shape.n_groups, shape.n};
  const int64_t(&expected)[2] = layout == SAMEBITS_COALESCED ? coalesced : native;
  if (operand.shape[0] == expected[0] && operand.shape[1] == expected[1]) return SAMEBITS_OK;
  print(refusal->rule, "%s must be bf16%s", name,
        layout == SAMEBITS_COALESCED ? "[N, K/groupSize]" : "[K/groupSize, N]");
  print(refusal->expected, "[%" PRId64 ", %" PRId64 "]", expected[0], expected[1]);
  if (layout == SAMEBITS_COALESCED && operand.shape[0] == native[0] && operand.shape[1] == native[1]) {
    print_shape(refusal->got, operand, ", torchao's native layout");
    return refuse(refusal, SAMEBITS_LAYOUT_NATIVE_SCALE, kRepack);
  }
  print_shape(refusal->got, operand, "");
  return refuse(refusal, SAMEBITS_SHAPE_MISMATCH, "Check groupSize and the order of the dimensions.");
}

// A bf16 as the operator computes with it: subnormals count as 0.
double flushed_value(uint16_t bits) {
  if ((bits & kInfinityBits) == 0) return 0;
  const uint32_t word = static_cast<uint32_t>(bits) << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

SamebitsStatus refuse_value(SamebitsRefusal *refusal, SamebitsStatus status, const char *name, uint64_t index,
                            uint16_t bits) {
  if (status == SAMEBITS_ZERO_POINT_OUT_OF_RANGE) {
    print(refusal->rule, "zeroPoint must not exceed 65536 in magnitude");
    print(refusal->expected, "at most 65536");
    print(refusal->got, "%g at element %" PRIu64, flushed_value(bits), index);
    return refuse(refusal, status, "Requantize this group: such a zero point leaves no precision for its weights.");
  }
  print(refusal->rule, "%s must be finite", name);
  print(refusal->expected, "finite bf16 values");
  print(refusal->got, "bits 0x%04x at element %" PRIu64, bits, index);
  return refuse(refusal, status, "The checkpoint is damaged or was quantized from non-finite weights; quantize again.");
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
  }
  return "UNKNOWN";
}

SamebitsStatus samebits_validate_description(const SamebitsWeightDescription *description, SamebitsLayout layout,
                                             SamebitsShape *shape, SamebitsRefusal *refusal) {
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

  const SamebitsOperand *operands[2] = {&description->scale, &description->zero_point};
  const char *names[2] = {"scale", "zeroPoint"};
  for (int i = 0; i < 2 && status == SAMEBITS_OK; i++) {
    status = check_dtype_and_rank(*operands[i], names[i], "bf16", refusal);
    if (status == SAMEBITS_OK) status = check_scale_shape(*operands[i], names[i], *shape, layout, refusal);
    if (status == SAMEBITS_OK) status = check_byte_length(*operands[i], names[i], 2, refusal);
  }
  return status;
}

SamebitsStatus samebits_validate_values(const uint16_t *scale, const uint16_t *zero_point, uint64_t count,
                                        uint64_t first, double *reach, SamebitsRefusal *refusal) {
  for (uint64_t i = 0; i < count; i++) {
    if ((scale[i] & kInfinityBits) == kInfinityBits) {
      return refuse_value(refusal, SAMEBITS_SCALE_NOT_FINITE, "scale", first + i, scale[i]);
    }
    if ((zero_point[i] & kInfinityBits) == kInfinityBits) {
      return refuse_value(refusal, SAMEBITS_ZERO_POINT_NOT_FINITE, "zeroPoint", first + i, zero_point[i]);
    }
    if ((zero_point[i] & 0x7fffu) > kMaxZeroPointBits) {
      return refuse_value(refusal, SAMEBITS_ZERO_POINT_OUT_OF_RANGE, "zeroPoint", first + i, zero_point[i]);
    }
    const double s = std::fabs(flushed_value(scale[i]));
    const double z = flushed_value(zero_point[i]);
    *reach = std::fmax(*reach, s * std::fmax(std::fabs(z), std::fabs(15 - z)));
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
  print(refusal->rule, "the largest weight that scale and zeroPoint can reach must lie between 2^-100 and 2^100");
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

void samebits_interleave(const uint16_t *scale, const uint16_t *zero_point, uint64_t count, uint32_t *scale_zero) {
  for (uint64_t i = 0; i < count; i++) {
    const uint32_t s = (scale[i] & kInfinityBits) == 0 ? scale[i] & 0x8000u : scale[i];
    const uint32_t z = (zero_point[i] & kInfinityBits) == 0 ? zero_point[i] & 0x8000u : zero_point[i];
    scale_zero[i] = s | z << 16;
  }
}

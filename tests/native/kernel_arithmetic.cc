// The arithmetic of the CUDA kernels (cuda/numerics.cuh) as a filter: records in, results out, all little-endian.
//
//   rows     u16 x[64]                                                  -> i32 E_x, f32 d_b[2], i8 |a|[64]
//   runs     i32 dp, f32 asum, u32 scale_zero, i32 E_w, f32 d_b, u32 0  -> i64 C
//   results  i64 T, i32 E_w, i32 E_x                                    -> u32 f32 bits, u32 bf16 bits
//   halves   u32 word                                                   -> f32 of its low and of its high f16, f32 of its low byte
//   forms    i32 form, i32 dp, f32 asum, f32 center, u32 word or codes, u32 steps, i32 E_w, f32 d_b -> i64 C

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "form.cuh"

using namespace samebits;

namespace {

struct Row {
  uint16_t x[2][BLOCK_SIZE];
};
struct QuantizedRow {
  int32_t exponent;
  float block_scale[2];
  int8_t magnitude[2][BLOCK_SIZE];
};

QuantizedRow quantize(const Row &row) {
  uint32_t block_max[2] = {};
  for (int b = 0; b < 2; b++) {
    for (const uint16_t x : row.x[b]) block_max[b] = std::max(block_max[b], x & 0x7fffu);
  }
  QuantizedRow quantized = {};
  quantized.exponent = row_exponent_of(std::max(scale_word_of(block_max[0]), scale_word_of(block_max[1])));
  for (int b = 0; b < 2; b++) {
    if (quantized.exponent == NAN_ROW || scale_word_of(block_max[b]) == ZERO_BLOCK) continue;
    const float scaled = block_scale_of(scale_word_of(block_max[b]), quantized.exponent);
    if (scaled == 0) continue;
    quantized.block_scale[b] = scaled * power_of_two(-FRACTION_BITS);
    const uint32_t reciprocal = block_reciprocal(block_max[b]);
    for (int i = 0; i < BLOCK_SIZE; i++) {
      quantized.magnitude[b][i] =
          static_cast<int8_t>(quantize_code(row.x[b][i] & 0x7fffu, block_max[b], reciprocal));
    }
  }
  return quantized;
}

struct Run {
  int32_t dp;
  float asum;
  uint32_t scale_zero;
  int32_t weight_exponent;
  float block_scale;
  uint32_t padding;
};

int64_t contribute(const Run &run) {
  return run_contribution(run.dp, run.asum, product(low_bf16(run.scale_zero), power_of_two(-run.weight_exponent)),
                          high_bf16(run.scale_zero), run.block_scale * power_of_two(FRACTION_BITS));
}

struct Total {
  int64_t total;
  int32_t weight_exponent;
  int32_t row_exponent;
};
struct Result {
  uint32_t f32;
  uint32_t bf16;
};

Result finish(const Total &of) {
  const uint32_t bits = result_bits(of.total, of.weight_exponent, of.row_exponent);
  return {bits, bf16_from_result(bits)};
}

struct Halves {
  float low, high, byte;
};

Halves decode(const uint32_t &word) { return {low_f16(word), high_f16(word), float_from_byte(word)}; }

struct FormRun {
  int32_t form, dp;
  float asum, center;
  uint32_t word, steps;
  int32_t weight_exponent;
  float block_scale;
};

template <SamebitsFormKind FORM>
int64_t contribute_of(const FormRun &of) {
  const float weight_scale = power_of_two(-of.weight_exponent), block_scale = of.block_scale * power_of_two(FRACTION_BITS);
  if constexpr (is_nested(FORM)) {
    return GroupNumbers<FORM>::of_codes(of.word, of.steps, weight_scale).contribution(of.dp, of.asum, of.center, block_scale);
  } else {
    return GroupNumbers<FORM>::of_word(of.word, weight_scale).contribution(of.dp, of.asum, of.center, block_scale);
  }
}

int64_t contribute_form(const FormRun &of) {
  switch (static_cast<SamebitsFormKind>(of.form)) {
    case SAMEBITS_ZERO_BF16: return contribute_of<SAMEBITS_ZERO_BF16>(of);
    case SAMEBITS_ZERO_F16: return contribute_of<SAMEBITS_ZERO_F16>(of);
    case SAMEBITS_OFFSET_BF16: return contribute_of<SAMEBITS_OFFSET_BF16>(of);
    case SAMEBITS_OFFSET_F16: return contribute_of<SAMEBITS_OFFSET_F16>(of);
    case SAMEBITS_NESTED_ZERO: return contribute_of<SAMEBITS_NESTED_ZERO>(of);
    case SAMEBITS_NESTED_OFFSET: return contribute_of<SAMEBITS_NESTED_OFFSET>(of);
  }
  return -1;
}

template <typename In, typename Out>
int filter(Out (*work)(const In &)) {
  In in;
  while (std::fread(&in, sizeof in, 1, stdin) == 1) {
    const Out out = work(in);
    if (std::fwrite(&out, sizeof out, 1, stdout) != 1) return 1;
  }
  return 0;
}

}  // namespace

int main(int count, char **arguments) {
  if (count == 2 && std::strcmp(arguments[1], "rows") == 0) return filter(quantize);
  if (count == 2 && std::strcmp(arguments[1], "runs") == 0) return filter(contribute);
  if (count == 2 && std::strcmp(arguments[1], "results") == 0) return filter(finish);
  if (count == 2 && std::strcmp(arguments[1], "halves") == 0) return filter(decode);
  if (count == 2 && std::strcmp(arguments[1], "forms") == 0) return filter(contribute_form);
  std::fprintf(stderr, "usage: kernel_arithmetic rows|runs|results|halves|forms\n");
  return 2;
}

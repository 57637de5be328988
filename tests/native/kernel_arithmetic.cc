// The arithmetic of the CUDA kernels (cuda/numerics.cuh) as a filter: records in, results out, all little-endian.
//
//   rows     u16 x[64]                                                  -> i32 E_x, f32 d_b[2], i8 |a|[64]
//   runs     i32 dp, f32 asum, u32 scale_zero, i32 E_w, f32 d_b, u32 0  -> i64 C
//   results  i64 T, i32 E_w, i32 E_x                                    -> u32 f32 bits, u32 bf16 bits

#include <algorithm>
#include <cstdio>
#include <cstring>

#include "numerics.cuh"

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
  return run_contribution(run.dp, run.asum, product(scale_of(run.scale_zero), power_of_two(-run.weight_exponent)),
                          zero_point_of(run.scale_zero), run.block_scale * power_of_two(FRACTION_BITS));
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
  std::fprintf(stderr, "usage: kernel_arithmetic rows|runs|results\n");
  return 2;
}

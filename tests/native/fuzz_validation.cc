// The validation of the C header (cuda/validate.cc) under generated input: fuzz_validation SECONDS SEED
//
// Built with AddressSanitizer and UndefinedBehaviorSanitizer. Every array and string has its exact size on the heap, and
// every verdict is compared with the rules stated again here. Prints how many inputs were accepted and refused.

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <iterator>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "samebits.h"

namespace {

std::mt19937_64 engine;

uint64_t below(uint64_t bound) { return engine() % bound; }
bool one_in(uint64_t count) { return below(count) == 0; }

template <typename T, size_t Count>
T any_of(const T (&values)[Count]) {
  return values[below(Count)];
}

[[noreturn]] void fail(const char *what) {
  std::printf("FAILED: %s\n", what);
  std::exit(1);
}

void require(bool holds, const char *what) {
  if (!holds) fail(what);
}

// A C string without a byte to spare behind its end; null now and then.
struct ExactString {
  std::unique_ptr<char[]> text;
  void set(const std::string &value) {
    text.reset(new char[value.size() + 1]);
    std::memcpy(text.get(), value.c_str(), value.size() + 1);
  }
  bool is(const char *value) const { return text && std::strcmp(text.get(), value) == 0; }
};

std::string noise() {
  std::string text(below(one_in(4) ? 4000 : 24), '\0');
  for (char &c : text) c = static_cast<char>(1 + below(255));
  return text;
}

void fill(ExactString &string, const char *right) {
  string.text.reset();
  if (one_in(40)) return;
  if (one_in(20)) return string.set(noise());
  if (one_in(20)) return string.set(std::string(right) + (one_in(2) ? " " : "x"));
  if (one_in(20)) return string.set(std::string(right).substr(1));
  string.set(right);
}

int64_t any_integer() {
  const int64_t edges[] = {0,        1,         -1,        2,          15,        16,        17,       31,       32,
                           33,       32752,     32751,     32768,      65504,     65536,     1 << 24,  (1 << 24) + 1,
                           INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN, int64_t{1} << 32, int64_t{1} << 53, -32};
  if (one_in(3)) return static_cast<int64_t>(engine());
  return any_of(edges);
}

struct Input {
  SamebitsWeightDescription view = {};
  SamebitsLayout layout = SAMEBITS_COALESCED;
  ExactString tag, dtypes[3];
};

const char *tag_of(SamebitsLayout layout) { return layout == SAMEBITS_COALESCED ? "coalesced-int4" : "native-int4"; }

// A valid description, of which a few parts are then spoiled.
void generate(Input &input) {
  input.layout = one_in(2) ? SAMEBITS_COALESCED : SAMEBITS_NATIVE;
  const int64_t group_size = int64_t{16} << below(8);
  const int64_t k = std::max<int64_t>(32, group_size) * static_cast<int64_t>(1 + below(6));
  const int64_t n = static_cast<int64_t>(1 + below(one_in(8) ? uint64_t{1} << 24 : 40));
  const int64_t groups = k / group_size;
  const bool is_coalesced = input.layout == SAMEBITS_COALESCED;
  const SamebitsOperand scale = {nullptr, 2, {is_coalesced ? n : groups, is_coalesced ? groups : n},
                                 static_cast<uint64_t>(n * groups * 2)};
  input.view.group_size = group_size;
  input.view.qdata = {nullptr, 2, {n, k / 2}, static_cast<uint64_t>(n * k / 2)};
  input.view.scale = input.view.zero_point = scale;
  fill(input.tag, tag_of(one_in(10) ? (is_coalesced ? SAMEBITS_NATIVE : SAMEBITS_COALESCED) : input.layout));
  SamebitsOperand *const operands[] = {&input.view.qdata, &input.view.scale, &input.view.zero_point};
  for (int i = 0; i < 3; i++) {
    fill(input.dtypes[i], i == 0 ? "u8" : "bf16");
    SamebitsOperand &operand = *operands[i];
    if (one_in(15)) operand.rank = one_in(2) ? below(5) : engine();
    if (one_in(15)) operand.shape[below(2)] = any_integer();
    if (one_in(15)) std::swap(operand.shape[0], operand.shape[1]);
    if (one_in(15)) operand.size_bytes += one_in(2) ? 1 : -1;
    if (one_in(15)) operand.size_bytes = engine();
    operand.dtype = input.dtypes[i].text.get();
  }
  if (one_in(10)) input.view.group_size = any_integer();
  input.view.layout = input.tag.text.get();
}

// The rules of the header, in exact arithmetic of 128 bits.
bool is_valid(const Input &input) {
  const SamebitsWeightDescription &view = input.view;
  if (!input.tag.is(tag_of(input.layout)) || !input.dtypes[0].is("u8")) return false;
  if (!input.dtypes[1].is("bf16") || !input.dtypes[2].is("bf16")) return false;
  if (view.qdata.rank != 2 || view.scale.rank != 2 || view.zero_point.rank != 2) return false;
  const __int128 n = view.qdata.shape[0], k = static_cast<__int128>(view.qdata.shape[1]) * 2, group = view.group_size;
  if (n < 1 || n > SAMEBITS_MAX_N || k < 32 || k > SAMEBITS_MAX_K || k % 32 != 0) return false;
  bool is_power = false;
  for (__int128 power = 16; power <= k; power *= 2) is_power = is_power || power == group;
  if (!is_power || k % group != 0) return false;
  const __int128 groups = k / group;
  if (view.qdata.size_bytes != n * (k / 2)) return false;
  for (const SamebitsOperand *scale : {&view.scale, &view.zero_point}) {
    const __int128 rows = input.layout == SAMEBITS_COALESCED ? n : groups;
    if (scale->shape[0] != rows || scale->shape[1] != n * groups / rows) return false;
    if (scale->size_bytes != n * groups * 2) return false;
  }
  return true;
}

void require_refusal(SamebitsStatus status, const SamebitsRefusal &refusal) {
  require(refusal.status == status, "the refusal has another status");
  require(std::strcmp(samebits_status_name(status), "UNKNOWN") != 0, "a status has no name");
  for (const char *text : {refusal.rule, refusal.expected, refusal.got, refusal.fix}) {
    const size_t length = strnlen(text, sizeof refusal.rule);
    require(length > 0 && length < sizeof refusal.rule, "a text of a refusal is empty or has no end");
  }
}

bool check_description() {
  Input input;
  generate(input);
  SamebitsShape shape = {-7, -7, -7, -7};
  SamebitsRefusal refusal;
  std::memset(&refusal, 0x5a, sizeof refusal);
  const SamebitsStatus status = samebits_validate_description(&input.view, input.layout, &shape, &refusal);
  require((status == SAMEBITS_OK) == is_valid(input), "a description was judged wrongly");
  if (status != SAMEBITS_OK) return require_refusal(status, refusal), false;
  require(shape.n == input.view.qdata.shape[0] && shape.k == 2 * input.view.qdata.shape[1], "a shape is wrong");
  require(shape.group_size == input.view.group_size && shape.n_groups * shape.group_size == shape.k, "groups are wrong");
  return true;
}

uint16_t any_bf16() {
  const uint16_t edges[] = {0x0000, 0x8000, 0x0001, 0x007f, 0x0080, 0x3f80, 0x4780, 0x4781, 0xc780, 0xc781, 0x7f7f, 0x7f80, 0xff80, 0x7fc0, 0xffff};
  return one_in(40) ? any_of(edges) : static_cast<uint16_t>(one_in(2) ? 0x3000 + below(0x1700) : 0xb000 + below(0x1700));
}

double value_of(uint16_t bits) {
  const int biased = (bits >> 7) & 255;
  if (biased == 0) return 0;
  return std::ldexp(128 + (bits & 127), biased - 134) * (bits >> 15 ? -1 : 1);
}

bool check_values() {
  const uint64_t count = below(one_in(10) ? 300 : 20);
  const std::unique_ptr<uint16_t[]> scale(new uint16_t[count]), zero_point(new uint16_t[count]);
  bool is_right = true;
  double expected = 0;
  for (uint64_t i = 0; i < count; i++) {
    scale[i] = any_bf16();
    zero_point[i] = any_bf16();
    const bool is_finite = (scale[i] & 0x7f80) != 0x7f80 && (zero_point[i] & 0x7f80) != 0x7f80;
    is_right = is_right && is_finite && std::fabs(value_of(zero_point[i])) <= 65536;
    if (!is_right) continue;
    const double z = value_of(zero_point[i]);
    expected = std::max(expected, std::fabs(value_of(scale[i])) * std::max(std::fabs(z), std::fabs(15 - z)));
  }
  double reach = 0;
  SamebitsRefusal refusal;
  std::memset(&refusal, 0x5a, sizeof refusal);
  const SamebitsStatus status =
      samebits_validate_values(scale.get(), zero_point.get(), count, engine(), &reach, &refusal);
  require((status == SAMEBITS_OK) == is_right, "values were judged wrongly");
  if (!is_right) return require_refusal(status, refusal), false;
  require(reach == expected, "the reach is wrong");

  const std::unique_ptr<uint32_t[]> words(new uint32_t[count]);
  samebits_interleave(scale.get(), zero_point.get(), count, words.get());
  for (uint64_t i = 0; i < count; i++) {
    const uint16_t low = static_cast<uint16_t>(words[i]), high = static_cast<uint16_t>(words[i] >> 16);
    require(value_of(low) == value_of(scale[i]) && low >> 15 == scale[i] >> 15, "a scale was interleaved wrongly");
    require(value_of(high) == value_of(zero_point[i]) && high >> 15 == zero_point[i] >> 15, "a zero point was");
  }
  return true;
}

bool check_exponent() {
  double reach = 0;
  const uint64_t bits = engine();
  std::memcpy(&reach, &bits, sizeof reach);
  if (one_in(2)) reach = std::ldexp(1 + (one_in(2) ? 0 : static_cast<double>(below(1 << 20)) / (1 << 20)), static_cast<int>(below(260)) - 130);
  if (one_in(50)) reach = 0;
  int32_t exponent = -7;
  SamebitsRefusal refusal;
  std::memset(&refusal, 0x5a, sizeof refusal);
  const SamebitsStatus status = samebits_weight_exponent(reach, &exponent, &refusal);
  const bool is_right = reach == 0 || (reach > std::ldexp(1, -101) && reach <= std::ldexp(1, 100));
  require((status == SAMEBITS_OK) == is_right, "an exponent was judged wrongly");
  if (!is_right) return require_refusal(status, refusal), false;
  const bool fits = reach <= std::ldexp(1, exponent) && reach > std::ldexp(1, exponent - 1);
  require(reach == 0 ? exponent == 0 : fits, "an exponent is wrong");
  return true;
}

bool check_rows() {
  const int32_t k = static_cast<int32_t>(one_in(4) ? any_integer() : static_cast<int64_t>(32 * (1 + below(2047))));
  const uint64_t length = one_in(3) ? engine() : below(70000) * static_cast<uint64_t>(std::max(k, 1)) + below(2);
  int32_t m = -7;
  SamebitsRefusal refusal;
  std::memset(&refusal, 0x5a, sizeof refusal);
  const SamebitsStatus status = samebits_validate_rows(length, k, &m, &refusal);
  const bool is_right = k >= SAMEBITS_BLOCK_SIZE && length > 0 && length % static_cast<uint64_t>(k) == 0 &&
                        length / static_cast<uint64_t>(k) <= SAMEBITS_MAX_M;
  require((status == SAMEBITS_OK) == is_right, "rows were judged wrongly");
  if (!is_right) return require_refusal(status, refusal), false;
  require(static_cast<uint64_t>(m) * static_cast<uint64_t>(k) == length, "M is wrong");
  return true;
}

}  // namespace

int main(int count, char **arguments) {
  const double seconds = count > 1 ? std::atof(arguments[1]) : 1;
  const uint64_t seed = count > 2 ? std::strtoull(arguments[2], nullptr, 10) : 1;
  engine.seed(seed);
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  bool (*const checks[])() = {check_description, check_values, check_exponent, check_rows};
  const char *const names[] = {"descriptions", "values", "exponents", "rows"};
  uint64_t accepted[std::size(checks)] = {}, refused[std::size(checks)] = {};
  do {
    for (int i = 0; i < 1000; i++) {
      for (size_t c = 0; c < std::size(checks); c++) (checks[c]() ? accepted : refused)[c]++;
    }
  } while (std::chrono::steady_clock::now() < end);
  for (size_t c = 0; c < std::size(checks); c++) {
    std::printf("%s: %llu accepted, %llu refused\n", names[c], static_cast<unsigned long long>(accepted[c]),
                static_cast<unsigned long long>(refused[c]));
  }
}

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
  ExactString tag, form, dtypes[5];
};

const char *const kForms[] = {"zero", "offset", "nested-zero", "nested-offset"};

// What a form's name says of it.
bool says_nested(const ExactString &form) { return form.is(kForms[2]) || form.is(kForms[3]); }
bool says_offset(const ExactString &form) { return form.is(kForms[1]) || form.is(kForms[3]); }
bool says_form(const ExactString &form) { return form.is(kForms[0]) || form.is(kForms[1]) || says_nested(form); }

const char *tag_of(SamebitsLayout layout) { return layout == SAMEBITS_COALESCED ? "coalesced-int4" : "native-int4"; }

// A valid description, of which a few parts are then spoiled.
void generate(Input &input) {
  input.layout = one_in(3) ? SAMEBITS_NATIVE : SAMEBITS_COALESCED;
  const bool is_coalesced = input.layout == SAMEBITS_COALESCED;
  const char *const form = one_in(3) || !is_coalesced ? kForms[0] : any_of(kForms);
  fill(input.form, form);
  const bool nested = form == kForms[2] || form == kForms[3];
  const int64_t group_size = int64_t{16} << below(nested && !one_in(10) ? 5 : 8);
  const int64_t span = std::max<int64_t>(nested && !one_in(10) ? 256 : 32, group_size);
  const int64_t k = span * static_cast<int64_t>(1 + below(6));
  const int64_t n = static_cast<int64_t>(1 + below(one_in(8) ? uint64_t{1} << 24 : 40));
  const char *const halves = one_in(2) && is_coalesced ? "f16" : "bf16";
  const auto operand = [&](int64_t of_span, int64_t element_bytes) -> SamebitsOperand {
    const int64_t columns = k / of_span;
    return {nullptr, 2, {is_coalesced ? n : columns, is_coalesced ? columns : n}, static_cast<uint64_t>(n * columns * element_bytes)};
  };
  input.view.group_size = group_size;
  input.view.center = one_in(2) && (form == kForms[1] || form == kForms[3]) ? 8 : 0;
  input.view.qdata = {nullptr, 2, {n, k / 2}, static_cast<uint64_t>(n * k / 2)};
  input.view.scale = input.view.second = operand(group_size, nested ? 1 : 2);
  input.view.scale_step = input.view.second_step = operand(256, 2);
  fill(input.tag, tag_of(one_in(10) ? (is_coalesced ? SAMEBITS_NATIVE : SAMEBITS_COALESCED) : input.layout));
  SamebitsOperand *const operands[] = {&input.view.qdata, &input.view.scale, &input.view.second, &input.view.scale_step,
                                       &input.view.second_step};
  const char *const dtypes[] = {"u8", nested ? "u8" : halves, nested ? "u8" : halves, "f16", "f16"};
  for (int i = 0; i < 5; i++) {
    fill(input.dtypes[i], one_in(40) ? "f16" : dtypes[i]);
    SamebitsOperand &of = *operands[i];
    if (one_in(15)) of.rank = one_in(2) ? below(5) : engine();
    if (one_in(15)) of.shape[below(2)] = any_integer();
    if (one_in(15)) std::swap(of.shape[0], of.shape[1]);
    if (one_in(15)) of.size_bytes += one_in(2) ? 1 : -1;
    if (one_in(15)) of.size_bytes = engine();
    of.dtype = input.dtypes[i].text.get();
  }
  if (one_in(10)) input.view.group_size = any_integer();
  if (one_in(20)) input.view.center = any_integer();
  input.view.layout = input.tag.text.get();
  input.view.form = input.form.text.get();
}

// The rules of the header, in exact arithmetic of 128 bits.
bool is_valid(const Input &input) {
  const SamebitsWeightDescription &view = input.view;
  if (!input.tag.is(tag_of(input.layout)) || !input.dtypes[0].is("u8") || !says_form(input.form)) return false;
  const bool nested = says_nested(input.form), offset = says_offset(input.form), f16 = input.dtypes[1].is("f16");
  if (view.center != 0 && (view.center != 8 || !offset)) return false;
  if (input.layout == SAMEBITS_NATIVE && (nested || offset || f16)) return false;
  const __int128 n = view.qdata.shape[0], k = static_cast<__int128>(view.qdata.shape[1]) * 2, group = view.group_size;
  if (view.qdata.rank != 2 || n < 1 || n > SAMEBITS_MAX_N || k < 32 || k > SAMEBITS_MAX_K || k % 32 != 0) return false;
  bool is_power = false;
  for (__int128 power = 16; power <= k; power *= 2) is_power = is_power || power == group;
  if (!is_power || k % group != 0 || view.qdata.size_bytes != n * (k / 2)) return false;
  if (nested && (k % 256 != 0 || group > 256)) return false;
  const auto holds = [&](const SamebitsOperand &of, const ExactString &dtype, const char *expected, __int128 span) {
    const __int128 columns = k / span, rows = input.layout == SAMEBITS_COALESCED ? n : columns;
    return of.rank == 2 && dtype.is(expected) && of.shape[0] == rows && of.shape[1] == n * columns / rows &&
           of.size_bytes == n * columns * (dtype.is("u8") ? 1 : 2);
  };
  const char *const dtype = nested ? "u8" : f16 ? "f16" : "bf16";
  if (!holds(view.scale, input.dtypes[1], dtype, group) || !holds(view.second, input.dtypes[2], dtype, group)) return false;
  return !nested || (holds(view.scale_step, input.dtypes[3], "f16", 256) && holds(view.second_step, input.dtypes[4], "f16", 256));
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
  SamebitsForm form = {};
  SamebitsRefusal refusal;
  std::memset(&refusal, 0x5a, sizeof refusal);
  const SamebitsStatus status = samebits_validate_description(&input.view, input.layout, &shape, &form, &refusal);
  require((status == SAMEBITS_OK) == is_valid(input), "a description was judged wrongly");
  if (status != SAMEBITS_OK) return require_refusal(status, refusal), false;
  require(shape.n == input.view.qdata.shape[0] && shape.k == 2 * input.view.qdata.shape[1], "a shape is wrong");
  require(shape.group_size == input.view.group_size && shape.n_groups * shape.group_size == shape.k, "groups are wrong");
  const bool is_f16 = input.dtypes[1].is("f16");
  const SamebitsFormKind kinds[] = {is_f16 ? SAMEBITS_ZERO_F16 : SAMEBITS_ZERO_BF16,
                                    is_f16 ? SAMEBITS_OFFSET_F16 : SAMEBITS_OFFSET_BF16, SAMEBITS_NESTED_ZERO,
                                    SAMEBITS_NESTED_OFFSET};
  for (int i = 0; i < 4; i++) require(!input.form.is(kForms[i]) || form.kind == kinds[i], "a form is wrong");
  require(form.center == input.view.center, "a center is wrong");
  return true;
}

uint16_t any_half(bool is_f16) {
  const uint16_t edges[] = {0x0000, 0x8000, 0x0001, 0x007f, 0x0080, 0x03ff, 0x3f80, 0x4780, 0x4781, 0xc780, 0xc781, 0x7bff,
                            0x7c00, 0xfc00, 0x7e01, 0x7f7f, 0x7f80, 0xff80, 0x7fc0, 0xffff};
  if (one_in(40)) return any_of(edges);
  const uint64_t range = is_f16 ? 0x4000 : 0x1700, least = is_f16 ? 0x0800 : 0x3000;
  return static_cast<uint16_t>(least + below(range) + (one_in(2) ? 0x8000 : 0));
}

double value_of(bool is_f16, uint16_t bits) {
  const int fraction_bits = is_f16 ? 10 : 7, bias = is_f16 ? 15 : 127;
  const int biased = (bits & 0x7fff) >> fraction_bits, fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits >> 15 ? -1 : 1;
  if (biased == 0) return is_f16 ? sign * std::ldexp(fraction, 1 - bias - fraction_bits) : 0;
  return sign * std::ldexp((1 << fraction_bits) + fraction, biased - bias - fraction_bits);
}

bool check_values() {
  const SamebitsForm form = {static_cast<SamebitsFormKind>(below(SAMEBITS_FORM_KINDS)), 0};
  const bool nested = form.kind >= SAMEBITS_NESTED_ZERO, offset = form.kind == SAMEBITS_OFFSET_BF16 ||
                                                                  form.kind == SAMEBITS_OFFSET_F16 || form.kind == SAMEBITS_NESTED_OFFSET;
  const bool is_f16 = form.kind != SAMEBITS_ZERO_BF16 && form.kind != SAMEBITS_OFFSET_BF16;
  const SamebitsForm centered = {form.kind, offset && one_in(2) ? 8 : 0};
  const uint64_t per_step = nested ? uint64_t{1} << below(5) : 1, steps = below(one_in(10) ? 300 : 20), count = steps * per_step;
  const std::unique_ptr<uint16_t[]> scale(new uint16_t[steps]), second(new uint16_t[steps]);
  const std::unique_ptr<uint8_t[]> scale_code(new uint8_t[count]), second_code(new uint8_t[count]);
  const uint16_t infinity = is_f16 ? 0x7c00 : 0x7f80;
  bool is_right = true;
  for (uint64_t i = 0; i < steps; i++) {
    scale[i] = any_half(is_f16);
    second[i] = any_half(is_f16);
    is_right = is_right && (scale[i] & infinity) != infinity && (second[i] & infinity) != infinity;
  }
  double expected = 0;
  for (uint64_t i = 0; i < count; i++) {
    scale_code[i] = static_cast<uint8_t>(below(256));
    second_code[i] = static_cast<uint8_t>(one_in(4) ? below(256) : below(64));
    const double s = std::fabs(value_of(is_f16, scale[i / per_step])) * (nested ? scale_code[i] : 1);
    const double z = value_of(is_f16, second[i / per_step]) * (nested ? second_code[i] : 1);
    is_right = is_right && (offset || std::fabs(z) <= 65536);
    if (!is_right) continue;
    const double most = centered.center == 8 ? 8 : 15;
    expected = std::max(expected, offset ? 2 * std::max(s * most, std::fabs(z)) : s * std::max(std::fabs(z), std::fabs(15 - z)));
  }
  SamebitsGroups groups = {};
  groups.first = below(1000) * per_step;
  groups.count = count;
  groups.groups_per_step = static_cast<int32_t>(per_step);
  (nested ? groups.scale_step : groups.scale) = scale.get();
  (nested ? groups.second_step : groups.second) = second.get();
  if (nested) groups.scale_code = scale_code.get();
  if (nested) groups.second_code = second_code.get();
  double reach = 0;
  SamebitsRefusal refusal;
  std::memset(&refusal, 0x5a, sizeof refusal);
  const SamebitsStatus status = samebits_validate_groups(&centered, &groups, &reach, &refusal);
  require((status == SAMEBITS_OK) == is_right, "values were judged wrongly");
  if (!is_right) return require_refusal(status, refusal), false;
  require(reach == expected, "the reach is wrong");

  const std::unique_ptr<uint32_t[]> words(new uint32_t[steps]);
  const std::unique_ptr<uint16_t[]> codes(new uint16_t[count]);
  samebits_interleave(form.kind, scale.get(), second.get(), steps, words.get());
  samebits_interleave_codes(scale_code.get(), second_code.get(), count, codes.get());
  for (uint64_t i = 0; i < steps; i++) {
    const uint16_t low = static_cast<uint16_t>(words[i]), high = static_cast<uint16_t>(words[i] >> 16);
    require(value_of(is_f16, low) == value_of(is_f16, scale[i]) && low >> 15 == scale[i] >> 15, "a scale was interleaved wrongly");
    require(value_of(is_f16, high) == value_of(is_f16, second[i]) && high >> 15 == second[i] >> 15, "a second value was");
    const bool is_normal = (low & 0x7fff) == 0 || (low & infinity) != 0 || is_f16;
    require(is_normal, "a subnormal was left");
  }
  for (uint64_t i = 0; i < count; i++) require(codes[i] == scale_code[i] + 256 * second_code[i], "codes were interleaved wrongly");
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

// What every refusal of a decoder's arguments says.

#pragma once

#include <string>

#include "device.hpp"

namespace samebits {

inline void require_argument(bool holds, const char *rule, const std::string &expected, const std::string &got) {
  if (holds) return;
  Failure failure;
  failure.code = "ARGUMENT_INVALID";
  failure.rule = rule;
  failure.expected = expected;
  failure.got = got;
  failure.fix = "Call the addon through CudaBackend, which passes what it expects.";
  throw failure;
}

}  // namespace samebits

// Which kernels of int4_plain_mm there are of a form. Every form's are compiled in a file of their own.

#pragma once

#include "walk.cuh"
#include "weight_form.hpp"

namespace samebits {

using Kernel = void (*)(Given<false>);
using DecodingKernel = void (*)(Given<true>);

template <SamebitsFormKind FORM>
struct Kernels {
  static Kernel of(int m, int runs, int warps, bool x_is_shared);
  static DecodingKernel decoding(int runs);
};

}  // namespace samebits

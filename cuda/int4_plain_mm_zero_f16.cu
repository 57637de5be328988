// The kernels of int4_plain_mm for weights with a zero point in f16.

#include "int4_plain_mm.cuh"

template struct samebits::Kernels<SAMEBITS_ZERO_F16>;

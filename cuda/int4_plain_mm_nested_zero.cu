// The kernels of int4_plain_mm for weights with a zero point that is nested.

#include "int4_plain_mm.cuh"

template struct samebits::Kernels<SAMEBITS_NESTED_ZERO>;

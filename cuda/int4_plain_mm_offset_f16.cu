// The kernels of int4_plain_mm for weights with an offset in f16.

#include "int4_plain_mm.cuh"

template struct samebits::Kernels<SAMEBITS_OFFSET_F16>;

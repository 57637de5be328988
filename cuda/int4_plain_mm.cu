// The launcher of int4_plain_mm: what it makes of a walk, and which kernel that takes.

#include "kernels.cuh"
#include "launch.cuh"

namespace samebits {
namespace {

Kernel kernel_of(SamebitsFormKind form, int m, int runs, int warps, bool x_is_shared) {
  switch (form) {
    case SAMEBITS_ZERO_BF16: return Kernels<SAMEBITS_ZERO_BF16>::of(m, runs, warps, x_is_shared);
    case SAMEBITS_ZERO_F16: return Kernels<SAMEBITS_ZERO_F16>::of(m, runs, warps, x_is_shared);
    case SAMEBITS_OFFSET_BF16: return Kernels<SAMEBITS_OFFSET_BF16>::of(m, runs, warps, x_is_shared);
    case SAMEBITS_OFFSET_F16: return Kernels<SAMEBITS_OFFSET_F16>::of(m, runs, warps, x_is_shared);
    case SAMEBITS_NESTED_ZERO: return Kernels<SAMEBITS_NESTED_ZERO>::of(m, runs, warps, x_is_shared);
    case SAMEBITS_NESTED_OFFSET: return Kernels<SAMEBITS_NESTED_OFFSET>::of(m, runs, warps, x_is_shared);
  }
  return nullptr;
}

DecodingKernel decoding_kernel_of(SamebitsFormKind form, int runs) {
  switch (form) {
    case SAMEBITS_ZERO_BF16: return Kernels<SAMEBITS_ZERO_BF16>::decoding(runs);
    case SAMEBITS_ZERO_F16: return Kernels<SAMEBITS_ZERO_F16>::decoding(runs);
    case SAMEBITS_OFFSET_BF16: return Kernels<SAMEBITS_OFFSET_BF16>::decoding(runs);
    case SAMEBITS_OFFSET_F16: return Kernels<SAMEBITS_OFFSET_F16>::decoding(runs);
    case SAMEBITS_NESTED_ZERO: return Kernels<SAMEBITS_NESTED_ZERO>::decoding(runs);
    case SAMEBITS_NESTED_OFFSET: return Kernels<SAMEBITS_NESTED_OFFSET>::decoding(runs);
  }
  return nullptr;
}

Division division_of(const SamebitsLaunch &launch, const SamebitsWalk &of) {
  const int runs = runs_of(of.group_size);
  const int x_bytes[2] = {x_bytes_of(of.m, of.largest_k[0], runs), x_bytes_of(of.m, of.largest_k[1], runs)};
  return divide(launch.shared_bytes, of.m, runs, x_bytes);
}

}  // namespace
}  // namespace samebits

void samebits_describe_linear(const SamebitsDeviceWeight *weight, SamebitsStep *step, SamebitsLinear *linear) {
  using namespace samebits;
  const SamebitsShape &of = weight->shape;
  linear->codes = weight->codes;
  linear->scales = weight->scales;
  linear->n = of.n;
  linear->weight_exponent = weight->weight_exponent;
  linear->scale_layout = scale_layout_of(of, weight->form.kind);
  linear->center = static_cast<int16_t>(weight->form.center);
  linear->first_tile = step->tiles;
  step->tiles += tiles_of(of.n);
  linear->tile_end = step->tiles;
  step->chunks = chunks_of(of.k);
}

uint64_t samebits_tail_bytes(const SamebitsLaunch *launch, int32_t steps, int32_t m) {
  return static_cast<uint64_t>(steps) * static_cast<uint64_t>(launch->multiprocessor_count) * static_cast<uint64_t>(m) *
         samebits::TILE_ROWS * sizeof(uint64_t);
}

int32_t samebits_rows_per_pass(const SamebitsLaunch *launch, int32_t k, int32_t group_size) {
  using namespace samebits;
  const int runs = runs_of(group_size);
  for (int m = MAX_ROWS; m > 1; m--) {
    if (divide(launch->shared_bytes, m, runs, {x_bytes_of(m, k, runs), 0}).stages > 0) return m;
  }
  return 1;
}

int samebits_load_int4_plain_mm(int32_t shared_bytes) {
  using namespace samebits;
  const auto load = [=](auto kernel) {
    const int error = load_kernel(kernel);
    return error ? error : allow_shared_memory(kernel, shared_bytes);
  };
  for (int i = 0; i < SAMEBITS_FORM_KINDS * 2; i++) {
    const auto form = static_cast<SamebitsFormKind>(i / 2);
    const int runs = 1 + i % 2;
    for (int m = 1; m <= MAX_ROWS; m++) {
      if (const int error = load(kernel_of(form, m, runs, warps_for(m), true))) return error;
    }
    for (const bool x_is_shared : {false, true}) {
      if (const int error = load(kernel_of(form, 1, runs, FEW_WARPS, x_is_shared))) return error;
    }
    if (const int error = load(decoding_kernel_of(form, runs))) return error;
  }
  return cudaSuccess;
}

int32_t samebits_can_decode(const SamebitsLaunch *launch, const SamebitsWalk *of, int32_t n) {
  using namespace samebits;
  const Division division = division_of(*launch, *of);
  const bool has_room = division.stages > 0 && division.x_copies == 2 && division.x_bytes[0] >= n * 2;
  return of->m == 1 && n <= SAMEBITS_MAX_NORMED && n % BLOCK_SIZE == 0 && has_room;
}

int samebits_int4_plain_mm(const SamebitsLaunch *launch, const SamebitsWalk *of) {
  using namespace samebits;
  const int runs = runs_of(of->group_size);
  if (of->count < 1 || of->m < 1 || of->m > MAX_ROWS) return cudaErrorInvalidValue;
  const Division division = division_of(*launch, *of);
  if (division.stages == 0) return cudaErrorInvalidValue;
  const int threads = division.warps * WARP;
  const Walk walk = {of->decodes ? nullptr : of->steps,
                     static_cast<uint64_t *>(of->tails),
                     of->count,
                     division.stages,
                     division.x_copies,
                     {division.x_bytes[0], division.x_bytes[1]}};
  if (!of->decodes) {
    const Kernel kernel = kernel_of(of->form, of->m, runs, division.warps, division.x_copies > 0);
    return launch_resident_kernel(*launch, kernel, threads, division.shared_bytes, Given<false>{walk});
  }
  if (of->m != 1 || of->count > SAMEBITS_DECODING_STEPS || division.x_copies != 2) return cudaErrorInvalidValue;
  Given<true> given = {walk, {}};
  for (int i = 0; i < of->count; i++) given.own_steps[i] = of->steps[i];
  return launch_resident_kernel(*launch, decoding_kernel_of(of->form, runs), threads, division.shared_bytes, given);
}

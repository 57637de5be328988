// Cutting linears into passes, passes into launches, and the memory that each launch works in.

#include "schedule.hpp"

#include <algorithm>

namespace samebits {
namespace {

// The passes of a launch leave sums for each other in memory, a piece each.
constexpr size_t kMaxPasses = 1024;
constexpr int kPendingByte = 0x80;

int32_t run_size_of(const Weight &weight) { return std::min<int32_t>(SAMEBITS_BLOCK_SIZE, weight.shape.group_size); }
bool is_tiled(const Weight &weight) { return weight.kind == WeightKind::kTiled; }

bool overlap(const char *a, uint64_t a_bytes, const char *b, uint64_t b_bytes) {
  return a < b + b_bytes && b < a + a_bytes;
}

}  // namespace

uint64_t Schedule::Pass::x_bytes() const { return static_cast<uint64_t>(m) * static_cast<uint64_t>(weight->shape.k) * 2; }
uint64_t Schedule::Pass::y_bytes() const { return output_size_bytes(m, weight->shape, output_bf16); }

bool Schedule::Pass::reads(const Pass &earlier) const {
  return x == earlier.y && earlier.output_bf16 && m == earlier.m && weight->shape.k == earlier.weight->shape.n;
}

Schedule::Schedule(const Device &device, const std::vector<LinearCall> &calls) : device_(device) {
  const SamebitsLaunch on = device.launch_in(nullptr);
  for (const LinearCall &call : calls) {
    const SamebitsShape &shape = call.weight->shape;
    const int32_t rows = is_tiled(*call.weight) ? samebits_rows_per_pass(&on, shape.k, shape.group_size) : call.m;
    for (int32_t first = 0; first < call.m; first += rows) {
      const Pass before = {call.weight, call.x, call.y, first, call.output_bf16, 0};
      add({call.weight, call.x + before.x_bytes(), call.y + before.y_bytes(), std::min(rows, call.m - first),
           call.output_bf16, 0});
    }
  }
  for (Launch &launch : launches_) {
    lay_out(launch);
    descriptions_bytes_ += aligned(launch.passes.size() * sizeof(SamebitsStep));
    work_bytes_ = std::max(work_bytes_, aligned(launch.work_bytes));
  }
}

void Schedule::add(Pass pass) {
  if (launches_.empty() || !joins(launches_.back(), pass)) {
    const Pass *const before = launches_.empty() ? nullptr : &launches_.back().passes.back();
    const bool finds_quantized = before != nullptr && !is_tiled(*pass.weight) && !is_tiled(*before->weight) &&
                                 before->x == pass.x && before->x_bytes() == pass.x_bytes() &&
                                 run_size_of(*before->weight) == run_size_of(*pass.weight) &&
                                 !overlap(before->y, before->y_bytes(), pass.x, pass.x_bytes());
    launches_.emplace_back();
    launches_.back().quantizes = !finds_quantized;
  }
  Launch &launch = launches_.back();
  const bool is_inner = std::any_of(launch.passes.begin(), launch.passes.end(),
                                    [&](const Pass &earlier) { return pass.reads(earlier); });
  const auto same = std::find_if(launch.rows.begin(), launch.rows.end(), [&](const Rows &rows) {
    return rows.values == pass.x && rows.k == pass.weight->shape.k && rows.is_inner == is_inner;
  });
  pass.rows = static_cast<size_t>(same - launch.rows.begin());
  if (same == launch.rows.end()) launch.rows.push_back({pass.x, pass.weight->shape.k, is_inner, 0});
  launch.passes.push_back(pass);
}

bool Schedule::joins(const Launch &launch, const Pass &pass) const {
  const Pass &first = launch.passes.front();
  if (!is_tiled(*pass.weight) || !is_tiled(*first.weight) || launch.passes.size() >= kMaxPasses) return false;
  if (pass.m != first.m || run_size_of(*pass.weight) != run_size_of(*first.weight)) return false;
  if (pass.weight->form.kind != first.weight->form.kind) return false;
  return std::all_of(launch.passes.begin(), launch.passes.end(), [&](const Pass &earlier) {
    if (overlap(earlier.y, earlier.y_bytes(), pass.y, pass.y_bytes())) return false;
    if (!overlap(earlier.y, earlier.y_bytes(), pass.x, pass.x_bytes())) return true;
    return pass.reads(earlier) && pass.weight->shape.k % SAMEBITS_BLOCK_SIZE == 0;
  });
}

void Schedule::lay_out(Launch &launch) const {
  const Pass &any = launch.passes.front();
  if (!is_tiled(*any.weight)) {
    launch.work_bytes = samebits_baseline_scratch_bytes(any.m, any.weight->shape.k);
    return;
  }
  for (const bool is_inner : {false, true}) {
    if (is_inner) launch.pending_offset = launch.work_bytes;
    for (Rows &rows : launch.rows) {
      if (rows.is_inner != is_inner) continue;
      rows.offset = launch.work_bytes;
      launch.work_bytes += aligned(static_cast<uint64_t>(any.m) *
                                   samebits_quantized_row_bytes(rows.k, run_size_of(*any.weight)));
    }
  }
  launch.tails_offset = launch.work_bytes;
  const SamebitsLaunch on = device_.launch_in(nullptr);
  launch.work_bytes += samebits_tail_bytes(&on, static_cast<int32_t>(launch.passes.size()), any.m);
}

// Passes that follow each other on the same rows go side by side.
void Schedule::describe(Launch &launch, char *work) const {
  size_t rows = launch.rows.size();
  int beside = 0;
  for (const Pass &pass : launch.passes) {
    const SamebitsDeviceWeight weight = pass.weight->tiled();
    if (pass.rows != rows || beside == SAMEBITS_LINEARS_PER_STEP) {
      launch.steps.push_back({});
      beside = 0;
      rows = pass.rows;
      SamebitsStep &step = launch.steps.back();
      step.x = work + launch.rows[rows].offset;
      int32_t &largest_k = launch.largest_k[(launch.steps.size() - 1) % 2];
      largest_k = std::max(largest_k, weight.shape.k);
    }
    const auto reader = std::find_if(launch.rows.begin(), launch.rows.end(), [&](const Rows &of) {
      return of.is_inner && of.values == pass.y && of.k == weight.shape.n && pass.output_bf16;
    });
    SamebitsLinear &linear = launch.steps.back().linears[beside++];
    samebits_describe_linear(&weight, &launch.steps.back(), &linear);
    linear.y = pass.y;
    linear.quantized = reader == launch.rows.end() ? nullptr : work + reader->offset;
    linear.output_bf16 = pass.output_bf16;
  }
}

void Schedule::place(cudaStream_t stream, char *scratch) {
  work_ = scratch + descriptions_bytes_;
  for (Launch &launch : launches_) {
    if (!is_tiled(*launch.passes.front().weight)) continue;
    describe(launch, work_);
    launch.device_steps = reinterpret_cast<const SamebitsStep *>(scratch);
    check_cuda(cudaMemcpyAsync(scratch, launch.steps.data(), launch.steps.size() * sizeof(SamebitsStep),
                               cudaMemcpyHostToDevice, stream),
               "copying a schedule to the device");
    scratch += aligned(launch.passes.size() * sizeof(SamebitsStep));
  }
}

void Schedule::launch(cudaStream_t stream) const {
  const SamebitsLaunch in = device_.launch_in(stream);
  for (const Launch &launch : launches_) {
    const Pass &any = launch.passes.front();
    const int32_t group_size = run_size_of(*any.weight);
    if (!is_tiled(*any.weight)) {
      if (launch.quantizes) {
        check_cuda(samebits_baseline_quantize(&in, any.x, work_, any.m, any.weight->shape.k, group_size),
                   "launching baseline_quantize");
      }
      const SamebitsBaselineWeight weight = any.weight->baseline();
      check_cuda(samebits_baseline_mm(&in, &weight, work_, any.y, any.m, any.output_bf16), "launching baseline_mm");
      continue;
    }
    check_cuda(cudaMemsetAsync(work_ + launch.pending_offset, kPendingByte, launch.work_bytes - launch.pending_offset, stream),
               "clearing a launch's memory");
    // Last, for the walk begins beside the quantizer, and not beside a clearing of memory.
    for (const Rows &rows : launch.rows) {
      if (rows.is_inner) continue;
      check_cuda(samebits_quantize_activations(&in, rows.values, work_ + rows.offset, any.m, rows.k, group_size),
                 "launching quantize_activations");
    }
    const SamebitsWalk walk = {launch.device_steps,
                               static_cast<int32_t>(launch.steps.size()),
                               any.weight->form.kind,
                               any.m,
                               group_size,
                               {launch.largest_k[0], launch.largest_k[1]},
                               0,
                               work_ + launch.tails_offset};
    check_cuda(samebits_int4_plain_mm(&in, &walk), "launching int4_plain_mm");
  }
}

}  // namespace samebits

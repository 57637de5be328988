// Recording plans as CUDA graphs, replaying and timing them; and the read roof, which is timed the same way.

#include "plan.hpp"

#include <algorithm>

#include "interval.hpp"

namespace samebits {
namespace {

void check_buffer(const char *name, size_t index, const Buffer &buffer, uint64_t expected) {
  if (buffer.size_bytes == expected) return;
  Failure failure;
  failure.code = "BYTE_LENGTH_MISMATCH";
  failure.rule = std::string(name) + " of plan step " + std::to_string(index) + " must hold exactly its shape";
  failure.expected = std::to_string(expected) + " bytes";
  failure.got = std::to_string(buffer.size_bytes) + " bytes";
  failure.fix = "Create the buffer with the size of this step; bf16 takes 2 bytes an element, f32 takes 4.";
  throw failure;
}

}  // namespace

Plan::Plan(std::shared_ptr<Device> on, std::vector<PlanStep> steps) : device(std::move(on)), steps_(std::move(steps)) {
  check_steps();
  device->make_current();
  std::vector<LinearCall> calls;
  for (const PlanStep &step : steps_) {
    calls.push_back({step.weight.get(), step.x->memory.data(), step.y->memory.data(), step.m, step.output_bf16});
  }
  schedule_ = std::make_unique<Schedule>(*device, calls);
  workspace_ = std::make_unique<Workspace>(device->index);
  workspace_->memory = device->allocate(std::max<uint64_t>(schedule_->scratch_bytes(), 1));
  schedule_->place(workspace_->stream, workspace_->memory.data());
  workspace_->synchronize("copying a schedule to the device");

  const cudaStream_t stream = workspace_->stream;
  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a plan");
  try {
    schedule_->launch(stream);
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check_cuda(cudaStreamEndCapture(stream, &graph), "recording a plan");
  const cudaError_t error = cudaGraphInstantiate(&graph_, graph, 0);
  cudaGraphDestroy(graph);
  check_cuda(error, "instantiating a plan");
}

Plan::~Plan() {
  if (graph_ == nullptr) return;
  cudaSetDevice(device->index);
  cudaGraphExecDestroy(graph_);
}

void Plan::check_steps() const {
  for (size_t i = 0; i < steps_.size(); i++) {
    const PlanStep &step = steps_[i];
    const SamebitsShape &shape = step.weight->shape;
    if (step.m < 1 || step.m > SAMEBITS_MAX_M) {
      Failure failure;
      failure.code = "M_UNSUPPORTED";
      failure.rule = "M, the rows of activations, must be a positive integer";
      failure.expected = "1.." + std::to_string(SAMEBITS_MAX_M);
      failure.got = std::to_string(step.m);
      failure.fix = "Split the activations into several steps.";
      throw failure;
    }
    check_buffer("x", i, *step.x, static_cast<uint64_t>(step.m) * static_cast<uint64_t>(shape.k) * 2);
    check_buffer("y", i, *step.y, output_size_bytes(step.m, shape, step.output_bf16));
  }
}

void Plan::run() {
  const std::lock_guard<std::mutex> lock(mutex_);
  device->make_current();
  check_cuda(cudaGraphLaunch(graph_, workspace_->stream), "running a plan");
  workspace_->synchronize("running a plan");
}

std::vector<double> Plan::time(int replays) {
  const std::lock_guard<std::mutex> lock(mutex_);
  device->make_current();
  std::vector<Interval> intervals(static_cast<size_t>(replays));
  for (Interval &interval : intervals) {
    interval.start(workspace_->stream);
    check_cuda(cudaGraphLaunch(graph_, workspace_->stream), "timing a plan");
    interval.end(workspace_->stream);
  }
  workspace_->synchronize("timing a plan");
  std::vector<double> elapsed_us;
  for (const Interval &interval : intervals) elapsed_us.push_back(interval.elapsed_us());
  return elapsed_us;
}

double read_bandwidth_gbps(Device &device, uint64_t size_bytes, int replays) {
  device.make_current();
  const uint64_t whole = size_bytes / 16 * 16;
  const DeviceMemory data = device.allocate(whole), sink = device.allocate(sizeof(uint32_t));
  Workspace workspace(device.index);
  check_cuda(cudaMemsetAsync(data.data(), 0, whole, workspace.stream), "clearing memory");
  const SamebitsLaunch launch = device.launch_in(workspace.stream);
  Interval interval;
  double best_us = 0;
  for (int i = 0; i < replays; i++) {
    interval.start(workspace.stream);
    check_cuda(samebits_read_bandwidth(&launch, data.data(), whole, reinterpret_cast<uint32_t *>(sink.data())),
               "launching read_bandwidth");
    interval.end(workspace.stream);
    workspace.synchronize("read_bandwidth");
    const double elapsed_us = interval.elapsed_us();
    if (i == 0 || elapsed_us < best_us) best_us = elapsed_us;
  }
  return static_cast<double>(whole) / best_us / 1e3;
}

}  // namespace samebits

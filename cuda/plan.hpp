// A fixed sequence of linears on device buffers, recorded once as a CUDA graph and replayed. Knows no Node.

#pragma once

#include "schedule.hpp"

namespace samebits {

// One linear of a plan; x and y may be buffers of other steps.
struct PlanStep {
  int32_t m;
  std::shared_ptr<Buffer> x;
  std::shared_ptr<Weight> weight;
  std::shared_ptr<Buffer> y;
  bool output_bf16;
};

class Plan {
 public:
  // Checks every step, schedules them all and records the schedule's launches.
  Plan(std::shared_ptr<Device> device, std::vector<PlanStep> steps);
  ~Plan();
  Plan(const Plan &) = delete;
  Plan &operator=(const Plan &) = delete;

  void run();
  // Device time of each of `replays` runs, in microseconds.
  std::vector<double> time(int replays);
  const std::shared_ptr<Device> device;

 private:
  void check_steps() const;

  std::mutex mutex_;
  std::vector<PlanStep> steps_;
  std::unique_ptr<Workspace> workspace_;
  std::unique_ptr<Schedule> schedule_;
  cudaGraphExec_t graph_ = nullptr;
};

}  // namespace samebits

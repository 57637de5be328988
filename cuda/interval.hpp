// Device time between two points of a stream.

#pragma once

#include "device.hpp"

namespace samebits {

// A pair of events in one stream, for device time.
class Interval {
 public:
  Interval() {
    check_cuda(cudaEventCreate(&start_), "creating an event");
    if (const cudaError_t error = cudaEventCreate(&end_)) {
      cudaEventDestroy(start_);
      check_cuda(error, "creating an event");
    }
  }
  ~Interval() {
    cudaEventDestroy(start_);
    cudaEventDestroy(end_);
  }
  Interval(const Interval &) = delete;
  Interval &operator=(const Interval &) = delete;

  void start(cudaStream_t stream) { check_cuda(cudaEventRecord(start_, stream), "recording an event"); }
  void end(cudaStream_t stream) { check_cuda(cudaEventRecord(end_, stream), "recording an event"); }
  // After the stream was synchronized.
  double elapsed_us() const {
    float milliseconds = 0;
    check_cuda(cudaEventElapsedTime(&milliseconds, start_, end_), "reading an event");
    return milliseconds * 1000.0;
  }

 private:
  cudaEvent_t start_ = nullptr;
  cudaEvent_t end_ = nullptr;
};

}  // namespace samebits

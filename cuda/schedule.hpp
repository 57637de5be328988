// Which launches a sequence of linears takes. Knows no Node and no graph.

#pragma once

#include "device.hpp"

namespace samebits {

// One linear on device memory: y[M, N] = x[M, K] · wᵀ, x bf16, y f32 or bf16.
struct LinearCall {
  const Weight *weight;
  const char *x;
  char *y;
  int32_t m;
  bool output_bf16;
};

// As few launches as the linears' order allows. One launch takes linears in a row as long as it can tell that they go together:
// the same rows per pass, size of run and form, no y written twice, and every x either there before the launch or exactly the bf16
// y of an earlier linear, which then passes it on quantized.
class Schedule {
 public:
  Schedule(const Device &device, const std::vector<LinearCall> &calls);
  // What `place` needs of device memory, aligned to 256.
  uint64_t scratch_bytes() const { return descriptions_bytes_ + work_bytes_; }
  // Copies the descriptions of all launches to scratch, which must outlive them, and the host's until the stream is idle.
  void place(cudaStream_t stream, char *scratch);
  // Puts the launches into a stream. Needs nothing of the host's memory.
  void launch(cudaStream_t stream) const;

 private:
  // Rows of one call that share a pass over its weight.
  struct Pass {
    const Weight *weight;
    const char *x;
    char *y;
    int32_t m;
    bool output_bf16;
    size_t rows;  // which of its launch's quantized rows are its x
    uint64_t x_bytes() const;
    uint64_t y_bytes() const;
    // Whether the x of this pass is all of what `earlier` writes.
    bool reads(const Pass &earlier) const;
  };
  // Quantized rows of K that passes of a launch read, in its working memory: of an x from before, or of the y of one of
  // its own passes.
  struct Rows {
    const char *values;
    int32_t k;
    bool is_inner;
    uint64_t offset;
  };
  struct Launch {
    std::vector<Pass> passes;
    std::vector<Rows> rows;
    std::vector<SamebitsStep> steps;
    const SamebitsStep *device_steps = nullptr;
    int32_t largest_k[2] = {0, 0};
    // Of working memory: what must be PENDING before the launch, then the tails, which must be too.
    uint64_t pending_offset = 0, tails_offset = 0, work_bytes = 0;
    bool quantizes = true;  // a baseline may find its x quantized by the launch before
  };

  void add(Pass pass);
  bool joins(const Launch &launch, const Pass &pass) const;
  void lay_out(Launch &launch) const;
  void describe(Launch &launch, char *work) const;

  const Device &device_;
  std::vector<Launch> launches_;
  uint64_t descriptions_bytes_ = 0, work_bytes_ = 0;
  char *work_ = nullptr;
};

// Sizes in scratch memory are multiples of this; every kernel's loads need 16.
constexpr uint64_t kAlignment = 256;
constexpr uint64_t aligned(uint64_t size_bytes) { return (size_bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace samebits

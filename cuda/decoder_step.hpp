// Puts the operations of one step into a stream. Knows no Node and no graph.

#pragma once

#include "decoder.hpp"

namespace samebits {

class StepRecorder {
 public:
  StepRecorder(const DecoderCache &cache, int32_t m, Wants wants, unsigned kinds);
  // Descriptions of the step's launches of int4_plain_mm, which must lie at `device` while it runs.
  const std::vector<SamebitsStep> &steps() const { return steps_; }
  void launch(cudaStream_t stream, const SamebitsStep *device) const;

 private:
  // One launch of int4_plain_mm: linears that read the same rows.
  struct Walk {
    int32_t m, group_size, k;
    uint64_t tails;
  };
  // What is launched, in order: an operation, or the next of `walks_`.
  struct Launch {
    const Operation *operation;
    size_t walk;
    bool from_second;  // which of the two residual streams is read
  };

  void add_linears(const std::vector<const Operation *> &linears);
  void launch_operation(const SamebitsLaunch &in, const Launch &of) const;
  SamebitsAttention attention_of(size_t layer) const;
  SamebitsQuantizedRows rows_of(Input input) const;
  template <typename T>
  T *at(uint64_t offset) const {
    return reinterpret_cast<T *>(decoder_.workspace_->memory.data() + offset);
  }

  const DecoderCache &cache_;
  const Decoder &decoder_;
  const int32_t m_;
  const Wants wants_;
  std::vector<Launch> launches_;
  std::vector<Walk> walks_;
  std::vector<SamebitsStep> steps_;
  uint64_t tails_bytes_ = 0;
};

// Bytes of what warps of different blocks leave for each other in all linears of a step.
uint64_t step_tail_bytes(const Device &device, const DecoderDescription &description);

}  // namespace samebits

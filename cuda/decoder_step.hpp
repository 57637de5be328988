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
  // One launch of int4_plain_mm: linears that read the same rows, or what lies between the attention of two layers.
  struct Walk {
    size_t first_step;
    int32_t count;
    SamebitsFormKind form;
    int32_t m, group_size, k[2];
    bool decodes;
    uint64_t tails;
  };
  // The operations from one layer's o_proj to the next attention, or to the logits.
  struct LayerOperations {
    const Operation *o, *attention_norm, *gate, *up, *down, *mlp_norm;
    std::vector<const Operation *> next;
    size_t count;
  };
  // What is launched, in order: an operation, or the next of `walks_`.
  struct Launch {
    const Operation *operation;
    size_t walk;
    bool from_second;  // which of the two residual streams is read
  };

  bool is_asked_for(OperationKind kind) const { return (kinds_ >> static_cast<unsigned>(kind) & 1u) != 0; }
  void add_linears(const std::vector<const Operation *> &linears);
  // The operations from `first` on as one walk; how many they are, or 0 when they cannot be.
  size_t add_layer(size_t first);
  LayerOperations layer_operations(size_t first) const;
  Walk layer_walk(const LayerOperations &of) const;
  SamebitsNormedInput normed_input(const Operation &norm, const char *branch) const;
  SamebitsLinear &add_linear(const Operation &linear);
  uint64_t take(uint64_t size_bytes);
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
  const unsigned kinds_;
  bool from_second_ = false;  // which of the two residual streams is the newest
  std::vector<Launch> launches_;
  std::vector<Walk> walks_;
  std::vector<SamebitsStep> steps_;
  uint64_t pending_bytes_ = 0;
};

// Bytes of what blocks leave for each other in all launches of a step.
uint64_t step_pending_bytes(const Device &device, const DecoderDescription &description);

}  // namespace samebits

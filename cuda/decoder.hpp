// A decoder's weights on a device, and caches of texts that run its steps, each step one graph. Knows no Node.

#pragma once

#include <map>

#include "decoder.h"
#include "device.hpp"

namespace samebits {

// What a linear reads, and what it writes.
enum class Input { kX, kAttended, kGated };
enum class Output { kQ, kK, kV, kY, kGate, kUp, kLogits };
constexpr int kInputs = 3, kOutputs = 7;

// The last one caps logits where the model has a cap, and finds the largest.
enum class OperationKind { kEmbed, kNorm, kLinear, kHeads, kAttention, kGelu, kSoftCap };
constexpr int kOperationKinds = 7;
constexpr unsigned kEveryKind = (1u << kOperationKinds) - 1;

// One operation of a step, with what it needs of its kind.
struct Operation {
  OperationKind kind;
  size_t layer = 0;                // of linears, heads and attention; 0 for the head of the model
  std::shared_ptr<Weight> weight;  // of a linear
  Input x = Input::kX;
  Output y = Output::kQ;
  std::shared_ptr<Buffer> branch_weight, next_weight;  // bf16[hidden] of a norm; the first where it has a branch
  float scalar = 1;
};

struct DecoderLayer {
  int32_t heads, key_value_heads, head_size;
  int32_t window;  // INT32_MAX where there is none
  bool has_value_projection;
  int32_t frequencies;
  uint64_t rotary_offset;  // of its kind's pairs {cos, sin} for a step's rows, in floats
  std::shared_ptr<Buffer> query_norm, key_norm;
};

struct DecoderDescription {
  int32_t hidden_size, intermediate_size, vocabulary_size;
  float epsilon, soft_cap, embedding_scale;
  uint64_t rotary_floats;  // of a step's input, for SAMEBITS_ROWS_PER_PASS rows
  std::shared_ptr<Buffer> embedding;
  std::vector<DecoderLayer> layers;
  std::vector<Operation> operations;  // up to the logits
};

enum class Wants { kNothing, kGreedy, kLogits, kEveryLogit };

// Memory of the host that the device copies from and to.
class PinnedMemory {
 public:
  explicit PinnedMemory(uint64_t size_bytes);
  ~PinnedMemory();
  PinnedMemory(const PinnedMemory &) = delete;
  PinnedMemory &operator=(const PinnedMemory &) = delete;
  char *data() const { return data_; }

 private:
  void *allocated_ = nullptr;
  char *data_ = nullptr;
};

// Weights, and the memory that the steps of every cache work in, one step at a time.
class Decoder {
 public:
  Decoder(std::shared_ptr<Device> device, DecoderDescription description);
  ~Decoder();
  Decoder(const Decoder &) = delete;
  Decoder &operator=(const Decoder &) = delete;

  uint64_t size_bytes() const;
  const std::shared_ptr<Device> device;
  const DecoderDescription description;

 private:
  friend class DecoderCache;
  friend class StepRecorder;

  // Of decoder_check.cc; what is wrong is ARGUMENT_INVALID.
  void check() const;
  void check_order() const;
  void check_linear(const Operation &operation) const;
  void lay_out();
  // Until the stream is idle, without keeping a core busy.
  void wait(const char *what);
  uint64_t input_bytes() const;

  // Offsets in working memory.
  struct Layout {
    uint64_t input, hidden[2], own_hidden, best, queries, pending, end;
    uint64_t rows[kInputs][2];  // where `reads` says so
    uint64_t outputs[kOutputs];
  };
  bool reads_[kInputs][2] = {};  // whether some linear reads the input with runs of 32 and of 16 k
  Layout layout_ = {};
  std::mutex mutex_;
  std::unique_ptr<Workspace> workspace_;
  std::unique_ptr<PinnedMemory> pinned_;  // the input, then the rank of the best token
  cudaEvent_t done_ = nullptr;
};

// Keys and values of one text, and the graphs of its steps.
class DecoderCache {
 public:
  // Device memory that a cache takes.
  static uint64_t size_bytes(const Decoder &decoder, int32_t capacity);
  DecoderCache(std::shared_ptr<Decoder> decoder, int32_t capacity);
  ~DecoderCache();
  DecoderCache(const DecoderCache &) = delete;
  DecoderCache &operator=(const DecoderCache &) = delete;

  // Runs tokens at `position`. `rotary` is what the input needs of it; `logits`, f32[rows, vocabulary], is filled where they are
  // wanted. Returns the token where it is, otherwise -1.
  int32_t step(const std::vector<int32_t> &tokens, int32_t position, Wants wants, const std::vector<float> &rotary,
               void *logits);
  // Device time of each of `replays` runs, in microseconds, of the operations whose kinds are in `kinds`. Leaves the cache with
  // whatever these compute.
  std::vector<double> time(int32_t m, int32_t position, Wants wants, unsigned kinds, const std::vector<float> &rotary,
                           int replays);
  const std::shared_ptr<Decoder> decoder;
  const int32_t capacity;

 private:
  friend class StepRecorder;

  struct Layout {
    std::vector<uint64_t> keys, values;  // of each layer
    uint64_t scores, chunk_terms, outputs, end;
  };
  // A step that was recorded, and the descriptions of linears that it reads.
  struct Recording {
    DeviceMemory steps;
    cudaGraphExec_t graph = nullptr;
    ~Recording();
  };
  static Layout lay_out(const Decoder &decoder, int32_t capacity);
  static int32_t slots_of(const DecoderLayer &layer, int32_t capacity);
  void check(size_t m, int32_t position, const std::vector<float> &rotary) const;
  std::unique_ptr<Recording> record(int32_t m, Wants wants, unsigned kinds);
  void write_input(const std::vector<int32_t> &tokens, int32_t position, const std::vector<float> &rotary);

  Layout layout_;
  DeviceMemory memory_;
  std::map<std::pair<int32_t, Wants>, std::unique_ptr<Recording>> recordings_;
};

}  // namespace samebits

// The operations of a step as launches: linears on the same values side by side, everything else as its own kernel.

#include "decoder_step.hpp"

#include <algorithm>

#include "schedule.hpp"

namespace samebits {
namespace {

constexpr int kPendingByte = 0x80;
constexpr int32_t kWholeBlock = 32;

int32_t run_size_of(const Weight &weight) { return std::min<int32_t>(SAMEBITS_BLOCK_SIZE, weight.shape.group_size); }
int runs_index(int32_t run_size) { return run_size == kWholeBlock ? 0 : 1; }

uint64_t tail_bytes(const Device &device, int32_t m) {
  const SamebitsLaunch on = device.launch_in(nullptr);
  return aligned(samebits_tail_bytes(&on, 1, m));
}

}  // namespace

// At most one launch a linear and row, which no step exceeds.
uint64_t step_tail_bytes(const Device &device, const DecoderDescription &description) {
  uint64_t linears = 0;
  for (const Operation &operation : description.operations) linears += operation.kind == OperationKind::kLinear;
  const uint64_t most = std::max(tail_bytes(device, SAMEBITS_ROWS_PER_PASS), SAMEBITS_ROWS_PER_PASS * tail_bytes(device, 1));
  return linears * most;
}

StepRecorder::StepRecorder(const DecoderCache &cache, int32_t m, Wants wants, unsigned kinds)
    : cache_(cache), decoder_(*cache.decoder), m_(m), wants_(wants) {
  bool from_second = false;
  std::vector<const Operation *> beside;
  const auto is_asked_for = [=](OperationKind kind) { return (kinds >> static_cast<unsigned>(kind) & 1u) != 0; };
  for (const Operation &operation : decoder_.description.operations) {
    const bool is_linear = operation.kind == OperationKind::kLinear;
    if (!beside.empty() && !(is_linear && beside.front()->x == operation.x)) {
      add_linears(beside);
      beside.clear();
    }
    if (is_linear && operation.y == Output::kLogits && wants == Wants::kNothing) return;
    if (is_linear) {
      if (is_asked_for(operation.kind)) beside.push_back(&operation);
      continue;
    }
    if (is_asked_for(operation.kind)) launches_.push_back({&operation, 0, from_second});
    if (operation.branch_weight) from_second = !from_second;
  }
  if (!beside.empty()) add_linears(beside);
}

void StepRecorder::add_linears(const std::vector<const Operation *> &linears) {
  const SamebitsLaunch on = decoder_.device->launch_in(nullptr);
  const bool is_head = linears.front()->y == Output::kLogits;
  const int32_t begin = is_head && wants_ != Wants::kEveryLogit ? m_ - 1 : 0;
  for (const int32_t run_size : {kWholeBlock, kWholeBlock / 2}) {
    std::vector<const Operation *> group;
    for (const Operation *linear : linears) {
      if (run_size_of(*linear->weight) == run_size) group.push_back(linear);
    }
    if (group.empty()) continue;
    const int32_t k = group.front()->weight->shape.k;
    const int32_t rows = samebits_rows_per_pass(&on, k, run_size);
    const char *const x = static_cast<const char *>(rows_of(linears.front()->x).rows[runs_index(run_size)]);
    for (int32_t first = begin; first < m_; first += rows) {
      const int32_t m = std::min(rows, m_ - first);
      for (size_t i = 0; i < group.size(); i++) {
        if (i % SAMEBITS_LINEARS_PER_STEP == 0) {
          launches_.push_back({nullptr, walks_.size(), false});
          walks_.push_back({m, run_size, k, tails_bytes_});
          tails_bytes_ += tail_bytes(*decoder_.device, m);
          steps_.push_back({});
          steps_.back().x = x + static_cast<uint64_t>(first) * samebits_quantized_row_bytes(k, run_size);
        }
        SamebitsStep &step = steps_.back();
        SamebitsLinear &linear = step.linears[i % SAMEBITS_LINEARS_PER_STEP];
        const SamebitsDeviceWeight weight = group[i]->weight->tiled();
        samebits_describe_linear(&weight, &step, &linear);
        linear.y = at<float>(decoder_.layout_.outputs[static_cast<int>(group[i]->y)]) +
                   static_cast<uint64_t>(first - begin) * static_cast<uint64_t>(weight.shape.n);
      }
    }
  }
}

void StepRecorder::launch(cudaStream_t stream, const SamebitsStep *device) const {
  const SamebitsLaunch in = decoder_.device->launch_in(stream);
  char *const tails = at<char>(decoder_.layout_.tails);
  check_cuda(cudaMemcpyAsync(at<char>(decoder_.layout_.input), decoder_.pinned_->data(), decoder_.input_bytes(),
                             cudaMemcpyHostToDevice, stream),
             "copying a step's input");
  if (tails_bytes_ > 0) check_cuda(cudaMemsetAsync(tails, kPendingByte, tails_bytes_, stream), "clearing a step's memory");
  for (const Launch &launch : launches_) {
    if (launch.operation != nullptr) {
      launch_operation(in, launch);
      continue;
    }
    const Walk &of = walks_[launch.walk];
    const SamebitsWalk walk = {device + launch.walk, 1, of.m, of.group_size, {of.k, 0}, tails + of.tails};
    check_cuda(samebits_int4_plain_mm(&in, &walk), "launching int4_plain_mm");
  }
  if (wants_ != Wants::kGreedy) return;
  check_cuda(cudaMemcpyAsync(decoder_.pinned_->data() + aligned(decoder_.input_bytes()),
                             at<uint64_t>(decoder_.layout_.best), sizeof(uint64_t), cudaMemcpyDeviceToHost, stream),
             "copying a token");
}

void StepRecorder::launch_operation(const SamebitsLaunch &in, const Launch &of) const {
  const DecoderDescription &sizes = decoder_.description;
  const Decoder::Layout &layout = decoder_.layout_;
  const Operation &operation = *of.operation;
  const auto output = [&](Output name) { return at<float>(layout.outputs[static_cast<int>(name)]); };
  switch (operation.kind) {
    case OperationKind::kEmbed: {
      const SamebitsEmbed embed = {at<SamebitsStepInput>(layout.input), sizes.embedding->memory.data(),
                                   at<float>(layout.hidden[0]), sizes.hidden_size, sizes.embedding_scale};
      return check_cuda(samebits_embed_tokens(&in, &embed, m_), "launching embed_tokens");
    }
    case OperationKind::kNorm: {
      const bool has_branch = operation.branch_weight != nullptr;
      const SamebitsNorm norm = {at<float>(layout.hidden[of.from_second]),
                                 at<float>(layout.hidden[!of.from_second]),
                                 has_branch ? output(Output::kY) : nullptr,
                                 has_branch ? operation.branch_weight->memory.data() : nullptr,
                                 operation.next_weight->memory.data(),
                                 rows_of(Input::kX),
                                 operation.scalar,
                                 sizes.epsilon,
                                 sizes.hidden_size};
      return check_cuda(samebits_rms_norm(&in, &norm, m_), "launching rms_norm");
    }
    case OperationKind::kHeads: {
      const SamebitsAttention attention = attention_of(operation.layer);
      return check_cuda(samebits_rotate_heads(&in, &attention, m_), "launching rotate_heads");
    }
    case OperationKind::kAttention: {
      const SamebitsAttention attention = attention_of(operation.layer);
      check_cuda(samebits_attention_scores(&in, &attention, m_), "launching attention_scores");
      check_cuda(samebits_attention_chunks(&in, &attention, m_), "launching attention_chunks");
      return check_cuda(samebits_combine_chunks(&in, &attention, m_), "launching combine_chunks");
    }
    case OperationKind::kGelu: {
      const SamebitsGelu gelu = {output(Output::kGate), output(Output::kUp), rows_of(Input::kGated), sizes.intermediate_size};
      return check_cuda(samebits_gated_gelu(&in, &gelu, m_), "launching gated_gelu");
    }
    case OperationKind::kSoftCap: {
      float *const logits = output(Output::kLogits);
      const int32_t n = sizes.vocabulary_size, rows = wants_ == Wants::kEveryLogit ? m_ : 1;
      if (sizes.soft_cap != 0) {
        check_cuda(samebits_soft_cap(&in, logits, n, sizes.soft_cap, rows), "launching soft_cap");
      }
      if (wants_ != Wants::kGreedy) return;
      uint64_t *const best = at<uint64_t>(layout.best);
      check_cuda(cudaMemsetAsync(best, 0, sizeof *best, in.stream), "clearing a step's memory");
      return check_cuda(samebits_arg_max(&in, logits, n, best), "launching arg_max");
    }
    case OperationKind::kLinear: return;
  }
}

SamebitsQuantizedRows StepRecorder::rows_of(Input input) const {
  const int i = static_cast<int>(input);
  SamebitsQuantizedRows rows = {};
  for (int runs = 0; runs < 2; runs++) {
    if (decoder_.reads_[i][runs]) rows.rows[runs] = at<char>(decoder_.layout_.rows[i][runs]);
  }
  return rows;
}

SamebitsAttention StepRecorder::attention_of(size_t index) const {
  const DecoderLayer &layer = decoder_.description.layers[index];
  const Decoder::Layout &layout = decoder_.layout_;
  const auto output = [&](Output name) { return at<float>(layout.outputs[static_cast<int>(name)]); };
  char *const cache = cache_.memory_.data();
  const int32_t slots = DecoderCache::slots_of(layer, cache_.capacity);
  SamebitsAttention of = {};
  of.input = at<SamebitsStepInput>(layout.input);
  of.heads = layer.heads;
  of.key_value_heads = layer.key_value_heads;
  of.head_size = layer.head_size;
  of.window = layer.window;
  of.slots = slots;
  of.epsilon = decoder_.description.epsilon;
  of.q = output(Output::kQ);
  of.k = output(Output::kK);
  of.v = output(layer.has_value_projection ? Output::kV : Output::kK);
  of.query_norm = layer.query_norm->memory.data();
  of.key_norm = layer.key_norm->memory.data();
  of.rotary = reinterpret_cast<const float *>(at<SamebitsStepInput>(layout.input) + 1) + layer.rotary_offset;
  of.frequencies = layer.frequencies;
  of.queries = at<char>(layout.queries);
  of.keys = cache + cache_.layout_.keys[index];
  of.values = cache + cache_.layout_.values[index];
  of.scores = reinterpret_cast<float *>(cache + cache_.layout_.scores);
  of.chunk_terms = reinterpret_cast<float *>(cache + cache_.layout_.chunk_terms);
  of.outputs = reinterpret_cast<float *>(cache + cache_.layout_.outputs);
  of.chunks = samebits_chunks_of(slots);
  of.attended = rows_of(Input::kAttended);
  return of;
}

}  // namespace samebits

// The operations of a step as launches: linears on the same values side by side, everything else as its own kernel.

#include "decoder_step.hpp"

#include <algorithm>
#include <iterator>

#include "schedule.hpp"

namespace samebits {
namespace {

constexpr int kPendingByte = 0x80;
constexpr int32_t kWholeBlock = 32;

int32_t run_size_of(const Weight &weight) { return std::min<int32_t>(SAMEBITS_BLOCK_SIZE, weight.shape.group_size); }
int runs_index(int32_t run_size) { return run_size == kWholeBlock ? 0 : 1; }

uint64_t tail_bytes(const Device &device, int32_t steps, int32_t m) {
  const SamebitsLaunch on = device.launch_in(nullptr);
  return aligned(samebits_tail_bytes(&on, steps, m));
}

constexpr int32_t kStepsOfLayer = 4;

// Of what the linears of a layer leave for each other in one walk.
uint64_t layer_pending_bytes(const Device &device, uint64_t hidden, uint64_t intermediate) {
  return 2 * aligned(hidden * sizeof(float)) + aligned(intermediate * sizeof(float)) +
         aligned(samebits_quantized_row_bytes(static_cast<int32_t>(intermediate), kWholeBlock / 2)) +
         tail_bytes(device, kStepsOfLayer, 1);
}

}  // namespace

// At most one launch a linear and row, which no step exceeds; and a walk a layer.
uint64_t step_pending_bytes(const Device &device, const DecoderDescription &description) {
  uint64_t linears = 0;
  for (const Operation &operation : description.operations) linears += operation.kind == OperationKind::kLinear;
  const uint64_t most =
      std::max(tail_bytes(device, 1, SAMEBITS_ROWS_PER_PASS), SAMEBITS_ROWS_PER_PASS * tail_bytes(device, 1, 1));
  return linears * most + description.layers.size() *
                              layer_pending_bytes(device, static_cast<uint64_t>(description.hidden_size),
                                                  static_cast<uint64_t>(description.intermediate_size));
}

StepRecorder::StepRecorder(const DecoderCache &cache, int32_t m, Wants wants, unsigned kinds)
    : cache_(cache), decoder_(*cache.decoder), m_(m), wants_(wants), kinds_(kinds) {
  const std::vector<Operation> &operations = decoder_.description.operations;
  for (size_t i = 0; i < operations.size();) {
    const Operation &operation = operations[i];
    // Every cache is written.
    const bool is_last_attention =
        operation.kind == OperationKind::kAttention && operation.layer + 1 == decoder_.description.layers.size();
    if (is_last_attention && wants == Wants::kNothing) return;
    if (operation.kind == OperationKind::kLinear) {
      if (const size_t count = add_layer(i)) {
        i += count;
        continue;
      }
      std::vector<const Operation *> beside;
      for (; i < operations.size() && operations[i].kind == OperationKind::kLinear && operations[i].x == operation.x; i++) {
        beside.push_back(&operations[i]);
      }
      if (is_asked_for(operation.kind)) add_linears(beside);
      continue;
    }
    if (is_asked_for(operation.kind)) launches_.push_back({&operation, 0, from_second_});
    if (operation.branch_weight) from_second_ = !from_second_;
    i++;
  }
}

uint64_t StepRecorder::take(uint64_t size_bytes) {
  const uint64_t place = decoder_.layout_.pending + pending_bytes_;
  pending_bytes_ += aligned(size_bytes);
  return place;
}

SamebitsLinear &StepRecorder::add_linear(const Operation &of) {
  SamebitsStep &step = steps_.back();
  const auto is_free = [](const SamebitsLinear &linear) { return linear.tile_end == 0; };
  SamebitsLinear &linear = *std::find_if(std::begin(step.linears), std::end(step.linears), is_free);
  const SamebitsDeviceWeight weight = of.weight->tiled();
  samebits_describe_linear(&weight, &step, &linear);
  linear.y = at<float>(decoder_.layout_.outputs[static_cast<int>(of.y)]);
  return linear;
}

void StepRecorder::add_linears(const std::vector<const Operation *> &linears) {
  const SamebitsLaunch on = decoder_.device->launch_in(nullptr);
  const bool is_head = linears.front()->y == Output::kLogits;
  const int32_t begin = is_head && wants_ != Wants::kEveryLogit ? m_ - 1 : 0;
  for (int alike = 0; alike < 2 * SAMEBITS_FORM_KINDS; alike++) {
    const int32_t run_size = alike % 2 == 0 ? kWholeBlock : kWholeBlock / 2;
    const auto form = static_cast<SamebitsFormKind>(alike / 2);
    std::vector<const Operation *> group;
    for (const Operation *linear : linears) {
      if (run_size_of(*linear->weight) == run_size && linear->weight->form.kind == form) group.push_back(linear);
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
          walks_.push_back({steps_.size(), 1, form, m, run_size, {k, 0}, false, take(tail_bytes(*decoder_.device, 1, m))});
          steps_.push_back({});
          steps_.back().x = x + static_cast<uint64_t>(first) * samebits_quantized_row_bytes(k, run_size);
        }
        SamebitsLinear &linear = add_linear(*group[i]);
        linear.y = static_cast<float *>(linear.y) + static_cast<uint64_t>(first - begin) * static_cast<uint64_t>(linear.n);
      }
    }
  }
}

StepRecorder::LayerOperations StepRecorder::layer_operations(size_t first) const {
  const std::vector<Operation> &all = decoder_.description.operations;
  const OperationKind kinds[] = {OperationKind::kLinear, OperationKind::kNorm,   OperationKind::kLinear, OperationKind::kLinear,
                                 OperationKind::kGelu,   OperationKind::kLinear, OperationKind::kNorm};
  LayerOperations of = {};
  if (all[first].kind != OperationKind::kLinear || all[first].x != Input::kAttended || all.size() - first < std::size(kinds)) return of;
  for (const OperationKind kind : kinds) {
    if (all[first + of.count++].kind != kind) return {};
  }
  of.o = &all[first];
  of.attention_norm = &all[first + 1];
  of.gate = &all[first + 2];
  of.up = &all[first + 3];
  of.down = &all[first + 5];
  of.mlp_norm = &all[first + 6];
  for (size_t i = first + of.count; i < all.size() && all[i].kind == OperationKind::kLinear; i++, of.count++) {
    of.next.push_back(&all[i]);
  }
  return of;
}

StepRecorder::Walk StepRecorder::layer_walk(const LayerOperations &of) const {
  const int32_t hidden = decoder_.description.hidden_size, intermediate = decoder_.description.intermediate_size;
  const int32_t longest = std::max(of.o->weight->shape.k, intermediate);
  return {steps_.size(), kStepsOfLayer, of.o->weight->form.kind, 1, run_size_of(*of.o->weight), {longest, hidden}, true, 0};
}

SamebitsNormedInput StepRecorder::normed_input(const Operation &norm, const char *branch) const {
  const int32_t n = decoder_.description.hidden_size;
  SamebitsNormedInput input = {};
  input.branch = branch;
  input.branch_weight = norm.branch_weight->memory.data();
  input.weight = norm.next_weight->memory.data();
  input.own_hidden = at<float>(decoder_.layout_.own_hidden);
  input.scalar = norm.scalar;
  input.epsilon = decoder_.description.epsilon;
  input.inverse_n = 1.0f / static_cast<float>(n);
  input.n = n;
  return input;
}

size_t StepRecorder::add_layer(size_t first) {
  const LayerOperations of = layer_operations(first);
  if (of.count == 0 || of.next.empty() || of.next.size() > SAMEBITS_LINEARS_PER_STEP || !is_asked_for(OperationKind::kLinear)) {
    return 0;
  }
  Walk walk = layer_walk(of);
  std::vector<const Operation *> linears = {of.o, of.gate, of.up, of.down};
  linears.insert(linears.end(), of.next.begin(), of.next.end());
  const bool is_alike = std::all_of(linears.begin(), linears.end(), [&](const Operation *linear) {
    return run_size_of(*linear->weight) == walk.group_size && linear->weight->form.kind == walk.form;
  });
  const SamebitsLaunch on = decoder_.device->launch_in(nullptr);
  const SamebitsWalk asked = {nullptr, walk.count, walk.form, m_, walk.group_size, {walk.k[0], walk.k[1]}, true, nullptr};
  if (!is_alike || !samebits_can_decode(&on, &asked, decoder_.description.hidden_size)) return 0;

  const int runs = runs_index(walk.group_size);
  const auto hidden = static_cast<uint64_t>(decoder_.description.hidden_size);
  const auto intermediate = static_cast<uint64_t>(decoder_.description.intermediate_size);
  // What is not asked for leaves its reader what an earlier step left there, for which nobody waits.
  const bool norms = is_asked_for(OperationKind::kNorm), gates = is_asked_for(OperationKind::kGelu);
  const auto begin_step = [&](Input x) {
    steps_.push_back({});
    steps_.back().x = rows_of(x).rows[runs];
  };

  begin_step(Input::kAttended);
  char *const attention_branch = at<char>(take(hidden * sizeof(float)));
  add_linear(*of.o).y = attention_branch;

  begin_step(Input::kX);
  if (norms) {
    steps_.back().normed = normed_input(*of.attention_norm, attention_branch);
    steps_.back().normed.hidden = at<float>(decoder_.layout_.hidden[from_second_]);
  }
  char *const gate = at<char>(take(intermediate * sizeof(float)));
  char *const gated = at<char>(take(samebits_quantized_row_bytes(decoder_.description.intermediate_size, walk.group_size)));
  add_linear(*of.gate).y = gate;
  SamebitsLinear &up = add_linear(*of.up);
  if (gates) {
    up.gate = gate;
    up.quantized = gated;
  }

  begin_step(Input::kGated);
  if (gates) steps_.back().x = gated;
  char *const mlp_branch = at<char>(take(hidden * sizeof(float)));
  add_linear(*of.down).y = mlp_branch;

  begin_step(Input::kX);
  if (norms) {
    steps_.back().normed = normed_input(*of.mlp_norm, mlp_branch);
    steps_.back().normed.next_hidden = at<float>(decoder_.layout_.hidden[!from_second_]);
  }
  for (const Operation *linear : of.next) add_linear(*linear);

  from_second_ = !from_second_;
  walk.tails = take(tail_bytes(*decoder_.device, walk.count, 1));
  launches_.push_back({nullptr, walks_.size(), false});
  walks_.push_back(walk);
  return of.count;
}

void StepRecorder::launch(cudaStream_t stream, const SamebitsStep *device) const {
  const SamebitsLaunch in = decoder_.device->launch_in(stream);
  check_cuda(cudaMemcpyAsync(at<char>(decoder_.layout_.input), decoder_.pinned_->data(), decoder_.input_bytes(),
                             cudaMemcpyHostToDevice, stream),
             "copying a step's input");
  if (pending_bytes_ > 0) {
    check_cuda(cudaMemsetAsync(at<char>(decoder_.layout_.pending), kPendingByte, pending_bytes_, stream),
               "clearing a step's memory");
  }
  for (const Launch &launch : launches_) {
    if (launch.operation != nullptr) {
      launch_operation(in, launch);
      continue;
    }
    const Walk &of = walks_[launch.walk];
    const SamebitsStep *const steps = of.decodes ? steps_.data() : device;
    const SamebitsWalk walk = {
        steps + of.first_step, of.count, of.form, of.m, of.group_size, {of.k[0], of.k[1]}, of.decodes, at<char>(of.tails)};
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

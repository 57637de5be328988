// Decoders and caches: what they hold, how it lies in memory, and running steps.

#include "decoder.hpp"

#include <algorithm>
#include <cstring>

#include "decoder_check.hpp"
#include "decoder_step.hpp"
#include "interval.hpp"
#include "schedule.hpp"

namespace samebits {
namespace {

uint64_t product_bytes(uint64_t a, uint64_t b, uint64_t c) { return a * b * c; }

// Places pieces one after the other, aligned.
class Places {
 public:
  uint64_t take(uint64_t size_bytes) {
    const uint64_t at = end_;
    end_ += aligned(size_bytes);
    return at;
  }
  uint64_t end() const { return end_; }

 private:
  uint64_t end_ = 0;
};

// The same, saying how much is missing.
DeviceMemory allocate(Device &device, uint64_t size_bytes, const char *what) {
  try {
    return device.allocate(size_bytes);
  } catch (Failure &failure) {
    size_t free_bytes = 0, total_bytes = 0;
    if (failure.code != "DEVICE_OUT_OF_MEMORY" || cudaMemGetInfo(&free_bytes, &total_bytes) != cudaSuccess) throw;
    failure.rule = std::string("device memory must suffice for ") + what;
    failure.expected = std::to_string(size_bytes) + " bytes";
    failure.got = std::to_string(free_bytes) + " bytes free";
    if (size_bytes > free_bytes) failure.got += ", " + std::to_string(size_bytes - free_bytes) + " too few";
    failure.fix = "Ask for fewer positions, dispose what is no longer used, or use a device with more memory.";
    throw;
  }
}

}  // namespace

PinnedMemory::PinnedMemory(uint64_t size_bytes) {
  check_cuda(cudaMallocHost(&allocated_, size_bytes), "allocating memory of the host");
  data_ = static_cast<char *>(allocated_);
}

PinnedMemory::~PinnedMemory() { cudaFreeHost(allocated_); }

Decoder::Decoder(std::shared_ptr<Device> on, DecoderDescription of) : device(std::move(on)), description(std::move(of)) {
  check();
  device->make_current();
  lay_out();
  workspace_ = std::make_unique<Workspace>(device->index);
  workspace_->memory = allocate(*device, layout_.end, "a decoder's working memory");
  check_cuda(cudaMemsetAsync(workspace_->memory.data(), 0, layout_.end, workspace_->stream), "clearing working memory");
  check_cuda(cudaEventCreateWithFlags(&done_, cudaEventBlockingSync | cudaEventDisableTiming), "creating an event");
  pinned_ = std::make_unique<PinnedMemory>(aligned(input_bytes()) + sizeof(uint64_t));
  std::memset(pinned_->data(), 0, aligned(input_bytes()) + sizeof(uint64_t));
  workspace_->synchronize("clearing working memory");
}

uint64_t Decoder::input_bytes() const { return sizeof(SamebitsStepInput) + description.rotary_floats * sizeof(float); }

uint64_t Decoder::size_bytes() const {
  uint64_t size = layout_.end + description.embedding->size_bytes;
  for (const Operation &operation : description.operations) {
    if (operation.weight) size += operation.weight->size_bytes();
  }
  return size;
}

void Decoder::lay_out() {
  constexpr uint64_t rows = SAMEBITS_ROWS_PER_PASS;
  const auto hidden = static_cast<uint64_t>(description.hidden_size);
  uint64_t widest[kOutputs] = {}, queries = 0;
  int32_t longest[kInputs] = {};
  for (const Operation &operation : description.operations) {
    if (operation.kind != OperationKind::kLinear) continue;
    const int x = static_cast<int>(operation.x), y = static_cast<int>(operation.y);
    widest[y] = std::max(widest[y], static_cast<uint64_t>(operation.weight->shape.n));
    longest[x] = std::max(longest[x], operation.weight->shape.k);
    reads_[x][operation.weight->shape.group_size == 16 ? 1 : 0] = true;
  }
  for (const DecoderLayer &layer : description.layers) {
    queries = std::max(queries, samebits_query_bytes(layer.heads, layer.head_size));
  }

  Places places;
  layout_.input = places.take(input_bytes());
  layout_.best = places.take(sizeof(uint64_t));
  for (uint64_t &at : layout_.hidden) at = places.take(rows * hidden * sizeof(float));
  for (int x = 0; x < kInputs; x++) {
    for (const int runs : {0, 1}) {
      if (!reads_[x][runs]) continue;
      layout_.rows[x][runs] = places.take(rows * samebits_quantized_row_bytes(longest[x], runs == 0 ? 32 : 16));
    }
  }
  for (int y = 0; y < kOutputs; y++) layout_.outputs[y] = places.take(rows * widest[y] * sizeof(float));
  layout_.queries = places.take(queries);
  layout_.own_hidden = places.take(static_cast<uint64_t>(device->launch_in(nullptr).multiprocessor_count) * hidden * sizeof(float));
  layout_.pending = places.take(step_pending_bytes(*device, description));
  layout_.end = places.end();
}

int32_t DecoderCache::slots_of(const DecoderLayer &layer, int32_t capacity) {
  const int64_t needed = int64_t{layer.window} + SAMEBITS_ROWS_PER_PASS;
  return static_cast<int32_t>(std::min<int64_t>(needed, capacity));
}

DecoderCache::Layout DecoderCache::lay_out(const Decoder &decoder, int32_t capacity) {
  Places places;
  Layout layout;
  uint64_t scores = 0, terms = 0, outputs = 0;
  for (const DecoderLayer &layer : decoder.description.layers) {
    const int32_t slots = slots_of(layer, capacity);
    const uint64_t size_bytes = samebits_cache_bytes(layer.key_value_heads, layer.head_size, slots);
    layout.keys.push_back(places.take(size_bytes));
    layout.values.push_back(places.take(size_bytes));
    const uint64_t rows = static_cast<uint64_t>(SAMEBITS_ROWS_PER_PASS) * static_cast<uint64_t>(layer.heads) *
                          static_cast<uint64_t>(samebits_chunks_of(slots));
    scores = std::max(scores, rows * SAMEBITS_CHUNK_POSITIONS * sizeof(float));
    terms = std::max(terms, rows * 2 * sizeof(float));
    outputs = std::max(outputs, rows * static_cast<uint64_t>(layer.head_size) * sizeof(float));
  }
  layout.scores = places.take(scores);
  layout.chunk_terms = places.take(terms);
  layout.outputs = places.take(outputs);
  layout.end = places.end();
  return layout;
}

uint64_t DecoderCache::size_bytes(const Decoder &decoder, int32_t capacity) { return lay_out(decoder, capacity).end; }

DecoderCache::DecoderCache(std::shared_ptr<Decoder> of, int32_t positions) : decoder(std::move(of)), capacity(positions) {
  decoder->device->make_current();
  layout_ = lay_out(*decoder, capacity);
  memory_ = allocate(*decoder->device, layout_.end, "a cache");
}

DecoderCache::~DecoderCache() { cudaSetDevice(decoder->device->index); }

DecoderCache::Recording::~Recording() {
  if (graph != nullptr) cudaGraphExecDestroy(graph);
}

void DecoderCache::check(size_t m, int32_t position, const std::vector<float> &rotary) const {
  require_argument(m >= 1 && m <= SAMEBITS_ROWS_PER_PASS, "a step must have tokens",
          "1.." + std::to_string(SAMEBITS_ROWS_PER_PASS), std::to_string(m));
  require_argument(position >= 0 && static_cast<int64_t>(position) + static_cast<int64_t>(m) <= capacity,
          "a step's positions must lie in the cache", "at most " + std::to_string(capacity),
          std::to_string(position) + " and " + std::to_string(m) + " more");
  require_argument(rotary.size() == decoder->description.rotary_floats, "a step must know its rotation",
          std::to_string(decoder->description.rotary_floats) + " floats", std::to_string(rotary.size()));
}

void DecoderCache::write_input(const std::vector<int32_t> &tokens, int32_t position, const std::vector<float> &rotary) {
  SamebitsStepInput input = {};
  input.position = position;
  std::copy(tokens.begin(), tokens.end(), input.tokens);
  char *const to = decoder->pinned_->data();
  std::memcpy(to, &input, sizeof input);
  if (!rotary.empty()) std::memcpy(to + sizeof input, rotary.data(), rotary.size() * sizeof(float));
}

std::unique_ptr<DecoderCache::Recording> DecoderCache::record(int32_t m, Wants wants, unsigned kinds) {
  const StepRecorder recorder(*this, m, wants, kinds);
  const cudaStream_t stream = decoder->workspace_->stream;
  auto recording = std::make_unique<Recording>();
  const uint64_t size_bytes = recorder.steps().size() * sizeof(SamebitsStep);
  recording->steps = decoder->device->allocate(std::max<uint64_t>(size_bytes, 1));
  if (size_bytes > 0) {
    check_cuda(cudaMemcpyAsync(recording->steps.data(), recorder.steps().data(), size_bytes, cudaMemcpyHostToDevice, stream),
               "copying a step's linears to the device");
  }
  decoder->workspace_->synchronize("copying a step's linears to the device");

  cudaGraph_t graph = nullptr;
  check_cuda(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "recording a step");
  try {
    recorder.launch(stream, reinterpret_cast<const SamebitsStep *>(recording->steps.data()));
  } catch (...) {
    cudaStreamEndCapture(stream, &graph);
    if (graph != nullptr) cudaGraphDestroy(graph);
    throw;
  }
  check_cuda(cudaStreamEndCapture(stream, &graph), "recording a step");
  const cudaError_t error = cudaGraphInstantiate(&recording->graph, graph, 0);
  cudaGraphDestroy(graph);
  check_cuda(error, "instantiating a step");
  return recording;
}

int32_t DecoderCache::step(const std::vector<int32_t> &tokens, int32_t position, Wants wants,
                           const std::vector<float> &rotary, void *logits) {
  check(tokens.size(), position, rotary);
  const int32_t vocabulary = decoder->description.vocabulary_size;
  for (const int32_t token : tokens) {
    require_argument(token >= 0 && token < vocabulary, "a token must be in the vocabulary", "0.." + std::to_string(vocabulary - 1),
            std::to_string(token));
  }
  const auto m = static_cast<int32_t>(tokens.size());
  const std::lock_guard<std::mutex> lock(decoder->mutex_);
  decoder->device->make_current();
  std::unique_ptr<Recording> &recording = recordings_[{m, wants}];
  if (!recording) recording = record(m, wants, kEveryKind);

  write_input(tokens, position, rotary);
  const cudaStream_t stream = decoder->workspace_->stream;
  check_cuda(cudaGraphLaunch(recording->graph, stream), "running a step");
  if (wants == Wants::kLogits || wants == Wants::kEveryLogit) {
    const int32_t rows = wants == Wants::kEveryLogit ? m : 1;
    const char *const from = decoder->workspace_->memory.data() + decoder->layout_.outputs[static_cast<int>(Output::kLogits)];
    check_cuda(cudaMemcpyAsync(logits, from, product_bytes(static_cast<uint64_t>(rows), static_cast<uint64_t>(vocabulary),
                                                           sizeof(float)),
                               cudaMemcpyDeviceToHost, stream),
               "copying logits from the device");
  }
  decoder->wait("running a step");
  if (wants != Wants::kGreedy) return -1;
  uint64_t best = 0;
  std::memcpy(&best, decoder->pinned_->data() + aligned(decoder->input_bytes()), sizeof best);
  return samebits_token_of(best);
}

std::vector<double> DecoderCache::time(int32_t m, int32_t position, Wants wants, unsigned kinds,
                                       const std::vector<float> &rotary, int replays) {
  check(static_cast<size_t>(m), position, rotary);
  const std::lock_guard<std::mutex> lock(decoder->mutex_);
  decoder->device->make_current();
  const auto recording = record(m, wants, kinds);
  write_input(std::vector<int32_t>(static_cast<size_t>(m), 0), position, rotary);
  const cudaStream_t stream = decoder->workspace_->stream;
  std::vector<Interval> intervals(static_cast<size_t>(replays));
  for (Interval &interval : intervals) {
    interval.start(stream);
    check_cuda(cudaGraphLaunch(recording->graph, stream), "timing a step");
    interval.end(stream);
  }
  decoder->workspace_->synchronize("timing a step");
  std::vector<double> elapsed_us;
  for (const Interval &interval : intervals) elapsed_us.push_back(interval.elapsed_us());
  return elapsed_us;
}

Decoder::~Decoder() {
  if (done_ == nullptr) return;
  cudaSetDevice(device->index);
  cudaEventDestroy(done_);
}

void Decoder::wait(const char *what) {
  check_cuda(cudaEventRecord(done_, workspace_->stream), what);
  check_cuda(cudaEventSynchronize(done_), what);
}

}  // namespace samebits

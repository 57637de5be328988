// Names, argument types and promises around decoder.hpp.

#include "decoder_addon.hpp"

#include <climits>

#include "handles.hpp"
#include "task.hpp"

namespace samebits {
namespace {

constexpr int64_t kMaxPositions = 1 << 24;
constexpr int64_t kMaxReplays = 100000;
constexpr const char *kInputNames[] = {"x", "attended", "gated"};
constexpr const char *kOutputNames[] = {"q", "k", "v", "y", "gate", "up", "logits"};
constexpr const char *kKindNames[] = {"embed", "norm", "linear", "heads", "attention", "gelu", "softCap"};
constexpr const char *kWantsNames[] = {"nothing", "greedy", "logits", "everyLogit"};

// Which of the names a value is.
template <typename Enum, size_t COUNT>
Enum one_of(const Napi::Value &value, const char *name, const char *const (&names)[COUNT]) {
  const std::string text = value.IsString() ? value.As<Napi::String>().Utf8Value() : "";
  for (size_t i = 0; i < COUNT; i++) {
    if (text == names[i]) return static_cast<Enum>(i);
  }
  throw_invalid(value.Env(), name, std::string("a known name, for example '") + names[0] + "'");
}

Napi::Object object_of(const Napi::Value &value, const char *name) {
  if (!value.IsObject()) throw_invalid(value.Env(), name, "an object");
  return value.As<Napi::Object>();
}

float number_of(const Napi::Object &object, const char *name) {
  const Napi::Value value = object.Get(name);
  const float number = value.IsNumber() ? value.As<Napi::Number>().FloatValue() : NAN;
  if (!std::isfinite(number)) throw_invalid(object.Env(), name, "a finite number");
  return number;
}

int32_t size_of(const Napi::Object &object, const char *name, int32_t min, int32_t max) {
  return static_cast<int32_t>(integer_argument(object.Get(name), name, min, max));
}

template <typename Read>
void each(const Napi::Object &object, const char *name, Read read) {
  const Napi::Value value = object.Get(name);
  if (!value.IsArray()) throw_invalid(object.Env(), name, "an array");
  const Napi::Array list = value.As<Napi::Array>();
  for (uint32_t i = 0; i < list.Length(); i++) read(object_of(list.Get(i), name));
}

std::shared_ptr<Buffer> buffer_of(const Napi::Object &object, const char *name, const std::shared_ptr<Device> &device) {
  auto buffer = Handle<Buffer>::get(object.Get(name), "buffer");
  if (buffer->device != device) throw_invalid(object.Env(), name, "a handle of the decoder's device");
  return buffer;
}

// { heads, keyValueHeads, headSize, window, hasValueProjection, frequencies, rotaryOffset, queryNorm, keyNorm }
DecoderLayer layer_of(const Napi::Object &object, const std::shared_ptr<Device> &device) {
  DecoderLayer layer = {};
  layer.heads = size_of(object, "heads", 1, SAMEBITS_MAX_K);
  layer.key_value_heads = size_of(object, "keyValueHeads", 1, SAMEBITS_MAX_K);
  layer.head_size = size_of(object, "headSize", 2, SAMEBITS_MAX_K);
  layer.window = object.Get("window").IsNull() ? INT32_MAX : size_of(object, "window", 1, INT32_MAX);
  layer.has_value_projection = object.Get("hasValueProjection").ToBoolean();
  layer.frequencies = size_of(object, "frequencies", 0, SAMEBITS_MAX_K);
  layer.rotary_offset = static_cast<uint64_t>(size_of(object, "rotaryOffset", 0, INT32_MAX));
  layer.query_norm = buffer_of(object, "queryNorm", device);
  layer.key_norm = buffer_of(object, "keyNorm", device);
  return layer;
}

// { kind } and { layer, weight, x, y } of a linear, { branchWeight, nextWeight, scalar } of a norm, { layer } of heads and
// attention.
Operation operation_of(const Napi::Object &object, const std::shared_ptr<Device> &device) {
  Operation operation = {};
  operation.kind = one_of<OperationKind>(object.Get("kind"), "kind", kKindNames);
  operation.layer = object.Has("layer") ? static_cast<size_t>(size_of(object, "layer", 0, INT32_MAX)) : 0;
  if (operation.kind == OperationKind::kLinear) {
    operation.weight = Handle<Weight>::get(object.Get("weight"), "weight");
    if (operation.weight->device != device) throw_invalid(object.Env(), "weight", "a handle of the decoder's device");
    operation.x = one_of<Input>(object.Get("x"), "x", kInputNames);
    operation.y = one_of<Output>(object.Get("y"), "y", kOutputNames);
  }
  if (operation.kind == OperationKind::kNorm) {
    if (!object.Get("branchWeight").IsNull()) operation.branch_weight = buffer_of(object, "branchWeight", device);
    operation.next_weight = buffer_of(object, "nextWeight", device);
    operation.scalar = number_of(object, "scalar");
  }
  return operation;
}

// createDecoder(device, description): Promise<{ handle, sizeBytes }>; the decoder keeps what it is given, handles may go.
Napi::Value create_decoder(const Napi::CallbackInfo &info) {
  auto device = Handle<Device>::get(info[0], "device");
  const Napi::Object object = object_of(info[1], "description");
  DecoderDescription of = {};
  of.hidden_size = size_of(object, "hiddenSize", 1, SAMEBITS_MAX_K);
  of.intermediate_size = size_of(object, "intermediateSize", 1, SAMEBITS_MAX_K);
  of.vocabulary_size = size_of(object, "vocabularySize", 1, SAMEBITS_MAX_N);
  of.epsilon = number_of(object, "epsilon");
  of.soft_cap = number_of(object, "softCap");
  of.embedding_scale = number_of(object, "embeddingScale");
  of.rotary_floats = static_cast<uint64_t>(size_of(object, "rotaryFloats", 0, INT32_MAX));
  of.embedding = buffer_of(object, "embedding", device);
  each(object, "layers", [&](const Napi::Object &layer) { of.layers.push_back(layer_of(layer, device)); });
  each(object, "operations",
       [&](const Napi::Object &operation) { of.operations.push_back(operation_of(operation, device)); });
  return Task::start(info.Env(), [device = std::move(device), of = std::move(of)]() -> Finish {
    auto decoder = std::make_shared<Decoder>(device, of);
    return [decoder = std::move(decoder)](Napi::Env env) -> Napi::Value {
      Napi::Object result = Napi::Object::New(env);
      result.Set("handle", Handle<Decoder>::wrap(env, decoder));
      result.Set("sizeBytes", static_cast<double>(decoder->size_bytes()));
      return result;
    };
  });
}

// cacheSizeBytes(decoder, capacity): number
Napi::Value cache_size_bytes(const Napi::CallbackInfo &info) {
  const auto decoder = Handle<Decoder>::get(info[0], "decoder");
  const auto capacity = static_cast<int32_t>(integer_argument(info[1], "capacity", 1, kMaxPositions));
  return Napi::Number::New(info.Env(), static_cast<double>(DecoderCache::size_bytes(*decoder, capacity)));
}

// openCache(decoder, capacity): Promise<handle>
Napi::Value open_cache(const Napi::CallbackInfo &info) {
  auto decoder = Handle<Decoder>::get(info[0], "decoder");
  const auto capacity = static_cast<int32_t>(integer_argument(info[1], "capacity", 1, kMaxPositions));
  return Task::start(info.Env(), [decoder = std::move(decoder), capacity]() -> Finish {
    auto cache = std::make_shared<DecoderCache>(decoder, capacity);
    return [cache = std::move(cache)](Napi::Env env) { return Handle<DecoderCache>::wrap(env, cache); };
  });
}

std::vector<float> floats_of(const Napi::Value &value, const char *name) {
  return copy_of(value.Env(), elements_of<float>(value, name, napi_float32_array, "Float32Array"));
}

// runStep(cache, tokens, position, wants, rotary): Promise<undefined | number | ArrayBuffer>, by what is wanted
Napi::Value run_step(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  auto cache = Handle<DecoderCache>::get(info[0], "cache");
  auto tokens = copy_of(env, elements_of<int32_t>(info[1], "tokens", napi_int32_array, "Int32Array"));
  const auto position = static_cast<int32_t>(integer_argument(info[2], "position", 0, kMaxPositions));
  const Wants wants = one_of<Wants>(info[3], "wants", kWantsNames);
  auto rotary = floats_of(info[4], "rotary");
  if (wants == Wants::kLogits || wants == Wants::kEveryLogit) {
    const uint64_t rows = wants == Wants::kLogits ? 1 : tokens.size();
    const auto vocabulary = static_cast<uint64_t>(cache->decoder->description.vocabulary_size);
    Napi::ArrayBuffer logits = new_array_buffer(env, rows * vocabulary * sizeof(float));
    return Task::start_with(env, logits, [cache, tokens, position, wants, rotary, into = logits.Data()]() -> Finish {
      cache->step(tokens, position, wants, rotary, into);
      return nullptr;
    });
  }
  return Task::start(env, [cache, tokens, position, wants, rotary]() -> Finish {
    const int32_t token = cache->step(tokens, position, wants, rotary, nullptr);
    if (wants == Wants::kNothing) return nullptr;
    return [token](Napi::Env in) -> Napi::Value { return Napi::Number::New(in, token); };
  });
}

// timeStep(cache, m, position, wants, kinds, rotary, replays): Promise<number[]>, microseconds of the kinds of operations
// asked for
Napi::Value time_step(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  auto cache = Handle<DecoderCache>::get(info[0], "cache");
  const auto m = static_cast<int32_t>(integer_argument(info[1], "m", 1, SAMEBITS_ROWS_PER_PASS));
  const auto position = static_cast<int32_t>(integer_argument(info[2], "position", 0, kMaxPositions));
  const Wants wants = one_of<Wants>(info[3], "wants", kWantsNames);
  if (!info[4].IsArray()) throw_invalid(env, "kinds", "an array");
  const Napi::Array names = info[4].As<Napi::Array>();
  unsigned kinds = 0;
  for (uint32_t i = 0; i < names.Length(); i++) {
    kinds |= 1u << static_cast<unsigned>(one_of<OperationKind>(names.Get(i), "kinds", kKindNames));
  }
  auto rotary = floats_of(info[5], "rotary");
  const int replays = static_cast<int>(integer_argument(info[6], "replays", 1, kMaxReplays));
  return Task::start(env, [cache, m, position, wants, kinds, rotary, replays]() -> Finish {
    const std::vector<double> elapsed_us = cache->time(m, position, wants, kinds, rotary, replays);
    return [elapsed_us](Napi::Env in) -> Napi::Value {
      Napi::Array list = Napi::Array::New(in, elapsed_us.size());
      for (size_t i = 0; i < elapsed_us.size(); i++) list.Set(static_cast<uint32_t>(i), elapsed_us[i]);
      return list;
    };
  });
}

}  // namespace

void define_decoder(Napi::Env env, Napi::Object exports) {
  const auto define = [&](const char *name, auto function) { exports.Set(name, Napi::Function::New(env, function, name)); };
  define("createDecoder", create_decoder);
  define("cacheSizeBytes", cache_size_bytes);
  define("openCache", open_cache);
  define("runStep", run_step);
  define("timeStep", time_step);
}

}  // namespace samebits

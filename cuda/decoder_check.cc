// What a decoder's description must be: sizes, and a list of operations that is complete and in order.

#include "decoder_check.hpp"

#include "decoder.hpp"

namespace samebits {
namespace {

constexpr const char *kKinds[] = {"embed", "norm", "linear", "heads", "attention", "gelu", "softCap"};
constexpr const char *kOutputNames[] = {"q", "k", "v", "y", "gate", "up", "logits"};

// What tells operations of a list apart, besides the vectors and weights that they read.
struct Place {
  OperationKind kind;
  size_t layer = 0;
  bool has_branch = false;
  Input x = Input::kX;
  Output y = Output::kQ;

  bool operator==(const Place &other) const {
    return kind == other.kind && layer == other.layer && has_branch == other.has_branch && x == other.x && y == other.y;
  }

  std::string name() const {
    std::string text = kKinds[static_cast<int>(kind)];
    if (kind == OperationKind::kLinear) text += std::string(" to ") + kOutputNames[static_cast<int>(y)];
    if (kind == OperationKind::kNorm) text += has_branch ? " with a branch" : " without a branch";
    return text + ", layer " + std::to_string(layer);
  }
};

Place linear(size_t layer, Input x, Output y) { return {OperationKind::kLinear, layer, false, x, y}; }

// The list of core/model/step.ts. Norms have no layer here.
std::vector<Place> places_of(const std::vector<DecoderLayer> &layers) {
  const Place norm = {OperationKind::kNorm, 0, true};
  std::vector<Place> places = {{OperationKind::kEmbed}, {OperationKind::kNorm}};
  for (size_t layer = 0; layer < layers.size(); layer++) {
    places.insert(places.end(), {linear(layer, Input::kX, Output::kQ), linear(layer, Input::kX, Output::kK)});
    if (layers[layer].has_value_projection) places.push_back(linear(layer, Input::kX, Output::kV));
    places.insert(places.end(), {{OperationKind::kHeads, layer},
                                 {OperationKind::kAttention, layer},
                                 linear(layer, Input::kAttended, Output::kY),
                                 norm,
                                 linear(layer, Input::kX, Output::kGate),
                                 linear(layer, Input::kX, Output::kUp),
                                 {OperationKind::kGelu},
                                 linear(layer, Input::kGated, Output::kY),
                                 norm});
  }
  places.insert(places.end(), {linear(0, Input::kX, Output::kLogits), {OperationKind::kSoftCap}});
  return places;
}

}  // namespace

void Decoder::check() const {
  const auto check_buffer = [](const Buffer &buffer, uint64_t expected) {
    require_argument(buffer.size_bytes == expected, "a decoder's vectors must have the sizes of its description",
            std::to_string(expected) + " bytes", std::to_string(buffer.size_bytes) + " bytes");
  };
  const auto hidden = static_cast<uint64_t>(description.hidden_size);
  require_argument(description.hidden_size <= SAMEBITS_MAX_HIDDEN_SIZE, "the hidden size must be one that rms_norm takes",
          "at most " + std::to_string(SAMEBITS_MAX_HIDDEN_SIZE), std::to_string(description.hidden_size));
  check_buffer(*description.embedding, hidden * static_cast<uint64_t>(description.vocabulary_size) * 2);
  constexpr uint64_t floats_a_frequency = SAMEBITS_ROWS_PER_PASS * 2;
  uint64_t most_floats = 0;
  for (const DecoderLayer &layer : description.layers) {
    require_argument(layer.head_size % 2 == 0 && layer.head_size <= SAMEBITS_MAX_HEAD_SIZE && layer.heads % layer.key_value_heads == 0 &&
                layer.frequencies <= layer.head_size / 2,
            "heads must have a size that attention takes", "an even one, at most " + std::to_string(SAMEBITS_MAX_HEAD_SIZE),
            std::to_string(layer.head_size));
    check_buffer(*layer.query_norm, static_cast<uint64_t>(layer.head_size) * 2);
    check_buffer(*layer.key_norm, static_cast<uint64_t>(layer.head_size) * 2);
  }
  for (const DecoderLayer &layer : description.layers) {
    const uint64_t floats = static_cast<uint64_t>(layer.frequencies) * floats_a_frequency;
    require_argument(layer.rotary_offset % 2 == 0 && layer.rotary_offset + floats <= description.rotary_floats,
                     "a layer's rotation must lie in a step's input", std::to_string(floats) + " floats from an even offset",
                     std::to_string(description.rotary_floats) + " floats, from " + std::to_string(layer.rotary_offset));
    most_floats += floats;
  }
  require_argument(description.rotary_floats <= most_floats, "a step's input must be what its layers read",
                   "at most " + std::to_string(most_floats) + " floats", std::to_string(description.rotary_floats));
  check_order();
  for (const Operation &operation : description.operations) {
    require_argument(operation.layer < description.layers.size(), "an operation's layer must be one of the decoder's",
            std::to_string(description.layers.size()) + " layers", "layer " + std::to_string(operation.layer));
    if (operation.branch_weight) check_buffer(*operation.branch_weight, hidden * 2);
    if (operation.kind == OperationKind::kNorm) check_buffer(*operation.next_weight, hidden * 2);
    if (operation.kind == OperationKind::kLinear) check_linear(operation);
  }
}

void Decoder::check_linear(const Operation &operation) const {
  const DecoderLayer &layer = description.layers[operation.layer];
  const int32_t queries = layer.heads * layer.head_size, keys = layer.key_value_heads * layer.head_size;
  const int32_t hidden = description.hidden_size, intermediate = description.intermediate_size;
  const int32_t k_of[kInputs] = {hidden, queries, intermediate};
  const int32_t n_of[kOutputs] = {queries, keys, keys, hidden, intermediate, intermediate, description.vocabulary_size};
  const int32_t k = k_of[static_cast<int>(operation.x)], n = n_of[static_cast<int>(operation.y)];
  require_argument(operation.weight->kind == WeightKind::kTiled, "a decoder's linears must be in tiles", "tiles", "a baseline's layout");
  const SamebitsShape &shape = operation.weight->checked_shape();
  require_argument(shape.n == n && shape.k == k, "a decoder's linears must have the shapes of its description",
          "[" + std::to_string(n) + ", " + std::to_string(k) + "]",
          "[" + std::to_string(shape.n) + ", " + std::to_string(shape.k) + "]");
}

void Decoder::check_order() const {
  constexpr const char *rule = "a decoder's operations must be complete and in order";
  require_argument(!description.layers.empty(), "a decoder must have layers", "one or more", "none");
  const std::vector<Place> expected = places_of(description.layers);
  const std::vector<Operation> &operations = description.operations;
  for (size_t i = 0; i < expected.size() && i < operations.size(); i++) {
    const Operation &of = operations[i];
    const Place place = {of.kind, of.layer, of.branch_weight != nullptr, of.x, of.y};
    require_argument(place == expected[i], rule, expected[i].name() + ", as operation " + std::to_string(i), place.name());
  }
  require_argument(operations.size() == expected.size(), rule, std::to_string(expected.size()) + " operations",
                   std::to_string(operations.size()));
}

}  // namespace samebits

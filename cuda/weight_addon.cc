// The addon's entries for packed weights: checking them, and filling them piece by piece.

#include "weight_addon.hpp"

#include "handles.hpp"
#include "task.hpp"

namespace samebits {
namespace {

Napi::Object shape_object(Napi::Env env, const SamebitsShape &shape) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("n", shape.n);
  object.Set("k", shape.k);
  object.Set("groupSize", shape.group_size);
  object.Set("nGroups", shape.n_groups);
  return object;
}

// What a description that was checked describes.
struct Described {
  SamebitsShape shape;
  SamebitsForm form;
};

Described described_by(const Napi::Value &value, SamebitsLayout layout) {
  const Description description(value);
  return checked(value.Env(), [&] {
    Described described = {};
    SamebitsRefusal refusal = {};
    check_status(samebits_validate_description(&description.view, layout, &described.shape, &described.form, &refusal), refusal);
    return described;
  });
}

// validateWeight(description, scale, second, scaleStep, secondStep): { n, k, groupSize, nGroups, weightExponent }; touches no
// device. Steps are those of a nested form, whose scale and second are codes.
Napi::Value validate_weight(const Napi::CallbackInfo &info) {
  const Described described = described_by(info[0], SAMEBITS_COALESCED);
  const SamebitsShape &shape = described.shape;
  const auto rows = static_cast<size_t>(shape.n);
  const size_t count = rows * static_cast<size_t>(shape.n_groups);
  SamebitsGroups groups = {};
  groups.count = count;
  const auto require_count = [&](size_t expected, size_t given) {
    if (given == expected) return;
    throw_failure(info.Env(), "BYTE_LENGTH_MISMATCH", "the arrays of a weight must hold what their description says",
                  std::to_string(expected) + " elements", std::to_string(given) + " elements",
                  "Pass the arrays that the description describes.");
  };
  const auto halves = [&](const Napi::Value &value, const char *name, size_t expected) {
    const auto elements = u16_elements(value, name);
    require_count(expected, elements.count);
    return elements.data;
  };
  const auto codes = [&](const Napi::Value &value, const char *name) {
    const auto elements = u8_elements(value, name);
    require_count(count, elements.count);
    return elements.data;
  };
  if (is_nested(described.form.kind)) {
    const size_t steps = rows * static_cast<size_t>(shape.k / STEP_SIZE);
    groups.groups_per_step = groups_per_step(shape.group_size);
    groups.scale_code = codes(info[1], "scale");
    groups.second_code = codes(info[2], "second");
    groups.scale_step = halves(info[3], "scaleStep", steps);
    groups.second_step = halves(info[4], "secondStep", steps);
  } else {
    groups.scale = halves(info[1], "scale", count);
    groups.second = halves(info[2], "second", count);
  }
  const int32_t exponent = checked(info.Env(), [&] {
    double reach = 0;
    int32_t weight_exponent = 0;
    SamebitsRefusal refusal = {};
    check_status(samebits_validate_groups(&described.form, &groups, &reach, &refusal), refusal);
    check_status(samebits_weight_exponent(reach, &weight_exponent, &refusal), refusal);
    return weight_exponent;
  });
  Napi::Object result = shape_object(info.Env(), shape);
  result.Set("weightExponent", exponent);
  return result;
}

// beginUpload(device, description, native, baseline): Promise<{ handle, sizeBytes }>; takes the device memory. Only the
// benchmark's baseline takes the layout before, and it takes no form but the default.
Napi::Value begin_upload(const Napi::CallbackInfo &info) {
  auto device = Handle<Device>::get(info[0], "device");
  const SamebitsLayout layout = info[2].ToBoolean() ? SAMEBITS_NATIVE : SAMEBITS_COALESCED;
  const Described described = described_by(info[1], layout);
  const WeightKind kind = layout == SAMEBITS_NATIVE   ? WeightKind::kBaselineNative
                          : info[3].ToBoolean() ? WeightKind::kBaseline
                                                : WeightKind::kTiled;
  if (kind != WeightKind::kTiled && described.form.kind != SAMEBITS_ZERO_BF16) {
    throw_failure(info.Env(), "FORM_UNSUPPORTED", "the benchmark's baseline takes weights with a scale and a zero point in bf16",
                  "zero, bf16", "another form", "Compare weights of the default form.");
  }
  return Task::start(info.Env(), [device = std::move(device), described, kind]() -> Finish {
    auto weight = std::make_shared<Weight>(device, described.shape, described.form, kind);
    return [weight = std::move(weight)](Napi::Env env) -> Napi::Value {
      Napi::Object result = shape_object(env, weight->shape);
      result.Set("handle", Handle<Weight>::wrap(env, weight));
      result.Set("sizeBytes", static_cast<double>(weight->size_bytes()));
      return result;
    };
  });
}

// appendQdata(weight, bytes): Promise<void>; pieces come one after another, in order.
Napi::Value append_qdata(const Napi::CallbackInfo &info) {
  auto weight = Handle<Weight>::get(info[0], "weight");
  return Task::start(info.Env(), [weight, bytes = copy_of(info.Env(), u8_elements(info[1], "qdata"))]() -> Finish {
    weight->append_qdata(bytes);
    return nullptr;
  });
}

// appendScales(weight, scale, second): Promise<void>; validates what it copies.
Napi::Value append_scales(const Napi::CallbackInfo &info) {
  auto weight = Handle<Weight>::get(info[0], "weight");
  return Task::start(info.Env(), [weight, scale = copy_of(info.Env(), u16_elements(info[1], "scale")),
                                  second = copy_of(info.Env(), u16_elements(info[2], "second"))]() -> Finish {
    weight->append_scales(scale, second);
    return nullptr;
  });
}

// appendNestedScales(weight, scale, second, scaleStep, secondStep): Promise<void>; codes of whole steps, and these.
Napi::Value append_nested_scales(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  auto weight = Handle<Weight>::get(info[0], "weight");
  return Task::start(env, [weight, scale = copy_of(env, u8_elements(info[1], "scale")),
                           second = copy_of(env, u8_elements(info[2], "second")),
                           scale_step = copy_of(env, u16_elements(info[3], "scaleStep")),
                           second_step = copy_of(env, u16_elements(info[4], "secondStep"))]() -> Finish {
    weight->append_nested_scales(scale, second, scale_step, second_step);
    return nullptr;
  });
}

// finishUpload(weight): void
void finish_upload(const Napi::CallbackInfo &info) {
  const auto weight = Handle<Weight>::get(info[0], "weight");
  checked(info.Env(), [&] { weight->seal(); });
}

}  // namespace

void define_weights(Napi::Env env, Napi::Object exports) {
  const auto define = [&](const char *name, auto function) { exports.Set(name, Napi::Function::New(env, function, name)); };
  define("validateWeight", validate_weight);
  define("beginUpload", begin_upload);
  define("appendQdata", append_qdata);
  define("appendScales", append_scales);
  define("appendNestedScales", append_nested_scales);
  define("finishUpload", finish_upload);
}

}  // namespace samebits

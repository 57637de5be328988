// What crosses from JavaScript: opaque handles, copied arrays, checked numbers. Every reader throws on the wrong kind.

#pragma once

#include <napi.h>

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "task.hpp"

namespace samebits {

[[noreturn]] inline void throw_failure(Napi::Env env, const char *code, const std::string &rule,
                                       const std::string &expected, const std::string &got, const char *fix) {
  Failure failure;
  failure.code = code;
  failure.rule = rule;
  failure.expected = expected;
  failure.got = got;
  failure.fix = fix;
  throw error_from(env, failure);
}

[[noreturn]] inline void throw_invalid(Napi::Env env, const std::string &name, const std::string &expected) {
  throw_failure(env, "ARGUMENT_INVALID", name + " of a native call must have its type", expected,
                "something else", "Call the addon through CudaBackend, which passes what it expects.");
}

// Runs validation on the JavaScript thread, and throws what it refuses there.
template <typename Check>
auto checked(Napi::Env env, Check check) {
  try {
    return check();
  } catch (const Failure &failure) {
    throw error_from(env, failure);
  }
}

// An opaque handle that shares ownership of a T. The tag keeps a handle of another kind, or of another addon, out.
template <typename T>
struct Handle {
  static const napi_type_tag tag;

  static Napi::Value wrap(Napi::Env env, std::shared_ptr<T> target) {
    auto handle = Napi::External<std::shared_ptr<T>>::New(
        env, new std::shared_ptr<T>(std::move(target)), [](Napi::Env, std::shared_ptr<T> *held) { delete held; });
    handle.TypeTag(&tag);
    return handle;
  }

  static bool holds(const Napi::Value &value) {
    return value.IsExternal() && value.As<Napi::External<std::shared_ptr<T>>>().CheckTypeTag(&tag);
  }

  static std::shared_ptr<T> &slot(const Napi::Value &value, const char *name) {
    if (!holds(value)) throw_invalid(value.Env(), name, std::string("a handle to a ") + name);
    return *value.As<Napi::External<std::shared_ptr<T>>>().Data();
  }

  // Throws DISPOSED after release.
  static std::shared_ptr<T> get(const Napi::Value &value, const char *name) {
    std::shared_ptr<T> target = slot(value, name);
    if (target) return target;
    throw_failure(value.Env(), "DISPOSED", std::string("a disposed ") + name + " cannot be used",
                  std::string("a live ") + name, "one that was disposed",
                  "Keep it until the last call that needs it has settled.");
  }
};

// An integer within min..max.
inline int64_t integer_argument(const Napi::Value &value, const char *name, int64_t min, int64_t max) {
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : NAN;
  if (!(number >= static_cast<double>(min) && number <= static_cast<double>(max)) || number != std::floor(number)) {
    throw_invalid(value.Env(), name, "an integer in " + std::to_string(min) + ".." + std::to_string(max));
  }
  return static_cast<int64_t>(number);
}

// The elements of a typed array of exactly this type; none when it is detached.
template <typename T>
struct Elements {
  const T *data;
  size_t count;
};

template <typename T>
Elements<T> elements_of(const Napi::Value &value, const char *name, napi_typedarray_type type, const char *type_name) {
  if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != type) {
    throw_invalid(value.Env(), name, std::string("a ") + type_name);
  }
  const auto array = value.As<Napi::TypedArrayOf<T>>();
  return {array.Data(), array.ElementLength()};
}

inline Elements<uint8_t> u8_elements(const Napi::Value &value, const char *name) {
  return elements_of<uint8_t>(value, name, napi_uint8_array, "Uint8Array");
}

inline Elements<uint16_t> u16_elements(const Napi::Value &value, const char *name) {
  return elements_of<uint16_t>(value, name, napi_uint16_array, "Uint16Array");
}

[[noreturn]] inline void throw_host_out_of_memory(Napi::Env env, uint64_t size_bytes, const std::string &got) {
  throw_failure(env, "HOST_OUT_OF_MEMORY", "host memory must suffice for the operands of a call",
                std::to_string(size_bytes) + " bytes", got, "Pass fewer rows of activations at a time.");
}

// Copied now: the caller may change or detach the array as soon as the call returns.
template <typename T>
std::vector<T> copy_of(Napi::Env env, const Elements<T> &elements) {
  try {
    return std::vector<T>(elements.data, elements.data + elements.count);
  } catch (const std::bad_alloc &) {
    throw_host_out_of_memory(env, elements.count * sizeof(T), "std::bad_alloc");
  }
}

// Memory for an output. Where it does not suffice, the native API ends the process, and the constructor throws.
inline Napi::ArrayBuffer new_array_buffer(Napi::Env env, uint64_t size_bytes) {
  Napi::Value made;
  try {
    const auto constructor = env.Global().Get("ArrayBuffer").As<Napi::Function>();
    made = constructor.New({Napi::Number::New(env, static_cast<double>(size_bytes))});
  } catch (const Napi::Error &error) {
    throw_host_out_of_memory(env, size_bytes, error.Message());
  }
  if (!made.IsArrayBuffer() || made.As<Napi::ArrayBuffer>().ByteLength() != size_bytes) {
    throw_invalid(env, "the global ArrayBuffer", "JavaScript's own");
  }
  return made.As<Napi::ArrayBuffer>();
}

// A weight's description with the strings that it points to.
struct Description {
  // { layout, form, center, groupSize, qdata, scale, zeroPoint or offset, and of a nested form scaleStep, zeroPointStep or
  // offsetStep }, each operand { dtype, shape, sizeBytes }. Without a form it is 'zero', without a center 0.
  explicit Description(const Napi::Value &value) {
    const Napi::Object object = object_of(value, "description");
    layout_ = string_of(object.Get("layout"), "layout");
    view.layout = layout_.c_str();
    const Napi::Value form = object.Get("form"), center = object.Get("center");
    form_ = form.IsUndefined() ? "zero" : string_of(form, "form");
    view.form = form_.c_str();
    view.center = center.IsUndefined() ? 0 : dimension_of(center, "center");
    view.group_size = dimension_of(object.Get("groupSize"), "groupSize");
    view.qdata = operand_of(object.Get("qdata"), "qdata", dtypes_[0]);
    const bool has_offset = form_ == "offset" || form_ == "nested-offset";
    const std::string second = has_offset ? "offset" : "zeroPoint";
    view.scale = operand_of(object.Get("scale"), "scale", dtypes_[1]);
    view.second = operand_of(object.Get(second), second.c_str(), dtypes_[2]);
    if (form_ != "nested-zero" && form_ != "nested-offset") return;
    view.scale_step = operand_of(object.Get("scaleStep"), "scaleStep", dtypes_[3]);
    view.second_step = operand_of(object.Get(second + "Step"), (second + "Step").c_str(), dtypes_[4]);
  }
  Description(const Description &) = delete;
  Description &operator=(const Description &) = delete;

  SamebitsWeightDescription view = {};

 private:
  static constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

  static Napi::Object object_of(const Napi::Value &value, const char *name) {
    if (!value.IsObject()) throw_invalid(value.Env(), name, "an object");
    return value.As<Napi::Object>();
  }

  static std::string string_of(const Napi::Value &value, const char *name) {
    if (!value.IsString()) throw_invalid(value.Env(), name, "a string");
    return value.As<Napi::String>().Utf8Value();
  }

  static int64_t dimension_of(const Napi::Value &value, const char *name) {
    return integer_argument(value, name, -kMaxSafeInteger, kMaxSafeInteger);
  }

  static SamebitsOperand operand_of(const Napi::Value &value, const char *name, std::string &dtype) {
    const Napi::Object object = object_of(value, name);
    dtype = string_of(object.Get("dtype"), name);
    const Napi::Value shape = object.Get("shape");
    if (!shape.IsArray()) throw_invalid(value.Env(), name, "a shape array");
    const Napi::Array dimensions = shape.As<Napi::Array>();
    SamebitsOperand operand = {};
    operand.dtype = dtype.c_str();
    operand.rank = dimensions.Length();
    for (uint32_t i = 0; i < 2 && i < operand.rank; i++) operand.shape[i] = dimension_of(dimensions.Get(i), name);
    operand.size_bytes = static_cast<uint64_t>(integer_argument(object.Get("sizeBytes"), name, 0, kMaxSafeInteger));
    return operand;
  }

  std::string layout_, form_;
  std::string dtypes_[5];
};

}  // namespace samebits

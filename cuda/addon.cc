// The Node addon: names, argument types and promises around device.hpp and plan.hpp. All device work runs off the loop.

#include <napi.h>

#include "decoder_addon.hpp"
#include "handles.hpp"
#include "plan.hpp"
#include "task.hpp"
#include "weight_addon.hpp"

#ifndef SAMEBITS_SOURCES_SHA256
#error "build with scripts/build-addon.mjs, which passes the hash of the kernel sources"
#endif

namespace samebits {

// Random, and different for each kind of handle.
template <> const napi_type_tag Handle<Device>::tag = {0x6c1f0a52d3e94b71, 0x9b4e7f2a8d105c36};
template <> const napi_type_tag Handle<Weight>::tag = {0x2f8d41b7c05e4a9c, 0x87a3e6d94f1b2c50};
template <> const napi_type_tag Handle<Buffer>::tag = {0xd4a90e6135bc4f28, 0xa1f75c0b3e82d964};
template <> const napi_type_tag Handle<Plan>::tag = {0x5be3720c9a1f4d86, 0xb60d2e84f7931ac5};
template <> const napi_type_tag Handle<Decoder>::tag = {0xe27a15c84f90b36d, 0x8c3d61f07ab2e594};
template <> const napi_type_tag Handle<DecoderCache>::tag = {0x19f6b8d3057ce24a, 0xa95e4c72d10b38f6};

namespace {

constexpr int64_t kMaxBytes = int64_t{1} << 50;
constexpr int64_t kMaxReplays = 100000;

// probe(): Promise<{ error, driverVersion, runtimeVersion, devices: [{ name, computeCapability, memoryBytes }] }>
Napi::Value probe(const Napi::CallbackInfo &info) {
  return Task::start(info.Env(), []() -> Finish {
    int count = 0, driver = 0, runtime = 0;
    const cudaError_t error = cudaGetDeviceCount(&count);
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    std::vector<cudaDeviceProp> devices;
    for (int i = 0; error == cudaSuccess && i < count; i++) {
      cudaDeviceProp properties;
      if (cudaGetDeviceProperties(&properties, i) == cudaSuccess) devices.push_back(properties);
    }
    return [=](Napi::Env env) -> Napi::Value {
      Napi::Object result = Napi::Object::New(env);
      result.Set("error", error == cudaSuccess ? env.Null() : Napi::String::New(env, cudaGetErrorName(error)));
      result.Set("driverVersion", driver);
      result.Set("runtimeVersion", runtime);
      Napi::Array list = Napi::Array::New(env, devices.size());
      for (size_t i = 0; i < devices.size(); i++) {
        Napi::Object device = Napi::Object::New(env);
        device.Set("name", devices[i].name);
        device.Set("computeCapability", std::to_string(devices[i].major) + "." + std::to_string(devices[i].minor));
        device.Set("memoryBytes", static_cast<double>(devices[i].totalGlobalMem));
        list.Set(static_cast<uint32_t>(i), device);
      }
      result.Set("devices", list);
      return result;
    };
  });
}

// openDevice(index): Promise<{ handle, name, computeCapability, memoryBytes, cacheSizeBytes, multiprocessorCount, ... }>
Napi::Value open_device(const Napi::CallbackInfo &info) {
  const int index = static_cast<int>(integer_argument(info[0], "deviceIndex", 0, 1 << 16));
  return Task::start(info.Env(), [index]() -> Finish {
    auto device = Device::open(index);
    int driver = 0, runtime = 0;
    check_cuda(cudaDriverGetVersion(&driver), "reading the driver's version");
    check_cuda(cudaRuntimeGetVersion(&runtime), "reading the runtime's version");
    return [device = std::move(device), driver, runtime](Napi::Env env) -> Napi::Value {
      const cudaDeviceProp &properties = device->properties;
      Napi::Object result = Napi::Object::New(env);
      result.Set("handle", Handle<Device>::wrap(env, device));
      result.Set("name", properties.name);
      result.Set("computeCapability", std::to_string(properties.major) + "." + std::to_string(properties.minor));
      result.Set("memoryBytes", static_cast<double>(properties.totalGlobalMem));
      result.Set("cacheSizeBytes", properties.l2CacheSize);
      result.Set("multiprocessorCount", properties.multiProcessorCount);
      result.Set("driverVersion", driver);
      result.Set("runtimeVersion", runtime);
      return result;
    };
  });
}

// linear(weight, x bf16[M, K], outputBf16): Promise<ArrayBuffer>
Napi::Value linear_call(const Napi::CallbackInfo &info) {
  const Napi::Env env = info.Env();
  auto weight = Handle<Weight>::get(info[0], "weight");
  const auto x = u16_elements(info[1], "x");
  const bool output_bf16 = info[2].ToBoolean();
  const SamebitsShape shape = checked(env, [&] { return weight->checked_shape(); });
  const int32_t m = checked(env, [&] {
    int32_t rows = 0;
    SamebitsRefusal refusal = {};
    check_status(samebits_validate_rows(x.count, shape.k, &rows, &refusal), refusal);
    return rows;
  });
  Napi::ArrayBuffer output = new_array_buffer(env, output_size_bytes(m, shape, output_bf16));
  return Task::start_with(env, output, [weight, x = copy_of(env, x), m, output_bf16, y = output.Data()]() -> Finish {
    linear(*weight, x, m, output_bf16, y);
    return nullptr;
  });
}

// createBuffer(device, sizeBytes): Promise<handle>
Napi::Value create_buffer(const Napi::CallbackInfo &info) {
  auto device = Handle<Device>::get(info[0], "device");
  const auto size_bytes = static_cast<uint64_t>(integer_argument(info[1], "sizeBytes", 1, kMaxBytes));
  return Task::start(info.Env(), [device = std::move(device), size_bytes]() -> Finish {
    auto buffer = std::make_shared<Buffer>(device, size_bytes);
    return [buffer = std::move(buffer)](Napi::Env env) { return Handle<Buffer>::wrap(env, buffer); };
  });
}

// writeBuffer(buffer, bytes): Promise<void>
Napi::Value write_buffer(const Napi::CallbackInfo &info) {
  auto buffer = Handle<Buffer>::get(info[0], "buffer");
  return Task::start(info.Env(), [buffer, bytes = copy_of(info.Env(), u8_elements(info[1], "bytes"))]() -> Finish {
    buffer->write(bytes);
    return nullptr;
  });
}

// fillBuffer(buffer, offset, bytes): Promise<void>; a part of it.
Napi::Value fill_buffer(const Napi::CallbackInfo &info) {
  auto buffer = Handle<Buffer>::get(info[0], "buffer");
  const auto offset = static_cast<uint64_t>(integer_argument(info[1], "offset", 0, kMaxBytes));
  return Task::start(info.Env(), [buffer, offset, bytes = copy_of(info.Env(), u8_elements(info[2], "bytes"))]() -> Finish {
    buffer->fill(offset, bytes);
    return nullptr;
  });
}

// readBuffer(buffer): Promise<ArrayBuffer>
Napi::Value read_buffer(const Napi::CallbackInfo &info) {
  auto buffer = Handle<Buffer>::get(info[0], "buffer");
  Napi::ArrayBuffer output = new_array_buffer(info.Env(), buffer->size_bytes);
  return Task::start_with(info.Env(), output, [buffer, into = output.Data()]() -> Finish {
    buffer->read(into);
    return nullptr;
  });
}

// createPlan(device, [{ m, x, weight, y, outputBf16 }]): Promise<handle>
Napi::Value create_plan(const Napi::CallbackInfo &info) {
  auto device = Handle<Device>::get(info[0], "device");
  if (!info[1].IsArray()) throw_invalid(info.Env(), "steps", "an array of steps");
  const Napi::Array list = info[1].As<Napi::Array>();
  std::vector<PlanStep> steps;
  for (uint32_t i = 0; i < list.Length(); i++) {
    const Napi::Value value = list.Get(i);
    if (!value.IsObject()) throw_invalid(info.Env(), "steps", "an array of steps");
    const Napi::Object step = value.As<Napi::Object>();
    steps.push_back({static_cast<int32_t>(integer_argument(step.Get("m"), "m", 1, SAMEBITS_MAX_M)),
                     Handle<Buffer>::get(step.Get("x"), "buffer"), Handle<Weight>::get(step.Get("weight"), "weight"),
                     Handle<Buffer>::get(step.Get("y"), "buffer"), step.Get("outputBf16").ToBoolean()});
    const PlanStep &last = steps.back();
    if (last.x->device != device || last.weight->device != device || last.y->device != device) {
      throw_failure(info.Env(), "BACKEND_MISMATCH", "a plan's operands must be on the plan's device",
                    "handles of one device", "handles of two", "Create all of them with one backend.");
    }
  }
  return Task::start(info.Env(), [device = std::move(device), steps = std::move(steps)]() -> Finish {
    auto plan = std::make_shared<Plan>(device, steps);
    return [plan = std::move(plan)](Napi::Env env) { return Handle<Plan>::wrap(env, plan); };
  });
}

// runPlan(plan): Promise<void>
Napi::Value run_plan(const Napi::CallbackInfo &info) {
  return Task::start(info.Env(), [plan = Handle<Plan>::get(info[0], "plan")]() -> Finish {
    plan->run();
    return nullptr;
  });
}

// timePlan(plan, replays): Promise<number[]>, microseconds
Napi::Value time_plan(const Napi::CallbackInfo &info) {
  const int replays = static_cast<int>(integer_argument(info[1], "replays", 1, kMaxReplays));
  return Task::start(info.Env(), [plan = Handle<Plan>::get(info[0], "plan"), replays]() -> Finish {
    const std::vector<double> elapsed_us = plan->time(replays);
    return [elapsed_us](Napi::Env env) -> Napi::Value {
      Napi::Array list = Napi::Array::New(env, elapsed_us.size());
      for (size_t i = 0; i < elapsed_us.size(); i++) list.Set(static_cast<uint32_t>(i), elapsed_us[i]);
      return list;
    };
  });
}

// readBandwidthGBps(device, sizeBytes, replays): Promise<number>
Napi::Value read_bandwidth(const Napi::CallbackInfo &info) {
  auto device = Handle<Device>::get(info[0], "device");
  const auto size_bytes = static_cast<uint64_t>(integer_argument(info[1], "sizeBytes", 16, kMaxBytes));
  const int replays = static_cast<int>(integer_argument(info[2], "replays", 1, kMaxReplays));
  return Task::start(info.Env(), [device = std::move(device), size_bytes, replays]() -> Finish {
    const double gbps = read_bandwidth_gbps(*device, size_bytes, replays);
    return [gbps](Napi::Env env) -> Napi::Value { return Napi::Number::New(env, gbps); };
  });
}

template <typename T>
bool take(const Napi::Value &value, std::shared_ptr<void> &taken) {
  if (!Handle<T>::holds(value)) return false;
  taken = std::move(Handle<T>::slot(value, "handle"));
  return true;
}

// release(handle): Promise<void>; the memory is freed off the loop, when the last call that uses it is done.
Napi::Value release(const Napi::CallbackInfo &info) {
  std::shared_ptr<void> taken;
  if (!take<Weight>(info[0], taken) && !take<Buffer>(info[0], taken) && !take<Plan>(info[0], taken) &&
      !take<Decoder>(info[0], taken) && !take<DecoderCache>(info[0], taken) && !take<Device>(info[0], taken)) {
    throw_invalid(info.Env(), "handle", "a handle of this addon");
  }
  return Task::start(info.Env(), [taken = std::move(taken)]() -> Finish { return nullptr; });
}

Napi::Object init(Napi::Env env, Napi::Object exports) {
  const auto define = [&](const char *name, auto function) { exports.Set(name, Napi::Function::New(env, function, name)); };
  exports.Set("sourcesSha256", SAMEBITS_SOURCES_SHA256);
  define("probe", probe);
  define("openDevice", open_device);
  define("linear", linear_call);
  define("createBuffer", create_buffer);
  define("writeBuffer", write_buffer);
  define("fillBuffer", fill_buffer);
  define("readBuffer", read_buffer);
  define("createPlan", create_plan);
  define("runPlan", run_plan);
  define("timePlan", time_plan);
  define("readBandwidthGBps", read_bandwidth);
  define("release", release);
  define_weights(env, exports);
  define_decoder(env, exports);
  return exports;
}

}  // namespace
}  // namespace samebits

static Napi::Object init_module(Napi::Env env, Napi::Object exports) { return samebits::init(env, exports); }

NODE_API_MODULE(samebits_cuda, init_module)

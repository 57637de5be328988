// Devices, memory and errors of the CUDA side.

#include "device.hpp"

#include <cstdio>
#include <utility>

#include "decoder.h"

namespace samebits {
namespace {

// Scratch larger than this goes back to the driver instead of to the pool.
constexpr uint64_t kMaxPooledBytes = 256ull << 20;
constexpr int kMinComputeCapability = 75;

bool is_lost(int error) {
  switch (error) {
    case cudaErrorIllegalAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidAddressSpace:
    case cudaErrorInvalidPc:
    case cudaErrorMisalignedAddress:
    case cudaErrorHardwareStackError:
    case cudaErrorLaunchFailure:
    case cudaErrorLaunchTimeout:
    case cudaErrorECCUncorrectable:
    case cudaErrorNvlinkUncorrectable:
    case cudaErrorContextIsDestroyed:
    case cudaErrorUnknown:
      return true;
    default:
      return false;
  }
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

[[noreturn]] void throw_unavailable(const std::string &got, const char *fix, const char *cuda_error = "") {
  Failure failure;
  failure.code = "BACKEND_UNAVAILABLE";
  failure.rule = "the cuda backend must be available when it is asked for by name";
  failure.expected = "a working cuda device";
  failure.got = got;
  failure.fix = fix;
  failure.cuda_error = cuda_error;
  throw failure;
}

}  // namespace

void check_cuda(int error, const char *what) {
  if (error == cudaSuccess) return;
  const cudaError_t cuda_error = static_cast<cudaError_t>(error);
  cudaGetLastError();  // an error that does not stick must not be seen again by the next call of this thread
  Failure failure;
  failure.rule = std::string(what) + " must succeed";
  failure.expected = "cudaSuccess";
  failure.cuda_error = cudaGetErrorName(cuda_error);
  failure.got = failure.cuda_error + " (" + cudaGetErrorString(cuda_error) + ")";
  if (error == cudaErrorMemoryAllocation) {
    failure.code = "DEVICE_OUT_OF_MEMORY";
    failure.fix = "Dispose weights and buffers that are no longer used, or use a device with more memory.";
  } else if (is_lost(error)) {
    failure.code = "DEVICE_LOST";
    failure.fix = "The device's context is gone for this process; start a new one.";
  } else {
    failure.code = "DEVICE_FAILURE";
    failure.fix = "See 'samebits doctor'; the CUDA error's name says what the driver refused.";
  }
  throw failure;
}

void check_status(SamebitsStatus status, const SamebitsRefusal &refusal) {
  if (status == SAMEBITS_OK) return;
  Failure failure;
  failure.code = samebits_status_name(status);
  failure.rule = refusal.rule;
  failure.expected = refusal.expected;
  failure.got = refusal.got;
  failure.fix = refusal.fix;
  throw failure;
}

DeviceMemory::DeviceMemory(uint64_t size_bytes) : size_bytes_(size_bytes) {
  check_cuda(cudaGetDevice(&device_), "cudaGetDevice");
  void *data = nullptr;
  check_cuda(cudaMalloc(&data, size_bytes), "allocating device memory");
  data_ = static_cast<char *>(data);
}

DeviceMemory::DeviceMemory(DeviceMemory &&other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_bytes_(std::exchange(other.size_bytes_, 0)),
      device_(other.device_) {}

DeviceMemory &DeviceMemory::operator=(DeviceMemory &&other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_bytes_, other.size_bytes_);
  std::swap(device_, other.device_);
  return *this;
}

DeviceMemory::~DeviceMemory() {
  if (data_ == nullptr) return;
  cudaSetDevice(device_);
  cudaFree(data_);  // fails only when the device is lost or the process is ending, and then there is nothing to free
}

Workspace::Workspace(int device) : device_(device) {
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "creating a stream");
}

Workspace::~Workspace() {
  cudaSetDevice(device_);
  cudaStreamDestroy(stream);
}

std::shared_ptr<Device> Device::open(int index) {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess || count == 0) {
    int driver = 0, runtime = 0;
    cudaDriverGetVersion(&driver);
    cudaRuntimeGetVersion(&runtime);
    const std::string name = error == cudaSuccess ? "cudaErrorNoDevice" : cudaGetErrorName(error);
    if (driver == 0) {
      throw_unavailable("no NVIDIA driver is installed (" + name + ")",
                        "Install the NVIDIA driver, or use the webgpu or cpu backend.", name.c_str());
    }
    if (error == cudaErrorInsufficientDriver) {
      throw_unavailable("the driver supports CUDA " + version_text(driver) + ", and this build needs CUDA " +
                            version_text(runtime) + " (" + name + ")",
                        "Update the NVIDIA driver, or build with the CUDA toolkit of the driver.", name.c_str());
    }
    throw_unavailable("no NVIDIA device is visible (" + name + ")",
                      "Check nvidia-smi and CUDA_VISIBLE_DEVICES, or use the webgpu or cpu backend.", name.c_str());
  }
  if (index < 0 || index >= count) {
    throw_unavailable("device " + std::to_string(index) + " of " + std::to_string(count),
                      "Choose a device index that nvidia-smi lists.");
  }
  auto device = std::make_shared<Device>();
  device->index = index;
  device->make_current();
  check_cuda(cudaGetDeviceProperties(&device->properties, index), "reading the device's properties");
  const cudaDeviceProp &properties = device->properties;
  const std::string name = std::string(properties.name) + " (compute capability " + std::to_string(properties.major) +
                           "." + std::to_string(properties.minor) + ")";
  if (properties.major * 10 + properties.minor < kMinComputeCapability) {
    throw_unavailable(name + " is older than compute capability 7.5", "Use the webgpu or cpu backend on this device.");
  }
  int load_error = samebits_load_int4_plain_mm(static_cast<int32_t>(properties.sharedMemPerBlockOptin));
  for (const auto load : {samebits_load_quantize_activations, samebits_load_tile_weight, samebits_load_baseline_mm,
                          samebits_load_embed_tokens, samebits_load_rms_norm, samebits_load_rotate_heads,
                          samebits_load_attention_scores, samebits_load_attention_chunks, samebits_load_combine_chunks,
                          samebits_load_gated_gelu, samebits_load_soft_cap, samebits_load_arg_max}) {
    if (load_error == cudaSuccess) load_error = load();
  }
  if (load_error != cudaSuccess) {
    const char *error_name = cudaGetErrorName(static_cast<cudaError_t>(load_error));
    throw_unavailable("the addon holds no kernels for " + name + " (" + error_name + ")",
                      "Build the addon again on this machine: npm run build.", error_name);
  }
  return device;
}

DeviceMemory Device::allocate(uint64_t size_bytes) {
  try {
    return DeviceMemory(size_bytes);
  } catch (const Failure &) {
    std::vector<std::unique_ptr<Workspace>> idle;
    {
      const std::lock_guard<std::mutex> lock(mutex_);
      idle.swap(idle_);
    }
    if (idle.empty()) throw;
  }
  return DeviceMemory(size_bytes);
}

std::shared_ptr<Workspace> Device::take_workspace(uint64_t size_bytes) {
  std::unique_ptr<Workspace> workspace;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      workspace = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!workspace) workspace = std::make_unique<Workspace>(index);
  if (workspace->memory.size_bytes() < size_bytes) {
    workspace->memory = DeviceMemory();
    workspace->memory = allocate(size_bytes);
  }
  // A call that failed may have left work in the stream, so it is drained before another call gets it.
  return std::shared_ptr<Workspace>(workspace.release(), [device = shared_from_this()](Workspace *returned) {
    std::unique_ptr<Workspace> owned(returned);
    if (cudaStreamSynchronize(owned->stream) != cudaSuccess) return;
    if (owned->memory.size_bytes() > kMaxPooledBytes) return;
    const std::lock_guard<std::mutex> lock(device->mutex_);
    device->idle_.push_back(std::move(owned));
  });
}

SamebitsLaunch Device::launch_in(cudaStream_t stream) const {
  SamebitsLaunch launch;
  launch.stream = stream;
  launch.multiprocessor_count = properties.multiProcessorCount;
  launch.shared_bytes = static_cast<int32_t>(properties.sharedMemPerBlockOptin);
  launch.overlaps = properties.major >= 9;
  return launch;
}

}  // namespace samebits

// A CUDA runtime without a device, for tests: the addon and its kernels, built against this, run on the host.
//
// Device memory starts poisoned, ends at a page that cannot be touched, and what lies between its end and that page is
// checked when it is freed. Streams run what they are given at once; a capturing stream records it. The environment
// variable CUDA_ON_HOST_ERROR, a cudaError_t, is what cudaStreamSynchronize then returns.

#pragma once

#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <map>
#include <mutex>
#include <tuple>
#include <utility>

#include "simt_on_host.hpp"

enum cudaError_t {
  cudaSuccess = 0,
  cudaErrorInvalidValue = 1,
  cudaErrorMemoryAllocation = 2,
  cudaErrorInsufficientDriver = 35,
  cudaErrorNoDevice = 100,
  cudaErrorECCUncorrectable = 214,
  cudaErrorNvlinkUncorrectable = 220,
  cudaErrorIllegalAddress = 700,
  cudaErrorLaunchTimeout = 702,
  cudaErrorContextIsDestroyed = 709,
  cudaErrorHardwareStackError = 714,
  cudaErrorIllegalInstruction = 715,
  cudaErrorMisalignedAddress = 716,
  cudaErrorInvalidAddressSpace = 717,
  cudaErrorInvalidPc = 718,
  cudaErrorLaunchFailure = 719,
  cudaErrorUnknown = 999
};
enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum cudaStreamCaptureMode { cudaStreamCaptureModeThreadLocal = 1 };
enum cudaLaunchAttributeID { cudaLaunchAttributeCooperative = 2, cudaLaunchAttributeProgrammaticStreamSerialization = 6 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
constexpr unsigned cudaStreamNonBlocking = 1;
constexpr unsigned cudaEventBlockingSync = 1, cudaEventDisableTiming = 2;

struct CUgraph_st {
  std::vector<std::function<void()>> nodes;
};
struct CUstream_st {
  CUgraph_st *recording = nullptr;
};
struct CUevent_st {
  std::chrono::steady_clock::time_point at;
};
using cudaStream_t = CUstream_st *;
using cudaEvent_t = CUevent_st *;
using cudaGraph_t = CUgraph_st *;
using cudaGraphExec_t = CUgraph_st *;

struct cudaDeviceProp {
  char name[64];
  size_t totalGlobalMem;
  int major, minor, l2CacheSize, multiProcessorCount;
  size_t sharedMemPerBlockOptin;
};
struct cudaFuncAttributes {};
struct cudaLaunchAttribute {
  cudaLaunchAttributeID id;
  struct {
    int cooperative, programmaticStreamSerializationAllowed;
  } val;
};
struct cudaLaunchConfig_t {
  dim3 gridDim, blockDim;
  size_t dynamicSmemBytes;
  cudaStream_t stream;
  cudaLaunchAttribute *attrs;
  unsigned numAttrs;
};

namespace on_host {

constexpr size_t MEMORY_BYTES = size_t{64} << 20;
constexpr size_t PAGE_BYTES = 4096;
constexpr size_t ALIGNMENT = 16;
constexpr unsigned char POISON = 0xa5;

struct Allocation {
  char *pages;
  size_t mapped_bytes, size_bytes;
};

inline std::mutex mutex;
inline std::map<void *, Allocation> allocations;
inline size_t used_bytes = 0;

inline void run(cudaStream_t stream, std::function<void()> work) {
  if (stream->recording) {
    stream->recording->nodes.push_back(std::move(work));
  } else {
    work();
  }
}

}  // namespace on_host

inline const char *cudaGetErrorName(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "cudaSuccess";
    case cudaErrorInvalidValue: return "cudaErrorInvalidValue";
    case cudaErrorMemoryAllocation: return "cudaErrorMemoryAllocation";
    case cudaErrorIllegalAddress: return "cudaErrorIllegalAddress";
    default: return "cudaErrorUnknown";
  }
}
inline const char *cudaGetErrorString(cudaError_t) { return "on the host"; }
inline cudaError_t cudaGetLastError() { return cudaSuccess; }
inline cudaError_t cudaGetDeviceCount(int *count) { return *count = 1, cudaSuccess; }
inline cudaError_t cudaSetDevice(int) { return cudaSuccess; }
inline cudaError_t cudaGetDevice(int *device) { return *device = 0, cudaSuccess; }
inline cudaError_t cudaDriverGetVersion(int *version) { return *version = 13000, cudaSuccess; }
inline cudaError_t cudaRuntimeGetVersion(int *version) { return *version = 13000, cudaSuccess; }

inline cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int) {
  // CUDA_ON_HOST_SHARED_BYTES makes it a device with less shared memory.
  const char *const shared_bytes = std::getenv("CUDA_ON_HOST_SHARED_BYTES");
  *properties = {"CUDA kernels on the host", on_host::MEMORY_BYTES, 9, 0, 1 << 20, 3,
                 shared_bytes ? static_cast<size_t>(std::atoi(shared_bytes)) : size_t{227} << 10};
  return cudaSuccess;
}

inline cudaError_t cudaMalloc(void **data, size_t size_bytes) {
  using namespace on_host;
  const std::lock_guard<std::mutex> lock(mutex);
  if (size_bytes > MEMORY_BYTES - used_bytes) return cudaErrorMemoryAllocation;
  const size_t aligned = (size_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  const size_t pages = (aligned + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
  const size_t mapped = pages + 2 * PAGE_BYTES;
  char *base = static_cast<char *>(mmap(nullptr, mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  mprotect(base + PAGE_BYTES, pages, PROT_READ | PROT_WRITE);
  std::memset(base + PAGE_BYTES, POISON, pages);
  *data = base + PAGE_BYTES + pages - aligned;
  allocations[*data] = {base, mapped, size_bytes};
  used_bytes += size_bytes;
  return cudaSuccess;
}

inline cudaError_t cudaFree(void *data) {
  using namespace on_host;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto found = allocations.find(data);
  if (found == allocations.end()) {
    std::fprintf(stderr, "device memory was freed twice, or never was\n");
    std::abort();
  }
  const Allocation allocation = found->second;
  const auto *const from = reinterpret_cast<unsigned char *>(allocation.pages + PAGE_BYTES);
  const auto *const end = reinterpret_cast<unsigned char *>(allocation.pages + allocation.mapped_bytes - PAGE_BYTES);
  const auto *const bytes = static_cast<unsigned char *>(data);
  const auto is_poison = [](unsigned char byte) { return byte == POISON; };
  if (!std::all_of(from, bytes, is_poison) || !std::all_of(bytes + allocation.size_bytes, end, is_poison)) {
    std::fprintf(stderr, "something was written beside an allocation\n");
    std::abort();
  }
  munmap(allocation.pages, allocation.mapped_bytes);
  allocations.erase(found);
  used_bytes -= allocation.size_bytes;
  return cudaSuccess;
}

inline cudaError_t cudaMallocHost(void **data, size_t size_bytes) {
  *data = std::malloc(size_bytes);
  return *data == nullptr ? cudaErrorMemoryAllocation : cudaSuccess;
}
inline cudaError_t cudaFreeHost(void *data) { return std::free(data), cudaSuccess; }
inline cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes) {
  const std::lock_guard<std::mutex> lock(on_host::mutex);
  *free_bytes = on_host::MEMORY_BYTES - on_host::used_bytes;
  *total_bytes = on_host::MEMORY_BYTES;
  return cudaSuccess;
}

inline cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  *stream = new CUstream_st;
  return cudaSuccess;
}
inline cudaError_t cudaStreamDestroy(cudaStream_t stream) { return delete stream, cudaSuccess; }
inline cudaError_t cudaStreamSynchronize(cudaStream_t) {
  const char *const error = std::getenv("CUDA_ON_HOST_ERROR");
  return error ? static_cast<cudaError_t>(std::atoi(error)) : cudaSuccess;
}
inline cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t size_bytes, cudaMemcpyKind, cudaStream_t stream) {
  on_host::run(stream, [=] { std::memcpy(to, from, size_bytes); });
  return cudaSuccess;
}
inline cudaError_t cudaMemsetAsync(void *data, int byte, size_t size_bytes, cudaStream_t stream) {
  on_host::run(stream, [=] { std::memset(data, byte, size_bytes); });
  return cudaSuccess;
}

inline cudaError_t cudaEventCreate(cudaEvent_t *event) { return *event = new CUevent_st, cudaSuccess; }
inline cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned) { return cudaEventCreate(event); }
inline cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaStreamSynchronize(nullptr); }
inline cudaError_t cudaEventDestroy(cudaEvent_t event) { return delete event, cudaSuccess; }
inline cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  on_host::run(stream, [=] { event->at = std::chrono::steady_clock::now(); });
  return cudaSuccess;
}
inline cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t end) {
  *milliseconds = std::chrono::duration<float, std::milli>(end->at - start->at).count();
  return cudaSuccess;
}

inline cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode) {
  stream->recording = new CUgraph_st;
  return cudaSuccess;
}
inline cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  *graph = std::exchange(stream->recording, nullptr);
  return cudaSuccess;
}
inline cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
  *exec = new CUgraph_st(*graph);
  return cudaSuccess;
}
inline cudaError_t cudaGraphDestroy(cudaGraph_t graph) { return delete graph, cudaSuccess; }
inline cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) { return delete exec, cudaSuccess; }
inline cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t) {
  for (const auto &node : exec->nodes) node();
  return cudaSuccess;
}

template <typename Kernel>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *, Kernel *) {
  return cudaSuccess;
}

template <typename Kernel>
cudaError_t cudaFuncSetAttribute(Kernel *, cudaFuncAttribute, int) {
  return cudaSuccess;
}

template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...), Arguments... arguments) {
  const std::tuple<Parameters...> bound(arguments...);
  const dim3 grid = config->gridDim;
  const int threads = static_cast<int>(config->blockDim.x);
  const size_t shared_bytes = config->dynamicSmemBytes;
  const bool together = std::any_of(config->attrs, config->attrs + config->numAttrs, [](const cudaLaunchAttribute &of) {
    return of.id == cudaLaunchAttributeCooperative;
  });
  on_host::run(config->stream,
               [=] { simt::launch(grid, threads, shared_bytes, together, [&] { std::apply(kernel, bound); }); });
  return cudaSuccess;
}

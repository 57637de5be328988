// How kernels are put into a stream.

#pragma once

#include <cuda_runtime.h>

#include "samebits.h"

namespace samebits {

template <typename... Parameters, typename... Arguments>
int launch_kernel(const SamebitsLaunch &launch, void (*kernel)(Parameters...), dim3 grid, int threads,
                  Arguments... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = launch.stream;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// One block on every multiprocessor, all of them running before any can wait for another: a cooperative launch.
template <typename... Parameters, typename... Arguments>
int launch_resident_kernel(const SamebitsLaunch &launch, void (*kernel)(Parameters...), int threads, int shared_bytes,
                           Arguments... arguments) {
  cudaLaunchAttribute together = {};
  together.id = cudaLaunchAttributeCooperative;
  together.val.cooperative = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(launch.multiprocessor_count));
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = launch.stream;
  config.attrs = &together;
  config.numAttrs = 1;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// Loads a kernel onto the current device; an error when the binary holds no code for it.
template <typename... Parameters>
int load_kernel(void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, kernel);
}

// Lets a kernel's blocks have that much dynamic shared memory.
template <typename... Parameters>
int allow_shared_memory(void (*kernel)(Parameters...), int shared_bytes) {
  return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes);
}

}  // namespace samebits

// How kernels are put into a stream, and how one waits on the device for the one before it.

#pragma once

#include <cuda_runtime.h>

#include "samebits.h"

namespace samebits {

// Lets the next kernel of the stream start its blocks as this one's finish. It must itself wait for this one.
__device__ __forceinline__ void allow_next_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// Returns once every write of the kernels before this one is visible. What is read before must be written by no kernel.
__device__ __forceinline__ void wait_for_previous_kernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

template <typename... Parameters, typename... Arguments>
int launch_kernel(const SamebitsLaunch &launch, void (*kernel)(Parameters...), dim3 grid, int threads,
                  Arguments... arguments) {
  cudaLaunchAttribute overlap = {};
  overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
  overlap.val.programmaticStreamSerializationAllowed = 1;
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.stream = launch.stream;
  config.attrs = &overlap;
  config.numAttrs = launch.overlaps_previous ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

// Loads a kernel onto the current device; an error when the binary holds no code for it.
template <typename... Parameters>
int load_kernel(void (*kernel)(Parameters...)) {
  cudaFuncAttributes attributes;
  return cudaFuncGetAttributes(&attributes, kernel);
}

}  // namespace samebits

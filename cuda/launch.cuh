// How kernels are put into a stream.

#pragma once

#include <cuda_runtime.h>

#include "samebits.h"

namespace samebits {

// Attributes of a launch, as many as hold.
struct LaunchAttributes {
  cudaLaunchAttribute of[2] = {};
  unsigned count = 0;

  // All blocks run before any can wait for another.
  void add_cooperative() {
    of[count].id = cudaLaunchAttributeCooperative;
    of[count++].val.cooperative = 1;
  }
  // The kernel may begin before the one before it in the stream has ended, and calls begin_beside_previous().
  void add_overlap(const SamebitsLaunch &launch) {
    if (!launch.overlaps) return;
    of[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    of[count++].val.programmaticStreamSerializationAllowed = 1;
  }
};

template <typename... Parameters, typename... Arguments>
int launch_kernel_with(LaunchAttributes &attributes, const SamebitsLaunch &launch, void (*kernel)(Parameters...), dim3 grid,
                       int threads, int shared_bytes, Arguments... arguments) {
  cudaLaunchConfig_t config = {};
  config.gridDim = grid;
  config.blockDim = dim3(static_cast<unsigned>(threads));
  config.dynamicSmemBytes = static_cast<size_t>(shared_bytes);
  config.stream = launch.stream;
  config.attrs = attributes.of;
  config.numAttrs = attributes.count;
  return cudaLaunchKernelEx(&config, kernel, arguments...);
}

template <typename... Parameters, typename... Arguments>
int launch_kernel(const SamebitsLaunch &launch, void (*kernel)(Parameters...), dim3 grid, int threads,
                  Arguments... arguments) {
  LaunchAttributes attributes;
  return launch_kernel_with(attributes, launch, kernel, grid, threads, 0, arguments...);
}

// As above, for a kernel that calls begin_beside_previous().
template <typename... Parameters, typename... Arguments>
int launch_overlapping_kernel(const SamebitsLaunch &launch, void (*kernel)(Parameters...), dim3 grid, int threads,
                              Arguments... arguments) {
  LaunchAttributes attributes;
  attributes.add_overlap(launch);
  return launch_kernel_with(attributes, launch, kernel, grid, threads, 0, arguments...);
}

// One block on every multiprocessor, all of them running before any can wait for another: a cooperative launch.
template <typename... Parameters, typename... Arguments>
int launch_resident_kernel(const SamebitsLaunch &launch, void (*kernel)(Parameters...), int threads, int shared_bytes,
                           Arguments... arguments) {
  LaunchAttributes attributes;
  attributes.add_cooperative();
  attributes.add_overlap(launch);
  const dim3 grid(static_cast<unsigned>(launch.multiprocessor_count));
  return launch_kernel_with(attributes, launch, kernel, grid, threads, shared_bytes, arguments...);
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

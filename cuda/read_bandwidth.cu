// read_bandwidth: the roof of the benchmark, a kernel that does nothing but read.
//
// Math:     or of all words; stored only when it is not 0.
// Layout:   data u32[size_bytes / 4], zeros; sink u32[1].
// Threads:  grid-stride, 16 bytes a lane, four loads in flight; as many blocks as the device holds at once.
// Traffic:  reads size_bytes; writes nothing, because data is zeros, which the compiler cannot know.
// Numerics: none.
// Limits:   size_bytes a multiple of 16; data 16-byte aligned.

#include "launch.cuh"

namespace samebits {
namespace {

constexpr int THREADS = 512;
constexpr int BLOCKS_PER_MULTIPROCESSOR = 4;
constexpr int LOADS_IN_FLIGHT = 4;

__global__ void __launch_bounds__(THREADS, BLOCKS_PER_MULTIPROCESSOR)
    read_bandwidth(const uint4 *__restrict__ data, size_t vectors, uint32_t *__restrict__ sink) {
  const size_t stride = static_cast<size_t>(gridDim.x) * THREADS;
  uint32_t bits = 0;
  size_t v = static_cast<size_t>(blockIdx.x) * THREADS + threadIdx.x;
  for (; v + (LOADS_IN_FLIGHT - 1) * stride < vectors; v += LOADS_IN_FLIGHT * stride) {
    uint4 words[LOADS_IN_FLIGHT];
#pragma unroll
    for (int i = 0; i < LOADS_IN_FLIGHT; i++) words[i] = __ldcs(data + v + i * stride);
#pragma unroll
    for (int i = 0; i < LOADS_IN_FLIGHT; i++) bits |= words[i].x | words[i].y | words[i].z | words[i].w;
  }
  for (; v < vectors; v += stride) {
    const uint4 word = __ldcs(data + v);
    bits |= word.x | word.y | word.z | word.w;
  }
  if (bits != 0) *sink = bits;
}

}  // namespace
}  // namespace samebits

int samebits_read_bandwidth(const SamebitsLaunch *launch, const void *data, uint64_t size_bytes, uint32_t *sink) {
  using namespace samebits;
  if (size_bytes == 0 || size_bytes % sizeof(uint4) != 0) return cudaErrorInvalidValue;
  const dim3 grid(static_cast<unsigned>(launch->multiprocessor_count * BLOCKS_PER_MULTIPROCESSOR));
  return launch_kernel(*launch, read_bandwidth, grid, THREADS, static_cast<const uint4 *>(data),
                       static_cast<size_t>(size_bytes / sizeof(uint4)), sink);
}

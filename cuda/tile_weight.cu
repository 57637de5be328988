// tile_weight: puts a weight that arrives as it lies in a file into the tiles of tiles.cuh, once, at upload.
//
// Math:     none; bytes change places.
// Layout:   qdata u8[N, K/2] as vectors of 16 bytes, a block of 32 k each; scale_zero u32[N, nGroups].
// Threads:  one vector, or word, a thread.
// Traffic:  reads and writes every byte once.
// Numerics: none.
// Limits:   16-byte aligned operands.

#include "launch.cuh"
#include "tiles.cuh"

namespace samebits {
namespace {

constexpr int THREADS = 256;

__global__ void tile_codes(const uint4 *vectors, uint64_t first, uint64_t count, uint4 *codes, int blocks) {
  const uint64_t i = static_cast<uint64_t>(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= count) return;
  const uint64_t n = (first + i) / blocks;
  const int block = static_cast<int>((first + i) % blocks), row = static_cast<int>(n % TILE_ROWS);
  const uint64_t pair = n / TILE_ROWS * chunks_of(blocks * BLOCK_SIZE) + block / BLOCKS_PER_CHUNK;
  codes[pair * (CHUNK_CODE_BYTES / VECTOR_BYTES) + row * BLOCKS_PER_CHUNK + block % BLOCKS_PER_CHUNK] = vectors[i];
}

__global__ void tile_scales(const uint32_t *words, uint64_t first, uint64_t count, char *scales,
                            const SamebitsScaleLayout layout, int groups) {
  const uint64_t i = static_cast<uint64_t>(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= count) return;
  const uint64_t n = (first + i) / groups;
  const int group = static_cast<int>((first + i) % groups), row = static_cast<int>(n % TILE_ROWS);
  const int chunk = group / layout.groups_per_chunk << layout.log2_group_chunks;
  char *const at = scales + n / TILE_ROWS * layout.tile_bytes +
                   scale_offset(layout, chunk, row % ROWS_APART, group % layout.groups_per_chunk);
  reinterpret_cast<uint32_t *>(at)[row / ROWS_APART] = words[i];
}

dim3 grid_of(uint64_t count) { return dim3(static_cast<unsigned>((count + THREADS - 1) / THREADS)); }

}  // namespace
}  // namespace samebits

uint64_t samebits_tiled_code_bytes(const SamebitsShape *shape) {
  using namespace samebits;
  return static_cast<uint64_t>(tiles_of(shape->n)) * static_cast<uint64_t>(chunks_of(shape->k)) * CHUNK_CODE_BYTES;
}

uint64_t samebits_tiled_scale_bytes(const SamebitsShape *shape) {
  using namespace samebits;
  return static_cast<uint64_t>(tiles_of(shape->n)) * static_cast<uint64_t>(scale_layout_of(*shape).tile_bytes);
}

int samebits_load_tile_weight() {
  const int error = samebits::load_kernel(samebits::tile_codes);
  return error ? error : samebits::load_kernel(samebits::tile_scales);
}

int samebits_tile_codes(const SamebitsLaunch *launch, const void *vectors, uint64_t first, uint64_t count,
                        const SamebitsDeviceWeight *weight) {
  using namespace samebits;
  return launch_kernel(*launch, tile_codes, grid_of(count), THREADS, static_cast<const uint4 *>(vectors), first, count,
                       static_cast<uint4 *>(weight->codes), weight->shape.k / BLOCK_SIZE);
}

int samebits_tile_scales(const SamebitsLaunch *launch, const uint32_t *words, uint64_t first, uint64_t count,
                         const SamebitsDeviceWeight *weight) {
  using namespace samebits;
  return launch_kernel(*launch, tile_scales, grid_of(count), THREADS, words, first, count, static_cast<char *>(weight->scale_zero),
                       scale_layout_of(weight->shape), static_cast<int>(weight->shape.n_groups));
}

// tile_weight: puts a weight that arrives as it lies in a file into the tiles of tiles.cuh, once, at upload.
//
// Math:     none; bytes change places.
// Layout:   qdata u8[N, K/2] as vectors of 16 bytes, a block of 32 k each; words of scales u32[N, nGroups], or of a nested form
//           codes u16[N, nGroups] and steps u32[N, K/256].
// Threads:  one vector, or group, a thread.
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

// The first group of a step takes its step along; the first of all groups here is such a one.
__global__ void tile_nested_scales(const uint16_t *codes, const uint32_t *steps, uint64_t first, uint64_t count, char *scales,
                                   const SamebitsScaleLayout layout, int groups, int groups_of_step) {
  const uint64_t i = static_cast<uint64_t>(blockIdx.x) * THREADS + threadIdx.x;
  if (i >= count) return;
  const uint64_t n = (first + i) / groups;
  const int group = static_cast<int>((first + i) % groups), row = static_cast<int>(n % TILE_ROWS);
  const int g = row % ROWS_APART, j = row / ROWS_APART, own = group % layout.groups_per_chunk;
  const int runs = layout.groups_per_chunk > BLOCKS_PER_CHUNK ? 2 : 1;
  const bool is_odd = layout.log2_group_chunks == 0 && group / layout.groups_per_chunk % 2 == 1;
  char *const pair = scales + n / TILE_ROWS * layout.tile_bytes + group / groups_of_step * nested_pair_bytes(layout);
  char *const own_codes = pair + STEPS_BYTES + (is_odd ? nested_odd_bytes(layout) : 0) + nested_code_offset(own, g, runs);
  reinterpret_cast<uint16_t *>(own_codes)[j] = codes[i];
  if (group % groups_of_step == 0) reinterpret_cast<uint32_t *>(pair)[g * ROWS_PER_LANE + j] = steps[i / groups_of_step];
}

dim3 grid_of(uint64_t count) { return dim3(static_cast<unsigned>((count + THREADS - 1) / THREADS)); }

}  // namespace
}  // namespace samebits

uint64_t samebits_tiled_code_bytes(const SamebitsShape *shape) {
  using namespace samebits;
  return static_cast<uint64_t>(tiles_of(shape->n)) * static_cast<uint64_t>(chunks_of(shape->k)) * CHUNK_CODE_BYTES;
}

uint64_t samebits_tiled_scale_bytes(const SamebitsShape *shape, SamebitsFormKind form) {
  using namespace samebits;
  return static_cast<uint64_t>(tiles_of(shape->n)) * static_cast<uint64_t>(scale_layout_of(*shape, form).tile_bytes);
}

int samebits_load_tile_weight() {
  using namespace samebits;
  int error = load_kernel(tile_codes);
  if (error == cudaSuccess) error = load_kernel(tile_scales);
  return error ? error : load_kernel(tile_nested_scales);
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
  return launch_kernel(*launch, tile_scales, grid_of(count), THREADS, words, first, count, static_cast<char *>(weight->scales),
                       scale_layout_of(weight->shape, weight->form.kind), static_cast<int>(weight->shape.n_groups));
}

int samebits_tile_nested_scales(const SamebitsLaunch *launch, const uint16_t *codes, const uint32_t *steps, uint64_t first,
                                uint64_t count, const SamebitsDeviceWeight *weight) {
  using namespace samebits;
  return launch_kernel(*launch, tile_nested_scales, grid_of(count), THREADS, codes, steps, first, count,
                       static_cast<char *>(weight->scales), scale_layout_of(weight->shape, weight->form.kind),
                       static_cast<int>(weight->shape.n_groups), groups_per_step(weight->shape.group_size));
}

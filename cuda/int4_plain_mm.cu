// int4_plain_mm: a chain of linears, y = x · wᵀ for 4-bit weights and int8 activations, in one launch and at the speed of
// reading the weights once.
//
// Math:     T = sum over runs of C, C = RNE(RN32(RN32(s * 2^-E_w * d_b) * RN32(dp - z * asum)) * 2^32),
//           dp = sum over the run of q * a; y = T * 2^(E_w + E_x - 32).
// Layout:   weights in tiles of 32 rows (tiles.cuh), activations as activations.cuh lays them out, y f32[M, N] or bf16[M, N].
// Threads:  one block a multiprocessor for all steps. The (tile, chunk) pairs of a step, tile after tile, are cut into equal
//           stretches, one a block, and dealt out to its warps in turn. A warp has a ring of `stages` chunks in shared memory
//           and asks for the chunk that many ahead, across tiles and steps: weights depend on nothing, so they stream while
//           a step waits for its activations.
// Products: on tensor cores, 16 rows times 4 blocks of k, for two rows of x at a time. A lane holds one block of a row. Columns
//           2t and 2t + 1 take the two rows of x for the k of block t, and nothing else, so that the product leaves in each
//           lane's registers the dot products of that lane's own block.
// Sums:     lanes, then warps, then blocks that share a tile: the block with the tile's first chunk adds what the others
//           leave in `tails`. It comes to that tile last and they come to it first, so it seldom waits.
// Steps:    the warp that finishes 32 outputs quantizes them at once if a later step reads them; readers see of every word
//           by itself whether it has been written. Nobody waits for a whole grid.
// Traffic:  reads N * K / 2 + N * nGroups * 4 bytes once for M rows of x, and x once a multiprocessor.
// Numerics: NUMERICS.md sections 3 and 4 (numerics.cuh). Only integers are summed, so no order can be seen.
// Limits:   K a multiple of 32, at most 65504; group size 16 or a power of two >= 32; every block resident at once.

#include "launch.cuh"
#include "tile_product.cuh"
#include "weight_stream.cuh"

namespace samebits {
namespace {

constexpr int VECTORS_IN_FLIGHT = 4;

__device__ __forceinline__ bool is_pending(const uint4 &v) {
  return v.x == PENDING || v.y == PENDING || v.z == PENDING || v.w == PENDING;
}

// Waits until all M rows of a step's x are written, copies them to `to` if there is one, and finds the largest scale word of
// each as far as this warp has seen it.
template <int M>
__device__ __forceinline__ void receive(const void *x, int chunks, int row_bytes, char *to, int32_t (&largest)[M]) {
  const int lane = threadIdx.x % WARP, threads = blockDim.x;
  const int row_vectors = row_bytes / VECTOR_BYTES, vectors = M * row_vectors;
  const int code_vectors = chunks * BLOCKS_PER_CHUNK * CODE_VECTORS;
#pragma unroll
  for (int m = 0; m < M; m++) largest[m] = ZERO_BLOCK;
  for (int first = threadIdx.x - lane; first < vectors; first += threads * VECTORS_IN_FLIGHT) {
    uint4 v[VECTORS_IN_FLIGHT];
#pragma unroll
    for (int i = 0; i < VECTORS_IN_FLIGHT; i++) v[i] = make_uint4(PENDING, 0, 0, 0);
    // Only what is not there yet is looked at again: every look of every thread takes from the weights' way through L2.
    for (bool waits = true; waits;) {
#pragma unroll
      for (int i = 0; i < VECTORS_IN_FLIGHT; i++) {
        const int at = first + i * threads + lane;
        if (at < vectors && is_pending(v[i])) v[i] = load_shared_by_all(static_cast<const uint4 *>(x) + at);
      }
      waits = false;
#pragma unroll
      for (int i = 0; i < VECTORS_IN_FLIGHT; i++) {
        waits = waits || (first + i * threads + lane < vectors && is_pending(v[i]));
      }
      if (waits) look_again();
    }
#pragma unroll
    for (int i = 0; i < VECTORS_IN_FLIGHT; i++) {
      const int at = first + i * threads + lane;
      if (at >= vectors) continue;
      if (to != nullptr) reinterpret_cast<uint4 *>(to)[at] = v[i];
      // Terms are pairs of a scale word and a sum.
      const int32_t word = max(static_cast<int32_t>(v[i].x), static_cast<int32_t>(v[i].z));
#pragma unroll
      for (int m = 0; m < M; m++) {
        const int in_row = at - m * row_vectors;
        if (in_row >= code_vectors && in_row < row_vectors) largest[m] = max(largest[m], word);
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; m++) largest[m] = max_over_warp(largest[m]);
}

// y of 32 rows from their sums, one a lane; and quantized, if a later step reads it.
template <int RUNS>
__device__ __forceinline__ void finish(const SamebitsLinear &linear, int tile, int m, int64_t sum, int row_exponent) {
  const int lane = threadIdx.x % WARP, n = tile * TILE_ROWS + lane;
  const uint32_t bits = result_bits(sum, linear.weight_exponent, row_exponent);
  const size_t at = static_cast<size_t>(m) * linear.n + n;
  if (!linear.output_bf16) {
    if (n < linear.n) static_cast<uint32_t *>(linear.y)[at] = bits;
    return;
  }
  const uint16_t rounded = bf16_from_result(bits);
  if (linear.quantized != nullptr) {
    const int chunks = chunks_of(linear.n), blocks = linear.n / BLOCK_SIZE;
    char *const row = static_cast<char *>(linear.quantized) + static_cast<size_t>(m) * row_bytes_of(chunks, RUNS);
    write_block<RUNS>(row, chunks, tile, rounded);
    if (tile == blocks - 1) {
      for (int padding = blocks; padding < chunks * BLOCKS_PER_CHUNK; padding++) write_block<RUNS>(row, chunks, padding, 0);
    }
  }
  if (n < linear.n) static_cast<uint16_t *>(linear.y)[at] = rounded;
}

template <int M, int RUNS, int WARPS_OF_BLOCK, bool X_IS_SHARED>
__global__ void __launch_bounds__(WARPS_OF_BLOCK *WARP, 1) int4_plain_mm(const Walk walk) {
  constexpr int SLOTS = slots_of(M), warps = WARPS_OF_BLOCK;
  const int thread = thread_of_block(), warp = thread / WARP, lane = thread % WARP;
  const int g = lane / BLOCKS_PER_CHUNK, t = lane % BLOCKS_PER_CHUNK;
  char *const rings = shared_memory();
  const int ring_bytes = walk.stages * stage_bytes_of(RUNS);
  int64_t *const partial = reinterpret_cast<int64_t *>(rings + warps * ring_bytes);
  Shared &shared = *reinterpret_cast<Shared *>(rings + warps * ring_bytes + partial_bytes_of(M, warps));
  char *const x_copies = reinterpret_cast<char *>(&shared + 1);

  if (threadIdx.x == 0) {
    for (int i = 0; i < SLOTS; i++) {
      shared.summed[i].init(warps);
      shared.freed[i].init(M);
    }
    shared.x_ready.init(warps);
    for (Barrier &done : shared.step_done) done.init(warps);
  }
  for (int i = threadIdx.x; i < min(walk.count, KNOWN_STEPS) * STEP_VECTORS; i += blockDim.x) {
    reinterpret_cast<uint4 *>(shared.steps)[i] = reinterpret_cast<const uint4 *>(walk.steps)[i];
  }
  __syncthreads();

  Stream<RUNS, WARPS_OF_BLOCK> stream(
      shared.steps, rings + warp * ring_bytes + lane * VECTOR_BYTES, walk.stages, warp, lane);
  int tiles_done = 0;
  for (int number = 0; number < walk.count; number++) {
    const SamebitsStep &step = shared.steps[number % KNOWN_STEPS];
    const int chunks = step.chunks, row_bytes = row_bytes_of(chunks, RUNS);
    const int begin = first_pair(step, blockIdx.x), end = first_pair(step, blockIdx.x + 1);
    const int last_known = min(walk.count, max(KNOWN_STEPS, number + KNOWN_STEPS - 2)) - 1;
    stream.fill(last_known);

    // A copy of x is free when every warp is done with the step that read it; so is a description. One that is read here is
    // known to all once x_ready is over.
    const int before = number - (walk.x_copies == 2 ? 2 : 1);
    if (before >= 0) shared.step_done[before % 2].wait(before / 2);
    const int coming = number - 2 + KNOWN_STEPS;
    if (number >= 2 && coming < walk.count && warp == number % warps && lane < STEP_VECTORS) {
      reinterpret_cast<uint4 *>(&shared.steps[coming % KNOWN_STEPS])[lane] =
          reinterpret_cast<const uint4 *>(&walk.steps[coming])[lane];
    }

    char *const copy = x_copies + (walk.x_copies == 2 && number % 2 == 1 ? walk.x_bytes[0] : 0);
    int32_t largest[M];
    receive<M>(step.x, chunks, row_bytes, X_IS_SHARED ? copy : nullptr, largest);
    if (lane < M) {
#pragma unroll
      for (int m = 0; m < M; m++) {
        if (lane == m) shared.largest_word[number % 2][warp][m] = largest[m];
      }
    }
    __syncwarp();
    if (lane == 0) shared.x_ready.arrive();
    shared.x_ready.wait(number);
    int row_exponent[M], exponent[M];
#pragma unroll
    for (int m = 0; m < M; m++) {
      row_exponent[m] = row_exponent_of(
          max_over_warp(lane < warps ? shared.largest_word[number % 2][lane][m] : ZERO_BLOCK));
      exponent[m] = row_exponent[m] == NAN_ROW ? 0 : row_exponent[m];
    }

    const char *const x = X_IS_SHARED ? copy : static_cast<const char *>(step.x);
    const char *const x_codes = x + t * BLOCK_SIZE;
    const uint2 *const x_terms = reinterpret_cast<const uint2 *>(x + chunks * CHUNK_K) + t * RUNS;
    int pair = begin + warp;
    for (int tile = begin / chunks; tile * chunks < end; tile++, tiles_done++) {
      const SamebitsLinear &linear = linear_of(step, tile);
      const float weight_scale = power_of_two(-linear.weight_exponent);
      const int tile_begin = tile * chunks, tile_end = tile_begin + chunks;
      int64_t total[M][ROWS_PER_LANE] = {};
      for (; pair < min(end, tile_end); pair += warps) {
        const int chunk = pair - tile_begin;
        const Chunk<RUNS> taken = stream.take();
        stream.ask(last_known);
        multiply<M, RUNS>(total, taken, x_codes + chunk * CHUNK_K, x_terms + chunk * BLOCKS_PER_CHUNK * RUNS, row_bytes,
                          exponent, weight_scale, g, t);
      }

      const int slot = tiles_done % SLOTS, round = tiles_done / SLOTS;
      int64_t *const sums = partial + slot * warps * M * TILE_ROWS;
      if (round > 0) shared.freed[slot].wait(round - 1);
#pragma unroll
      for (int m = 0; m < M; m++) sums[(warp * M + m) * TILE_ROWS + t * 8 + g] = sum_over_blocks(total[m]);
      __syncwarp();
      if (lane == 0) shared.summed[slot].arrive();
      // Each of M warps, others every time, finishes the tile for one row of x.
      const int m = (warp + warps - tiles_done * M % warps) % warps;
      if (m >= M) continue;

      // What the next block left of the tile is on its way while the other warps arrive.
      const bool is_owner = begin <= tile_begin, is_shared = is_owner && end < tile_end;
      uint64_t *const tails =
          walk.tails + (static_cast<size_t>(number) * gridDim.x * M + m) * TILE_ROWS + lane;
      const auto tail_of = [=](unsigned block) { return tails + static_cast<size_t>(block) * M * TILE_ROWS; };
      const uint64_t next_tail = is_shared ? load_shared_by_all(tail_of(blockIdx.x + 1)) : TAIL_PENDING;
      shared.summed[slot].wait(round);
      int64_t sum = 0;
#pragma unroll
      for (int w = 0; w < warps; w++) sum += sums[(w * M + m) * TILE_ROWS + lane];
      __syncwarp();
      if (lane == 0) shared.freed[slot].arrive();
      if (!is_owner) {
        store_shared_by_all(tail_of(blockIdx.x), static_cast<uint64_t>(sum));
        continue;
      }
      for (unsigned other = blockIdx.x + 1; is_shared && other < gridDim.x && first_pair(step, other) < tile_end; other++) {
        if (first_pair(step, other) == first_pair(step, other + 1)) continue;
        uint64_t part = other == blockIdx.x + 1 ? next_tail : TAIL_PENDING;
        while (part == TAIL_PENDING) {
          part = load_shared_by_all(tail_of(other));
          if (part == TAIL_PENDING) look_again();
        }
        sum += static_cast<int64_t>(part);
      }
      __syncwarp();
      int own_exponent = row_exponent[0];
#pragma unroll
      for (int i = 1; i < M; i++) own_exponent = m == i ? row_exponent[i] : own_exponent;
      finish<RUNS>(linear, tile - linear.first_tile, m, sum, own_exponent);
    }
    __syncwarp();
    if (lane == 0) shared.step_done[number % 2].arrive();
  }
}

using Kernel = void (*)(Walk);

template <int RUNS>
Kernel kernel_for(int m, int warps, bool x_is_shared) {
  if (!x_is_shared) return int4_plain_mm<1, RUNS, FEW_WARPS, false>;
  if (warps == FEW_WARPS) return int4_plain_mm<1, RUNS, FEW_WARPS, true>;
  switch (m) {
    case 1: return int4_plain_mm<1, RUNS, warps_of(1), true>;
    case 2: return int4_plain_mm<2, RUNS, warps_of(2), true>;
    case 3: return int4_plain_mm<3, RUNS, warps_of(3), true>;
    default: return int4_plain_mm<MAX_ROWS, RUNS, warps_of(MAX_ROWS), true>;
  }
}

Kernel kernel_for(int m, int runs, int warps, bool x_is_shared) {
  return runs == 1 ? kernel_for<1>(m, warps, x_is_shared) : kernel_for<2>(m, warps, x_is_shared);
}

}  // namespace
}  // namespace samebits

void samebits_describe_linear(const SamebitsDeviceWeight *weight, SamebitsStep *step, SamebitsLinear *linear) {
  using namespace samebits;
  const SamebitsShape &of = weight->shape;
  linear->codes = weight->codes;
  linear->scale_zero = weight->scale_zero;
  linear->n = of.n;
  linear->weight_exponent = weight->weight_exponent;
  linear->scale_layout = scale_layout_of(of);
  linear->first_tile = step->tiles;
  step->tiles += tiles_of(of.n);
  linear->tile_end = step->tiles;
  step->chunks = chunks_of(of.k);
}

uint64_t samebits_tail_bytes(const SamebitsLaunch *launch, int32_t steps, int32_t m) {
  return static_cast<uint64_t>(steps) * static_cast<uint64_t>(launch->multiprocessor_count) * static_cast<uint64_t>(m) *
         samebits::TILE_ROWS * sizeof(uint64_t);
}

int32_t samebits_rows_per_pass(const SamebitsLaunch *launch, int32_t k, int32_t group_size) {
  using namespace samebits;
  const int runs = runs_of(group_size);
  for (int m = MAX_ROWS; m > 1; m--) {
    if (divide(launch->shared_bytes, m, runs, {x_bytes_of(m, k, runs), 0}).stages > 0) return m;
  }
  return 1;
}

int samebits_load_int4_plain_mm(int32_t shared_bytes) {
  using namespace samebits;
  const auto load = [=](Kernel kernel) {
    const int error = load_kernel(kernel);
    return error ? error : allow_shared_memory(kernel, shared_bytes);
  };
  for (int runs = 1; runs <= 2; runs++) {
    for (int m = 1; m <= MAX_ROWS; m++) {
      if (const int error = load(kernel_for(m, runs, warps_of(m), true))) return error;
    }
    for (const bool x_is_shared : {false, true}) {
      if (const int error = load(kernel_for(1, runs, FEW_WARPS, x_is_shared))) return error;
    }
  }
  return cudaSuccess;
}

int samebits_int4_plain_mm(const SamebitsLaunch *launch, const SamebitsWalk *of) {
  using namespace samebits;
  const int runs = runs_of(of->group_size);
  const int x_bytes[2] = {x_bytes_of(of->m, of->largest_k[0], runs), x_bytes_of(of->m, of->largest_k[1], runs)};
  if (of->count < 1 || of->m < 1 || of->m > MAX_ROWS) return cudaErrorInvalidValue;
  const Division division = divide(launch->shared_bytes, of->m, runs, x_bytes);
  if (division.stages == 0) return cudaErrorInvalidValue;
  const Walk walk = {of->steps,
                     static_cast<uint64_t *>(of->tails),
                     of->count,
                     division.stages,
                     division.x_copies,
                     {division.x_bytes[0], division.x_bytes[1]}};
  const Kernel kernel = kernel_for(of->m, runs, division.warps, division.x_copies > 0);
  return launch_resident_kernel(*launch, kernel, division.warps * WARP, division.shared_bytes, walk);
}

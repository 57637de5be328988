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

#include "activations.cuh"
#include "launch.cuh"
#include "numerics.cuh"
#include "samebits.h"
#include "tiles.cuh"

namespace samebits {
namespace {

constexpr int MAX_ROWS = SAMEBITS_ROWS_PER_PASS;
// The more, the less a warp's latency matters; with more rows of x each needs more registers.
__host__ __device__ constexpr int warps_of(int m) { return m == 1 ? 16 : 12; }
// Where shared memory is small.
constexpr int FEW_WARPS = 6;
// More chunks ahead give nothing; fewer would wait for every load.
constexpr int MAX_STAGES = 5, MIN_STAGES = 2;
// Below this, more chunks ahead are better than a second copy of x.
constexpr int ENOUGH_STAGES = 3;
// Descriptions of steps that are in shared memory at a time.
constexpr int KNOWN_STEPS = 8;
constexpr int VECTORS_IN_FLIGHT = 4;
constexpr uint32_t LOW_NIBBLES = 0x0f0f0f0fu;
constexpr uint64_t TAIL_PENDING = 0x8080808080808080u;  // no T is so large
constexpr int STEP_VECTORS = sizeof(SamebitsStep) / VECTOR_BYTES;
static_assert(sizeof(SamebitsStep) % VECTOR_BYTES == 0, "steps are copied as vectors");

struct Walk {
  const SamebitsStep *steps;
  uint64_t *tails;  // [step][block of threads][M][TILE_ROWS]
  int count;
  int stages;
  int x_copies;    // in shared memory; 0 when x is read where it is
  int x_bytes[2];  // of each copy
};

// Tiles whose sums may be on their way from the warps at a time.
__host__ __device__ constexpr int slots_of(int m) { return m == 1 ? 4 : 2; }

// What a block shares besides, in this order: the rings, first because copies into lines that they do not fill from the
// beginning take twice as long; partial sums [slot][warp][M][TILE_ROWS]; this; the copies of x.
struct alignas(VECTOR_BYTES) Shared {
  SamebitsStep steps[KNOWN_STEPS];
  Barrier summed[slots_of(1)], freed[slots_of(1)];
  Barrier x_ready, step_done[2];  // of steps with even and with odd numbers
  int32_t largest_word[2][warps_of(1)][MAX_ROWS];
};

__host__ __device__ constexpr int partial_bytes_of(int m, int warps) { return slots_of(m) * warps * m * TILE_ROWS * 8; }
__host__ __device__ constexpr int stage_bytes_of(int runs) { return CHUNK_CODE_BYTES + WARP * VECTOR_BYTES * runs; }

// The first (tile, chunk) pair of a block in a step; its last is before the first of the next block.
__device__ __forceinline__ int first_pair(const SamebitsStep &step, unsigned block) {
  return static_cast<int>(static_cast<int64_t>(step.tiles) * step.chunks * block / gridDim.x);
}

__device__ __forceinline__ const SamebitsLinear &linear_of(const SamebitsStep &step, int tile) {
  int i = 0;
  while (tile >= step.linears[i].tile_end) i++;
  return step.linears[i];
}

// What a lane holds of a chunk: one block of four rows, and the scales and zero points of its runs.
template <int RUNS>
struct Chunk {
  uint4 codes[ROWS_PER_LANE];
  uint4 scales[RUNS];
};

// A warp's way through all weights, up to `stages` chunks ahead of its arithmetic.
template <int RUNS, int WARPS_OF_BLOCK>
class Stream {
 public:
  // `ring` is where this lane's vectors of the ring begin.
  __device__ __forceinline__ Stream(const SamebitsStep *known, char *ring, int stages, int warp, int lane)
      : known_(known), ring_(ring), stages_(stages), warp_(warp), lane_(lane) {}

  // Asks for the next chunk, which must have a place; whether the steps up to `last_step` have one.
  __device__ __forceinline__ bool ask(int last_step) {
    if (pair_ >= end_) next_step(last_step);
    if (pair_ >= end_) return false;
    copy_chunk();
    return true;
  }

  // Asks until the ring is full.
  __device__ __forceinline__ void fill(int last_step) {
    while (ahead_ < stages_ && ask(last_step)) {
    }
  }

  // The oldest chunk in the ring, once it is there; its place is free then.
  __device__ __forceinline__ Chunk<RUNS> take() {
    if (ahead_ > 4) {
      await_copies<4>();
    } else if (ahead_ > 3) {
      await_copies<3>();
    } else if (ahead_ > 2) {
      await_copies<2>();
    } else if (ahead_ > 1) {
      await_copies<1>();
    } else {
      await_copies<0>();
    }
    const char *const from = ring_ + oldest_ * stage_bytes_of(RUNS);
    Chunk<RUNS> chunk;
#pragma unroll
    for (int j = 0; j < ROWS_PER_LANE; j++) {
      chunk.codes[j] = *reinterpret_cast<const uint4 *>(from + j * WARP * VECTOR_BYTES);
    }
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      chunk.scales[run] = *reinterpret_cast<const uint4 *>(from + CHUNK_CODE_BYTES + run * WARP * VECTOR_BYTES);
    }
    oldest_ = oldest_ + 1 == stages_ ? 0 : oldest_ + 1;
    ahead_--;
    return chunk;
  }

 private:
  __device__ __forceinline__ void next_step(int last_step) {
    while (pair_ >= end_ && step_ < last_step) {
      const SamebitsStep &next = known_[++step_ % KNOWN_STEPS];
      chunks_ = next.chunks;
      pair_ = first_pair(next, blockIdx.x) + warp_;
      end_ = first_pair(next, blockIdx.x + 1);
      if (pair_ >= end_) continue;
      tile_ = pair_ / chunks_;
      chunk_ = pair_ % chunks_;
      find_linear();
    }
  }

  __device__ __forceinline__ void find_linear() {
    const int g = lane_ / BLOCKS_PER_CHUNK, t = lane_ % BLOCKS_PER_CHUNK;
    const SamebitsLinear &linear = linear_of(known_[step_ % KNOWN_STEPS], tile_);
    const size_t own_tile = tile_ - linear.first_tile, pair = own_tile * chunks_ + chunk_;
    codes_ = static_cast<const char *>(linear.codes) + pair * CHUNK_CODE_BYTES + lane_ * VECTOR_BYTES;
    const int group = t * linear.scale_layout.groups_per_chunk / BLOCKS_PER_CHUNK;
    scales_ = static_cast<const char *>(linear.scale_zero) + own_tile * linear.scale_layout.tile_bytes +
              scale_offset(linear.scale_layout, 0, g, group);
    scale_tile_bytes_ = linear.scale_layout.tile_bytes;
    scale_step_bytes_ = scale_offset(linear.scale_layout, 0, ROWS_APART, 0);
    log2_group_chunks_ = linear.scale_layout.log2_group_chunks;
    last_tile_ = linear.tile_end - 1;
  }

  __device__ __forceinline__ void copy_chunk() {
    char *const to = ring_ + newest_ * stage_bytes_of(RUNS);
#pragma unroll
    for (int j = 0; j < ROWS_PER_LANE; j++) {
      copy_async(to + j * WARP * VECTOR_BYTES, codes_ + j * WARP * VECTOR_BYTES);
    }
    const char *const scales = scales_ + (chunk_ >> log2_group_chunks_) * scale_step_bytes_;
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      copy_async(to + CHUNK_CODE_BYTES + run * WARP * VECTOR_BYTES, scales + run * VECTOR_BYTES);
    }
    commit_copies();
    newest_ = newest_ + 1 == stages_ ? 0 : newest_ + 1;
    ahead_++;

    pair_ += WARPS_OF_BLOCK;
    chunk_ += WARPS_OF_BLOCK;
    codes_ += WARPS_OF_BLOCK * CHUNK_CODE_BYTES;
    while (chunk_ >= chunks_) {
      chunk_ -= chunks_;
      tile_++;
      scales_ += scale_tile_bytes_;
    }
    if (tile_ > last_tile_ && pair_ < end_) find_linear();
  }

  const SamebitsStep *const known_;
  char *const ring_;
  const int stages_, warp_, lane_;
  int newest_ = 0, oldest_ = 0, ahead_ = 0;
  int step_ = -1, pair_ = 0, end_ = 0, tile_ = 0, chunk_ = 0, chunks_ = 1;
  int last_tile_ = 0, scale_tile_bytes_ = 0, scale_step_bytes_ = 0, log2_group_chunks_ = 0;
  const char *codes_ = nullptr, *scales_ = nullptr;
};

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
    bool waits;
    do {
      waits = false;
#pragma unroll
      for (int i = 0; i < VECTORS_IN_FLIGHT; i++) {
        const int at = first + i * threads + lane;
        if (at < vectors) v[i] = load_shared_by_all(static_cast<const uint4 *>(x) + at);
      }
#pragma unroll
      for (int i = 0; i < VECTORS_IN_FLIGHT; i++) {
        waits = waits || (first + i * threads + lane < vectors && is_pending(v[i]));
      }
      if (waits) look_again();
    } while (waits);
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

// Adds to each of the lane's four rows what one chunk contributes, for M rows of x. `x` are the codes of block t of the first
// row, `terms` its terms.
template <int M, int RUNS>
__device__ __forceinline__ void multiply(int64_t (&total)[M][ROWS_PER_LANE], const Chunk<RUNS> &chunk, const char *x,
                                         const uint2 *terms, int row_bytes, const int (&exponent)[M], float weight_scale,
                                         int g, int t) {
  constexpr int PAIRS = (M + 1) / 2;
  // This lane passes on the k of block t to column g: something only in the two columns of that block.
  uint4 columns[PAIRS][CODE_VECTORS];
  const uint4 *const own = reinterpret_cast<const uint4 *>(x + (g % 2) * row_bytes);
#pragma unroll
  for (int pair = 0; pair < PAIRS; pair++) {
    columns[pair][0] = columns[pair][1] = make_uint4(0, 0, 0, 0);
    if (g / 2 == t && 2 * pair + g % 2 < M) {
      const uint4 *const row = reinterpret_cast<const uint4 *>(reinterpret_cast<const char *>(own) + 2 * pair * row_bytes);
      columns[pair][0] = row[0];
      columns[pair][1] = row[1];
    }
  }
  float block_scale[M][RUNS], asum[M][RUNS];
#pragma unroll
  for (int m = 0; m < M; m++) {
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      const uint2 term = reinterpret_cast<const uint2 *>(reinterpret_cast<const char *>(terms) + m * row_bytes)[run];
      block_scale[m][run] = block_scale_of(static_cast<int32_t>(term.x), exponent[m]);
      asum[m][run] = float_from_bits(term.y);
    }
  }
#pragma unroll
  for (int half = 0; half < 2; half++) {
    const uint4 &upper = chunk.codes[2 * half], &lower = chunk.codes[2 * half + 1];
    const uint32_t words[4][2] = {{upper.x, lower.x}, {upper.y, lower.y}, {upper.z, lower.z}, {upper.w, lower.w}};
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      int c[PAIRS][4] = {};
#pragma unroll
      for (int i = run * 4 / RUNS; i < (run + 1) * 4 / RUNS; i++) {
        const uint32_t a[4] = {words[i][0] & LOW_NIBBLES, words[i][1] & LOW_NIBBLES, words[i][0] >> 4 & LOW_NIBBLES,
                               words[i][1] >> 4 & LOW_NIBBLES};
#pragma unroll
        for (int pair = 0; pair < PAIRS; pair++) {
          const uint4 &of = columns[pair][i / 2];
          const uint32_t b[2] = {i % 2 == 0 ? of.x : of.z, i % 2 == 0 ? of.y : of.w};
          multiply_u8_s8(c[pair], a, b);
        }
      }
      const uint4 &of = chunk.scales[run];
      const uint32_t words_of_rows[2] = {half == 0 ? of.x : of.z, half == 0 ? of.y : of.w};
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const float relative_scale = product(scale_of(words_of_rows[r]), weight_scale);
        const float zero_point = zero_point_of(words_of_rows[r]);
#pragma unroll
        for (int m = 0; m < M; m++) {
          total[m][2 * half + r] += run_contribution(c[m / 2][2 * r + m % 2], asum[m][run], relative_scale, zero_point,
                                                     block_scale[m][run]);
        }
      }
    }
  }
}

// Sums over the four lanes of a row; lane (g, t) gets row 8 t + g of its tile.
__device__ __forceinline__ int64_t sum_over_blocks(const int64_t (&total)[ROWS_PER_LANE]) {
  const int lane = threadIdx.x % WARP;
  const bool first = (lane & 1) == 0, second = (lane & 2) == 0;
  int64_t low = first ? total[0] : total[1], high = first ? total[2] : total[3];
  low += __shfl_xor_sync(ALL_LANES, first ? total[1] : total[0], 1);
  high += __shfl_xor_sync(ALL_LANES, first ? total[3] : total[2], 1);
  return (second ? low : high) + __shfl_xor_sync(ALL_LANES, second ? high : low, 2);
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

// How a launch divides a block's shared memory. No stages when it does not suffice.
struct Division {
  int warps, stages, x_copies;
  int x_bytes[2];
  int shared_bytes;
};

Division divide(int shared_bytes, int m, int runs, int warps, int even_x_bytes, int odd_x_bytes) {
  Division division = {warps, 0, 0, {even_x_bytes, odd_x_bytes}, 0};
  if (even_x_bytes > 0) division.x_copies = odd_x_bytes > 0 ? 2 : 1;
  const int used = static_cast<int>(sizeof(Shared)) + partial_bytes_of(m, warps) + even_x_bytes + odd_x_bytes;
  const int ring_bytes = warps * stage_bytes_of(runs);
  const int stages = used > shared_bytes ? 0 : (shared_bytes - used) / ring_bytes;
  const int fewest = division.x_copies == 2 ? ENOUGH_STAGES : MIN_STAGES;
  division.stages = stages < fewest ? 0 : stages > MAX_STAGES ? MAX_STAGES : stages;
  division.shared_bytes = used + division.stages * ring_bytes;
  return division;
}

// The best that fits: two copies of x, one, fewer warps, none.
Division divide(int shared_bytes, int m, int runs, const int (&x_bytes)[2]) {
  const int larger = x_bytes[0] > x_bytes[1] ? x_bytes[0] : x_bytes[1];
  Division division = divide(shared_bytes, m, runs, warps_of(m), x_bytes[0], x_bytes[1]);
  if (division.stages == 0) division = divide(shared_bytes, m, runs, warps_of(m), larger, 0);
  if (division.stages == 0 && m == 1) division = divide(shared_bytes, 1, runs, FEW_WARPS, larger, 0);
  if (division.stages == 0 && m == 1) division = divide(shared_bytes, 1, runs, FEW_WARPS, 0, 0);
  return division;
}

int x_bytes_of(int m, int k, int runs) { return k == 0 ? 0 : m * row_bytes_of(chunks_of(k), runs); }
int runs_of(int group_size) { return group_size == 16 ? 2 : 1; }

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

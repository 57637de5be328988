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
// Products: on tensor cores, 16 rows times 4 blocks of k. A lane holds one block of a row. Column 2t of the activations
//           takes the even and column 2t + 1 the odd k of block t, and nothing else, so that the product leaves in each
//           lane's registers the dot product of that lane's own block.
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
constexpr int MAX_WARPS = 12, MIN_WARPS = 4;
// More chunks ahead give nothing; fewer would wait for every load.
constexpr int MAX_STAGES = 6, MIN_STAGES = 2;
// Below this, more chunks ahead are better than a second copy of x.
constexpr int ENOUGH_STAGES = 4;
// Descriptions of steps that are in shared memory at a time.
constexpr int KNOWN_STEPS = 8;
constexpr int VECTORS_IN_FLIGHT = 4;
constexpr uint32_t EVEN_K = 0x0f0f0f0fu, ODD_K = 0xf0f0f0f0u;
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

// What a block shares, followed by partial sums [slot][warp][M][TILE_ROWS], the copies of x, and the rings.
struct alignas(VECTOR_BYTES) Shared {
  SamebitsStep steps[KNOWN_STEPS];
  Barrier summed[slots_of(1)], freed[slots_of(1)];
  Barrier x_ready, step_done[2];  // of steps with even and with odd numbers
  int32_t largest_word[2][MAX_WARPS][MAX_ROWS];
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

// A warp's way through all weights, up to `stages` chunks ahead of its arithmetic.
template <int RUNS>
class Stream {
 public:
  __device__ __forceinline__ Stream(const SamebitsStep *known, char *ring, int stages)
      : known_(known), ring_(ring), stages_(stages) {}

  // Asks for chunks until the ring is full, or the steps up to `last_step` have no more.
  __device__ __forceinline__ void fill(int last_step) {
    while (ahead_ < stages_) {
      if (pair_ >= end_) next_step(last_step);
      if (pair_ >= end_) return;
      copy_chunk();
    }
  }

  // Where the oldest chunk in the ring is, once it is there.
  __device__ __forceinline__ const char *oldest() const {
    await_copies(ahead_ - 1);
    return ring_ + oldest_ * stage_bytes_of(RUNS) + threadIdx.x % WARP * VECTOR_BYTES;
  }

  // That chunk is used up.
  __device__ __forceinline__ void drop_oldest() {
    oldest_ = oldest_ + 1 == stages_ ? 0 : oldest_ + 1;
    ahead_--;
  }

 private:
  __device__ __forceinline__ void next_step(int last_step) {
    while (pair_ >= end_ && step_ < last_step) {
      const SamebitsStep &next = known_[++step_ % KNOWN_STEPS];
      chunks_ = next.chunks;
      pair_ = first_pair(next, blockIdx.x) + static_cast<int>(threadIdx.x / WARP);
      end_ = first_pair(next, blockIdx.x + 1);
      if (pair_ >= end_) continue;
      tile_ = pair_ / chunks_;
      chunk_ = pair_ % chunks_;
      find_linear();
    }
  }

  __device__ __forceinline__ void find_linear() {
    linear_ = &linear_of(known_[step_ % KNOWN_STEPS], tile_);
    const size_t pair = static_cast<size_t>(tile_ - linear_->first_tile) * chunks_ + chunk_;
    codes_ = static_cast<const char *>(linear_->codes) + pair * CHUNK_CODE_BYTES + threadIdx.x % WARP * VECTOR_BYTES;
  }

  __device__ __forceinline__ void copy_chunk() {
    const int lane = threadIdx.x % WARP, g = lane / BLOCKS_PER_CHUNK, t = lane % BLOCKS_PER_CHUNK;
    char *const to = ring_ + newest_ * stage_bytes_of(RUNS) + lane * VECTOR_BYTES;
#pragma unroll
    for (int j = 0; j < ROWS_PER_LANE; j++) {
      copy_async(to + j * WARP * VECTOR_BYTES, codes_ + j * WARP * VECTOR_BYTES);
    }
    const SamebitsLinear &linear = *linear_;
    const int group = t * linear.scale_layout.groups_per_chunk / BLOCKS_PER_CHUNK;
    const char *const scales = static_cast<const char *>(linear.scale_zero) +
                               static_cast<size_t>(tile_ - linear.first_tile) * linear.scale_layout.tile_bytes +
                               scale_offset(linear.scale_layout, chunk_, g, group);
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      copy_async(to + CHUNK_CODE_BYTES + run * WARP * VECTOR_BYTES, scales + run * VECTOR_BYTES);
    }
    commit_copies();
    newest_ = newest_ + 1 == stages_ ? 0 : newest_ + 1;
    ahead_++;

    const int warps = blockDim.x / WARP;
    pair_ += warps;
    chunk_ += warps;
    codes_ += warps * CHUNK_CODE_BYTES;
    while (chunk_ >= chunks_) {
      chunk_ -= chunks_;
      tile_++;
    }
    if (tile_ >= linear.tile_end && pair_ < end_) find_linear();
  }

  const SamebitsStep *const known_;
  char *const ring_;
  const int stages_;
  int newest_ = 0, oldest_ = 0, ahead_ = 0;
  int step_ = -1, pair_ = 0, end_ = 0, tile_ = 0, chunk_ = 0, chunks_ = 1;
  const SamebitsLinear *linear_ = nullptr;
  const char *codes_ = nullptr;
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

// Adds to each of the lane's four rows what one chunk contributes, for M rows of x. `stage` holds the lane's vectors of the
// chunk, x the chunk's codes of the first row, terms those of the lane's block.
template <int M, int RUNS>
__device__ __forceinline__ void multiply(int64_t (&total)[M][ROWS_PER_LANE], const char *stage, const uint4 *x,
                                         const uint2 *terms, int row_bytes, const int (&exponent)[M], float weight_scale) {
  const int lane = threadIdx.x % WARP, g = lane / BLOCKS_PER_CHUNK, t = lane % BLOCKS_PER_CHUNK;
  uint4 q[ROWS_PER_LANE];
  uint4 scales[RUNS];
#pragma unroll
  for (int j = 0; j < ROWS_PER_LANE; j++) q[j] = *reinterpret_cast<const uint4 *>(stage + j * WARP * VECTOR_BYTES);
#pragma unroll
  for (int run = 0; run < RUNS; run++) {
    scales[run] = *reinterpret_cast<const uint4 *>(stage + CHUNK_CODE_BYTES + run * WARP * VECTOR_BYTES);
  }
#pragma unroll
  for (int m = 0; m < M; m++) {
    // Of column g, this lane passes on the k of block t: something only in the two columns of that block.
    uint4 even = make_uint4(0, 0, 0, 0), odd = make_uint4(0, 0, 0, 0);
    if (g == 2 * t) even = x[t * CODE_VECTORS];
    if (g == 2 * t + 1) odd = x[t * CODE_VECTORS + 1];
    const uint32_t columns[4][2] = {{even.x, odd.x}, {even.y, odd.y}, {even.z, odd.z}, {even.w, odd.w}};
    float block_scale[RUNS], asum[RUNS];
#pragma unroll
    for (int run = 0; run < RUNS; run++) {
      block_scale[run] = block_scale_of(static_cast<int32_t>(terms[run].x), exponent[m]);
      asum[run] = float_from_bits(terms[run].y);
    }
#pragma unroll
    for (int half = 0; half < 2; half++) {
      const uint4 &upper = q[2 * half], &lower = q[2 * half + 1];
      const uint32_t words[4][2] = {{upper.x, lower.x}, {upper.y, lower.y}, {upper.z, lower.z}, {upper.w, lower.w}};
#pragma unroll
      for (int run = 0; run < RUNS; run++) {
        int c[4] = {0, 0, 0, 0};
#pragma unroll
        for (int i = run * 4 / RUNS; i < (run + 1) * 4 / RUNS; i++) {
          const uint32_t a[4] = {words[i][0] & EVEN_K, words[i][1] & EVEN_K, words[i][0] & ODD_K, words[i][1] & ODD_K};
          multiply_u8_s8(c, a, columns[i]);
        }
        const uint32_t pair[2] = {half == 0 ? scales[run].x : scales[run].z, half == 0 ? scales[run].y : scales[run].w};
#pragma unroll
        for (int r = 0; r < 2; r++) {
          const int dp = c[2 * r] + (c[2 * r + 1] >> 4);  // odd k came as 16 times their codes
          total[m][2 * half + r] += run_contribution(dp, asum[run], product(scale_of(pair[r]), weight_scale),
                                                     zero_point_of(pair[r]), block_scale[run]);
        }
      }
    }
    x = reinterpret_cast<const uint4 *>(reinterpret_cast<const char *>(x) + row_bytes);
    terms = reinterpret_cast<const uint2 *>(reinterpret_cast<const char *>(terms) + row_bytes);
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

template <int M, int RUNS, bool X_IS_SHARED>
__global__ void __launch_bounds__(MAX_WARPS *WARP, 1) int4_plain_mm(const Walk walk) {
  constexpr int SLOTS = slots_of(M);
  const int warps = blockDim.x / WARP, warp = threadIdx.x / WARP, lane = threadIdx.x % WARP;
  const int g = lane / BLOCKS_PER_CHUNK, t = lane % BLOCKS_PER_CHUNK;
  Shared &shared = *reinterpret_cast<Shared *>(shared_memory());
  int64_t *const partial = reinterpret_cast<int64_t *>(shared_memory() + sizeof(Shared));
  char *const x_copies = shared_memory() + sizeof(Shared) + partial_bytes_of(M, warps);
  char *const rings = x_copies + walk.x_bytes[0] + walk.x_bytes[1];

  if (threadIdx.x == 0) {
    for (int i = 0; i < SLOTS; i++) {
      shared.summed[i].init(warps);
      shared.freed[i].init(1);
    }
    shared.x_ready.init(warps);
    for (Barrier &done : shared.step_done) done.init(warps);
  }
  for (int i = threadIdx.x; i < min(walk.count, KNOWN_STEPS) * STEP_VECTORS; i += blockDim.x) {
    reinterpret_cast<uint4 *>(shared.steps)[i] = reinterpret_cast<const uint4 *>(walk.steps)[i];
  }
  __syncthreads();

  Stream<RUNS> stream(shared.steps, rings + warp * walk.stages * stage_bytes_of(RUNS), walk.stages);
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
    const uint4 *const x_codes = reinterpret_cast<const uint4 *>(x);
    const uint2 *const x_terms =
        reinterpret_cast<const uint2 *>(x + chunks * BLOCKS_PER_CHUNK * BLOCK_SIZE) + t * RUNS;
    int pair = begin + warp;
    for (int tile = begin / chunks; tile * chunks < end; tile++, tiles_done++) {
      const SamebitsLinear &linear = linear_of(step, tile);
      const float weight_scale = power_of_two(-linear.weight_exponent);
      const int tile_begin = tile * chunks, tile_end = tile_begin + chunks;
      int64_t total[M][ROWS_PER_LANE] = {};
      for (; pair < min(end, tile_end); pair += warps) {
        const int chunk = pair - tile_begin;
        multiply<M, RUNS>(total, stream.oldest(), x_codes + chunk * BLOCKS_PER_CHUNK * CODE_VECTORS,
                          x_terms + chunk * BLOCKS_PER_CHUNK * RUNS, row_bytes, exponent, weight_scale);
        stream.drop_oldest();
        stream.fill(last_known);
      }

      const int slot = tiles_done % SLOTS, round = tiles_done / SLOTS;
      int64_t *const sums = partial + slot * warps * M * TILE_ROWS;
      if (round > 0) shared.freed[slot].wait(round - 1);
#pragma unroll
      for (int m = 0; m < M; m++) sums[(warp * M + m) * TILE_ROWS + t * 8 + g] = sum_over_blocks(total[m]);
      __syncwarp();
      if (lane == 0) shared.summed[slot].arrive();
      if (warp != tiles_done % warps) continue;

      // This warp finishes the tile. What the next block left of it is on its way while the other warps arrive.
      const bool is_owner = begin <= tile_begin, is_shared = is_owner && end < tile_end;
      uint64_t *const tails = walk.tails + static_cast<size_t>(number) * gridDim.x * M * TILE_ROWS + lane;
      uint64_t tail[M];
#pragma unroll
      for (int m = 0; m < M; m++) {
        tail[m] = is_shared ? load_shared_by_all(tails + ((blockIdx.x + 1) * M + m) * TILE_ROWS) : TAIL_PENDING;
      }
      shared.summed[slot].wait(round);
      int64_t sum[M];
#pragma unroll
      for (int m = 0; m < M; m++) {
        sum[m] = 0;
        for (int w = 0; w < warps; w++) sum[m] += sums[(w * M + m) * TILE_ROWS + lane];
      }
      __syncwarp();
      if (lane == 0) shared.freed[slot].arrive();
      if (!is_owner) {
#pragma unroll
        for (int m = 0; m < M; m++) {
          store_shared_by_all(tails + (blockIdx.x * M + m) * TILE_ROWS, static_cast<uint64_t>(sum[m]));
        }
        continue;
      }
      if (is_shared) {
        for (unsigned other = blockIdx.x + 1; other < gridDim.x && first_pair(step, other) < tile_end; other++) {
          if (first_pair(step, other) == first_pair(step, other + 1)) continue;
#pragma unroll
          for (int m = 0; m < M; m++) {
            const uint64_t *const from = tails + (other * M + m) * TILE_ROWS;
            uint64_t part = other == blockIdx.x + 1 ? tail[m] : TAIL_PENDING;
            while (part == TAIL_PENDING) {
              part = load_shared_by_all(from);
              if (part == TAIL_PENDING) look_again();
            }
            sum[m] += static_cast<int64_t>(part);
          }
        }
        __syncwarp();
      }
#pragma unroll
      for (int m = 0; m < M; m++) finish<RUNS>(linear, tile - linear.first_tile, m, sum[m], row_exponent[m]);
    }
    __syncwarp();
    if (lane == 0) shared.step_done[number % 2].arrive();
  }
}

using Kernel = void (*)(Walk);

template <int RUNS>
Kernel kernel_for(int m, bool x_is_shared) {
  if (!x_is_shared) return int4_plain_mm<1, RUNS, false>;
  switch (m) {
    case 1: return int4_plain_mm<1, RUNS, true>;
    case 2: return int4_plain_mm<2, RUNS, true>;
    case 3: return int4_plain_mm<3, RUNS, true>;
    default: return int4_plain_mm<MAX_ROWS, RUNS, true>;
  }
}

// How a launch divides a block's shared memory.
struct Division {
  int warps, stages, x_copies;
  int x_bytes[2];
  int shared_bytes;
};

// The best that fits: as many warps as there can be, then two copies of x if they leave enough for the rings, or one. No warps
// when not even that fits, or with no copy asked for.
Division divide(int shared_bytes, int m, int runs, const int (&x_bytes)[2], bool x_is_shared) {
  for (int warps = MAX_WARPS; warps >= MIN_WARPS; warps -= 2) {
    const int fixed = static_cast<int>(sizeof(Shared)) + partial_bytes_of(m, warps);
    const int ring_bytes = warps * stage_bytes_of(runs);
    const int one = x_bytes[0] > x_bytes[1] ? x_bytes[0] : x_bytes[1];
    const int most = x_is_shared ? 2 : 0;
    for (int copies = most; copies >= (x_is_shared ? 1 : 0); copies--) {
      if (copies == 2 && x_bytes[1] == 0) continue;
      Division division = {warps, 0, copies, {0, 0}, 0};
      if (copies == 1) division.x_bytes[0] = one;
      if (copies == 2) division.x_bytes[0] = x_bytes[0], division.x_bytes[1] = x_bytes[1];
      const int left = shared_bytes - fixed - division.x_bytes[0] - division.x_bytes[1];
      division.stages = left < 0 ? 0 : left / ring_bytes;
      if (division.stages > MAX_STAGES) division.stages = MAX_STAGES;
      if (division.stages < (copies == 2 ? ENOUGH_STAGES : MIN_STAGES)) continue;
      division.shared_bytes = fixed + division.x_bytes[0] + division.x_bytes[1] + division.stages * ring_bytes;
      return division;
    }
  }
  return {};
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
    if (divide(launch->shared_bytes, m, runs, {x_bytes_of(m, k, runs), 0}, true).warps > 0) return m;
  }
  return 1;
}

int samebits_load_int4_plain_mm(int32_t shared_bytes) {
  using namespace samebits;
  for (int m = 0; m <= MAX_ROWS; m++) {
    for (int runs = 1; runs <= 2; runs++) {
      const Kernel kernel = runs == 1 ? kernel_for<1>(m, m > 0) : kernel_for<2>(m, m > 0);
      if (const int error = load_kernel(kernel)) return error;
      if (const int error = allow_shared_memory(kernel, shared_bytes)) return error;
    }
  }
  return cudaSuccess;
}

int samebits_int4_plain_mm(const SamebitsLaunch *launch, const SamebitsWalk *of) {
  using namespace samebits;
  const int runs = runs_of(of->group_size);
  const int x_bytes[2] = {x_bytes_of(of->m, of->largest_k[0], runs), x_bytes_of(of->m, of->largest_k[1], runs)};
  bool x_is_shared = true;
  Division division = divide(launch->shared_bytes, of->m, runs, x_bytes, true);
  if (division.warps == 0 && of->m == 1) {
    x_is_shared = false;
    division = divide(launch->shared_bytes, 1, runs, x_bytes, false);
  }
  if (of->count < 1 || of->m < 1 || of->m > MAX_ROWS || division.warps == 0) return cudaErrorInvalidValue;
  const Walk walk = {of->steps,
                     static_cast<uint64_t *>(of->tails),
                     of->count,
                     division.stages,
                     division.x_copies,
                     {division.x_bytes[0], division.x_bytes[1]}};
  const Kernel kernel = runs == 1 ? kernel_for<1>(of->m, x_is_shared) : kernel_for<2>(of->m, x_is_shared);
  return launch_resident_kernel(*launch, kernel, division.warps * WARP, division.shared_bytes, walk);
}

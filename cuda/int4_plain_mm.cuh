// int4_plain_mm: a chain of linears, y = x · wᵀ for 4-bit weights and int8 activations, in one launch and at the speed of
// reading the weights once.
//
// Math:     T = sum over runs of C, C = RNE(RN32(RN32(s * 2^-E_w * d_b) * RN32(dp - z * asum)) * 2^32),
//           dp = sum over the run of q * a; y = T * 2^(E_w + E_x - 32). What a run of another form contributes, form.cuh has.
// Layout:   weights in tiles of 32 rows (tiles.cuh), activations as activations.cuh lays them out, y f32[M, N] or bf16[M, N].
// Threads:  one block a multiprocessor for all steps. The (tile, chunk) pairs of a step, tile after tile, are cut into equal
//           stretches, one a block, whose warps take its pairs as they come. A warp has a ring of `stages` chunks in shared
//           memory and fills it across tiles and steps: weights depend on nothing, so they stream while a step waits for its
//           activations.
// Products: on tensor cores, 16 rows times 4 blocks of k, for two rows of x at a time. A lane holds one block of a row. Columns
//           2t and 2t + 1 take the two rows of x for the k of block t, and nothing else, so that the product leaves in each
//           lane's registers the dot products of that lane's own block.
// Sums:     lanes; then the warps of a block, which add theirs to those of the tile in shared memory, and the last of them finishes
//           it; then blocks that share a tile, the first of which adds what the others leave in `tails`. A block begins with
//           what it leaves, so that nobody waits for it long.
// Steps:    the warp that finishes 32 outputs quantizes them at once if a later step reads them; readers see of every word
//           by itself whether it has been written. Nobody waits for a whole grid.
// Decoding: a walk may also do what lies between the linears of a decoder's layer. Every block then makes the normed x of a step
//           itself, and the warp that finishes 32 values of `up` gates them with those of `gate`.
// Forms:    one walk has one; the kernel is compiled for each (int4_plain_mm_*.cu), and differs in what a lane copies and reads
//           of a chunk's groups (groups.cuh) and in what a run contributes.
// Traffic:  reads N * K / 2 + N * nGroups * 4 bytes once for M rows of x, and x once a multiprocessor. Of a nested form N * K / 2 +
//           N * nGroups * 2 + N * K / 64 bytes, the last of them once from memory and once more from the cache.
// Numerics: NUMERICS.md sections 3 and 4, and "Other forms" (numerics.cuh). Only integers are summed, so no order can be seen.
// Limits:   K a multiple of 32, at most 65504; group size 16 or a power of two >= 32; of a nested form K a multiple of 256 and
//           groups of at most 256; every block resident at once.

#pragma once

#include "finish.cuh"
#include "kernels.cuh"
#include "normed_input.cuh"
#include "receive.cuh"
#include "tile_product.cuh"

namespace samebits {
namespace {

template <SamebitsFormKind FORM, int M, int RUNS, int WARPS_OF_BLOCK, bool X_IS_SHARED, bool DECODES>
__global__ void __launch_bounds__(WARPS_OF_BLOCK *WARP, 1) int4_plain_mm(
    const __grid_constant__ Given<DECODES> given) {
  constexpr int warps = WARPS_OF_BLOCK;
  const Walk &walk = given.walk;
  const SamebitsStep *const steps = given.steps();
  const int thread = thread_of_block(), warp = thread / WARP, lane = thread % WARP;
  const int g = lane / BLOCKS_PER_CHUNK, t = lane % BLOCKS_PER_CHUNK;
  char *const rings = shared_memory();
  const int ring_bytes = walk.stages * stage_bytes_of(RUNS);
  Shared &shared = *reinterpret_cast<Shared *>(rings + warps * ring_bytes);
  char *const x_copies = reinterpret_cast<char *>(&shared + 1);

  if (threadIdx.x < warps) shared.filled[threadIdx.x].init(WARP);
  if (threadIdx.x < TILE_PLACES) {
    shared.tile_is_left[threadIdx.x].init(warps * WARP);
    shared.tile_visits[threadIdx.x] = 0;
  }
  if (threadIdx.x == 0) {
    shared.x_comes.init(WARP);
    shared.next_chunk = 0;
  }
  for (int i = threadIdx.x; i < TILE_PLACES * MAX_ROWS * 2 * TILE_ROWS; i += blockDim.x) (&shared.tile_sums[0][0][0][0])[i] = 0;
  for (int i = threadIdx.x; i < min(walk.count, KNOWN_STEPS) * STEP_VECTORS; i += blockDim.x) {
    reinterpret_cast<uint4 *>(shared.steps)[i] = reinterpret_cast<const uint4 *>(steps)[i];
  }
  for (int i = threadIdx.x; i < min(walk.count, KNOWN_STEPS); i += blockDim.x) shared.cuts[i] = Cut::of(steps[i], gridDim.x);
  __syncthreads();

  Stream<FORM, RUNS> stream(shared, rings + warp * ring_bytes + lane * VECTOR_BYTES, walk.stages, warp, lane);
  // Chunks of the steps so far, and the tiles that they are of.
  int chunks_before = 0, tiles_before = 0;
  for (int number = 0; number < walk.count; number++) {
    const SamebitsStep &step = shared.steps[number % KNOWN_STEPS];
    const Cut cut = shared.cuts[number % KNOWN_STEPS];
    const int chunks = step.chunks, row_bytes = row_bytes_of(chunks, RUNS);
    const int begin = cut.first_of(blockIdx.x), end = cut.first_of(blockIdx.x + 1);
    const int last_known = min(walk.count, max(KNOWN_STEPS, number + KNOWN_STEPS - 2)) - 1;
    stream.keep_up(last_known);
    if (number == 0) begin_beside_previous();

    // Every warp is done with the step before the last one, so its description makes room for one that is known to all once
    // they meet below.
    const int coming = number - 2 + KNOWN_STEPS;
    if (number >= 2 && coming < walk.count && warp == number % warps) {
      if (lane < STEP_VECTORS) {
        reinterpret_cast<uint4 *>(&shared.steps[coming % KNOWN_STEPS])[lane] =
            reinterpret_cast<const uint4 *>(&steps[coming])[lane];
      }
      if (lane == 0) shared.cuts[coming % KNOWN_STEPS] = Cut::of(steps[coming], gridDim.x);
    }

    // So does the copy of its x; if there is but one, it is that of the last step.
    if (walk.x_copies == 1) __syncthreads();
    char *const copy = x_copies + (walk.x_copies == 2 && number % 2 == 1 ? walk.x_bytes[0] : 0);
    int32_t largest[M];
    const auto while_waiting = [&] {
      stream.fill(last_known);
      look_again();
    };
    if (DECODES && step.normed.branch != nullptr) {
      // Once the branch is there, nobody reads the x of the step that gave it.
      char *const other_copy = x_copies + (number % 2 == 0 ? walk.x_bytes[0] : 0);
      largest[0] = make_normed<RUNS>(step.normed, chunks, copy, other_copy, shared.squares, shared.x_comes, number,
                                     while_waiting);
    } else {
      await_last(static_cast<const uint4 *>(step.x) + M * row_bytes / VECTOR_BYTES - 1, shared.x_comes, number, while_waiting);
      receive<M>(step.x, chunks, row_bytes, X_IS_SHARED ? copy : nullptr, largest);
    }
    if (lane < M) {
#pragma unroll
      for (int m = 0; m < M; m++) {
        if (lane == m) shared.largest_word[number % 2][warp][m] = largest[m];
      }
    }
    __syncthreads();
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
    uint64_t *const tails = walk.tails + static_cast<size_t>(number) * gridDim.x * M * TILE_ROWS + lane;
    const auto tail_of = [=](unsigned block, int m) { return tails + (static_cast<size_t>(block) * M + m) * TILE_ROWS; };
    // The number of pair p is p + number_of_zero.
    const int number_of_zero = chunks_before - begin;
    chunks_before += end - begin;
    int tile = begin / chunks;
    for (int tile_begin = tile * chunks; tile_begin < end; tile_begin += chunks, tile++) {
      const SamebitsLinear &linear = linear_of(step, tile);
      const float weight_scale = power_of_two(-linear.weight_exponent);
      const int tile_end = tile_begin + chunks, numbers_end = min(tile_end, end) + number_of_zero;
      // What the next block leaves of a tile it begins with: most often that is there by now.
      const bool is_owner = begin <= tile_begin, is_shared = is_owner && end < tile_end;
      uint64_t next_tail[M];
#pragma unroll
      for (int m = 0; m < M; m++) next_tail[m] = is_shared ? load_shared_by_all(tail_of(blockIdx.x + 1, m)) : TAIL_PENDING;

      int64_t total[M][ROWS_PER_LANE] = {};
      bool adds = false;
      for (int next = stream.next(); next < numbers_end; next = stream.next()) {
        const int chunk = next - number_of_zero - tile_begin;
        const Chunk<FORM, RUNS> taken = stream.take(last_known);
        // Asked for again by every chunk: with an offset there is no register left to keep it in.
        const float center = GroupNumbers<FORM>::HAS_OFFSET ? linear.center : 0.0f;
        multiply<FORM, M, RUNS>(total, taken, x_codes + chunk * CHUNK_K, x_terms + chunk * BLOCKS_PER_CHUNK * RUNS, row_bytes,
                                exponent, weight_scale, center, g, t);
        adds = true;
      }

      // When all have left the tile after the one that had this place, whoever finished that one is done with its sums.
      const int place = tiles_before % TILE_PLACES, after = tiles_before + 1 - TILE_PLACES;
      if (after >= 0) shared.tile_is_left[after % TILE_PLACES].wait(after / TILE_PLACES);
      int visits = 0;
      if (lane == 0) visits = atomicAdd(&shared.tile_visits[place], 1);
      if (adds) {
#pragma unroll
        for (int m = 0; m < M; m++) add_to_sum(shared.tile_sums[place][m], sum_over_blocks(total[m]));
      }
      shared.tile_is_left[place].arrive();
      const int round = tiles_before++ / TILE_PLACES;
      const bool is_last = __shfl_sync(ALL_LANES, visits, 0) + 1 == (round + 1) * warps;
      if (!is_last) continue;
      shared.tile_is_left[place].wait(round);
      int64_t sum[M];
#pragma unroll
      for (int m = 0; m < M; m++) sum[m] = take_sum(shared.tile_sums[place][m]);
      if (!is_owner) {
#pragma unroll
        for (int m = 0; m < M; m++) store_shared_by_all(tail_of(blockIdx.x, m), static_cast<uint64_t>(sum[m]));
        continue;
      }

      for (unsigned other = blockIdx.x + 1; is_shared && other < gridDim.x; other++) {
        const int first = cut.first_of(other);
        if (first >= tile_end) break;
        if (first == cut.first_of(other + 1)) continue;
#pragma unroll
        for (int m = 0; m < M; m++) {
          uint64_t tail = other == blockIdx.x + 1 ? next_tail[m] : TAIL_PENDING;
          while (tail == TAIL_PENDING) {
            tail = load_shared_by_all(tail_of(other, m));
            if (tail == TAIL_PENDING) look_again();
          }
          sum[m] += static_cast<int64_t>(tail);
        }
      }
      __syncwarp();
#pragma unroll
      for (int m = 0; m < M; m++) {
        // Lane (g, t) has row 8 t + g; from here on a lane has its own row.
        const int64_t own = __shfl_sync(ALL_LANES, sum[m], lane % ROWS_APART * BLOCKS_PER_CHUNK + lane / ROWS_APART);
        if (DECODES) {
          finish_decoding<RUNS>(linear, tile - linear.first_tile, own, row_exponent[m]);
        } else {
          finish<RUNS>(linear, tile - linear.first_tile, m, own, row_exponent[m]);
        }
      }
    }
  }
}

template <SamebitsFormKind FORM, int RUNS>
Kernel kernel_for(int m, int warps, bool x_is_shared) {
  if (!x_is_shared) return int4_plain_mm<FORM, 1, RUNS, FEW_WARPS, false, false>;
  if (warps == FEW_WARPS) return int4_plain_mm<FORM, 1, RUNS, FEW_WARPS, true, false>;
  switch (m) {
    case 1: return int4_plain_mm<FORM, 1, RUNS, warps_for(1), true, false>;
    case 2: return int4_plain_mm<FORM, 2, RUNS, warps_for(2), true, false>;
    case 3: return int4_plain_mm<FORM, 3, RUNS, warps_for(3), true, false>;
    default: return int4_plain_mm<FORM, MAX_ROWS, RUNS, warps_for(MAX_ROWS), true, false>;
  }
}

}  // namespace

template <SamebitsFormKind FORM>
Kernel Kernels<FORM>::of(int m, int runs, int warps, bool x_is_shared) {
  return runs == 1 ? kernel_for<FORM, 1>(m, warps, x_is_shared) : kernel_for<FORM, 2>(m, warps, x_is_shared);
}

template <SamebitsFormKind FORM>
DecodingKernel Kernels<FORM>::decoding(int runs) {
  return runs == 1 ? int4_plain_mm<FORM, 1, 1, warps_for(1), true, true> : int4_plain_mm<FORM, 1, 2, warps_for(1), true, true>;
}

}  // namespace samebits

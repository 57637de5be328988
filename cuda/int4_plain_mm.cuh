// int4_plain_mm: a chain of linears, y = x · wᵀ for 4-bit weights and int8 activations, in one launch and at the speed of
// reading the weights once.
//
// Math:     T = sum over runs of C, C = RNE(RN32(RN32(s * 2^-E_w * d_b) * RN32(dp - z * asum)) * 2^32),
//           dp = sum over the run of q * a; y = T * 2^(E_w + E_x - 32). What a run of another form contributes, form.cuh has.
// Layout:   weights in tiles of 32 rows (tiles.cuh), activations as activations.cuh lays them out, y f32[M, N] or bf16[M, N].
// Threads:  one block a multiprocessor for all steps. The (tile, chunk) pairs of a step, tile after tile, are cut into equal
//           stretches, one a warp of the grid. A warp has a ring of `stages` chunks in shared memory and fills it from its next
//           stretches, across tiles and steps: weights depend on nothing, so they stream while a step waits for its
//           activations.
// Products: on tensor cores, 16 rows times 4 blocks of k, for two rows of x at a time. A lane holds one block of a row. Columns
//           2t and 2t + 1 take the two rows of x for the k of block t, and nothing else, so that the product leaves in each
//           lane's registers the dot products of that lane's own block.
// Sums:     lanes; then warps of a block that share a tile, the first of which adds what the others leave in shared memory; then
//           blocks that do, the first of which adds what the others leave in `tails`.
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
  const uint32_t stretch = blockIdx.x * warps + warp, stretches = gridDim.x * warps;
  char *const rings = shared_memory();
  const int ring_bytes = walk.stages * stage_bytes_of(RUNS);
  int64_t *const parts = reinterpret_cast<int64_t *>(rings + warps * ring_bytes) + lane;
  Shared &shared = *reinterpret_cast<Shared *>(rings + warps * ring_bytes + part_bytes_of(M, warps));
  char *const x_copies = reinterpret_cast<char *>(&shared + 1);

  for (int i = threadIdx.x; i < warps; i += blockDim.x) {
    for (int stage = 0; stage < walk.stages; stage++) shared.landed[i][stage].init(WARP);
    shared.part_is_there[i].init(WARP);
  }
  for (int i = threadIdx.x; i < min(walk.count, KNOWN_STEPS) * STEP_VECTORS; i += blockDim.x) {
    reinterpret_cast<uint4 *>(shared.steps)[i] = reinterpret_cast<const uint4 *>(steps)[i];
  }
  for (int i = threadIdx.x; i < min(walk.count, KNOWN_STEPS); i += blockDim.x) {
    shared.cuts[i] = Cut::of(steps[i], stretches);
  }
  __syncthreads();

  Stream<FORM, RUNS> stream(shared, rings + warp * ring_bytes + lane * VECTOR_BYTES, walk.stages, stretch, warp, lane);
  if (DECODES) {
    stream.advance(min(walk.count, KNOWN_STEPS) - 1);
    begin_beside_previous();
  }
  for (int number = 0; number < walk.count; number++) {
    const SamebitsStep &step = shared.steps[number % KNOWN_STEPS];
    const Cut cut = shared.cuts[number % KNOWN_STEPS];
    const int chunks = step.chunks, row_bytes = row_bytes_of(chunks, RUNS);
    const int begin = cut.first_of(stretch), end = cut.first_of(stretch + 1);
    const int block_begin = cut.first_of(blockIdx.x * warps), block_end = cut.first_of((blockIdx.x + 1) * warps);
    const int first_tile = begin / chunks;
    const int last_known = min(walk.count, max(KNOWN_STEPS, number + KNOWN_STEPS - 2)) - 1;
    stream.advance(last_known);

    // Every warp is done with the step before the last one, so its description makes room for one that is known to all once
    // they meet below.
    const int coming = number - 2 + KNOWN_STEPS;
    if (number >= 2 && coming < walk.count && warp == number % warps) {
      if (lane < STEP_VECTORS) {
        reinterpret_cast<uint4 *>(&shared.steps[coming % KNOWN_STEPS])[lane] =
            reinterpret_cast<const uint4 *>(&steps[coming])[lane];
      }
      if (lane == 0) shared.cuts[coming % KNOWN_STEPS] = Cut::of(steps[coming], stretches);
    }

    // So does the copy of its x; if there is but one, it is that of the last step.
    if (walk.x_copies == 1) __syncthreads();
    char *const copy = x_copies + (walk.x_copies == 2 && number % 2 == 1 ? walk.x_bytes[0] : 0);
    int32_t largest[M];
    const auto while_waiting = [&] {
      stream.advance(last_known);
      look_again();
    };
    if (DECODES && step.normed.branch != nullptr) {
      // Once the branch is there, nobody reads the x of the step that gave it.
      char *const other_copy = x_copies + (number % 2 == 0 ? walk.x_bytes[0] : 0);
      largest[0] = make_normed<RUNS>(step.normed, chunks, copy, other_copy, shared.squares, while_waiting);
    } else {
      receive<M>(step.x, chunks, row_bytes, X_IS_SHARED ? copy : nullptr, largest, while_waiting);
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

    stream.use(number);
    const char *const x = X_IS_SHARED ? copy : static_cast<const char *>(step.x);
    const char *const x_codes = x + t * BLOCK_SIZE;
    const uint2 *const x_terms = reinterpret_cast<const uint2 *>(x + chunks * CHUNK_K) + t * RUNS;
    bool left_a_part = false;
    int pair = begin;
    for (int tile = first_tile; pair < end; tile++) {
      const SamebitsLinear &linear = linear_of(step, tile);
      const float weight_scale = power_of_two(-linear.weight_exponent);
      const int tile_begin = tile * chunks, tile_end = tile_begin + chunks;
      int64_t total[M][ROWS_PER_LANE] = {};
      for (; pair < min(end, tile_end); pair++) {
        const int chunk = pair - tile_begin;
        const Chunk<FORM, RUNS> taken = stream.take();
        stream.advance(last_known);
        // Asked for again by every chunk: with an offset there is no register left to keep it in.
        const float center = GroupNumbers<FORM>::HAS_OFFSET ? linear.center : 0.0f;
        multiply<FORM, M, RUNS>(total, taken, x_codes + chunk * CHUNK_K, x_terms + chunk * BLOCKS_PER_CHUNK * RUNS, row_bytes,
                                exponent, weight_scale, center, g, t);
      }
      int64_t sum[M];
#pragma unroll
      for (int m = 0; m < M; m++) sum[m] = sum_over_blocks(total[m]);

      // A part is free again when all warps have met for the next step: whoever adds it has done so by then.
      const auto part_of = [=](int of, int m) { return parts + (of * M + m) * TILE_ROWS; };
      if (tile_begin < begin && block_begin < begin) {
#pragma unroll
        for (int m = 0; m < M; m++) *part_of(warp, m) = sum[m];
        shared.part_is_there[warp].arrive();
        shared.part_is_there[warp].wait(number);
        left_a_part = true;
        continue;
      }

      // What the next block left of the tile is on its way while the parts come.
      const bool is_owner = block_begin <= tile_begin, is_shared = is_owner && block_end < tile_end;
      uint64_t *const tails = walk.tails + static_cast<size_t>(number) * gridDim.x * M * TILE_ROWS + lane;
      const auto tail_of = [=](unsigned block, int m) { return tails + (static_cast<size_t>(block) * M + m) * TILE_ROWS; };
      uint64_t next_tail[M];
#pragma unroll
      for (int m = 0; m < M; m++) next_tail[m] = is_shared ? load_shared_by_all(tail_of(blockIdx.x + 1, m)) : TAIL_PENDING;

      const auto leaves_a_part = [=](int of) {
        const uint32_t own = stretch - warp + of;
        return cut.first_of(own) < cut.first_of(own + 1);
      };
      int parts_end = warp + 1;
      for (; parts_end < warps && cut.first_of(stretch - warp + parts_end) < tile_end; parts_end++) {
        if (leaves_a_part(parts_end)) shared.part_is_there[parts_end].wait(number);
      }
#pragma unroll 4
      for (int other = warp + 1; other < parts_end; other++) {
#pragma unroll
        for (int m = 0; m < M; m++) sum[m] += leaves_a_part(other) ? *part_of(other, m) : 0;
      }
      if (!is_owner) {
#pragma unroll
        for (int m = 0; m < M; m++) store_shared_by_all(tail_of(blockIdx.x, m), static_cast<uint64_t>(sum[m]));
        continue;
      }

      for (unsigned other = blockIdx.x + 1; is_shared && other < gridDim.x; other++) {
        const int first = cut.first_of(other * warps);
        if (first >= tile_end) break;
        if (first == cut.first_of((other + 1) * warps)) continue;
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
    // A phase that nobody waits for looks forgotten to compute-sanitizer; this one is over already.
    if (!left_a_part) {
      shared.part_is_there[warp].arrive();
      shared.part_is_there[warp].wait(number);
    }
  }
}

template <SamebitsFormKind FORM, int RUNS>
Kernel kernel_for(int m, int warps, bool x_is_shared) {
  if (!x_is_shared) return int4_plain_mm<FORM, 1, RUNS, FEW_WARPS, false, false>;
  if (warps == FEW_WARPS) return int4_plain_mm<FORM, 1, RUNS, FEW_WARPS, true, false>;
  switch (m) {
    case 1: return int4_plain_mm<FORM, 1, RUNS, WARPS, true, false>;
    case 2: return int4_plain_mm<FORM, 2, RUNS, WARPS, true, false>;
    case 3: return int4_plain_mm<FORM, 3, RUNS, WARPS, true, false>;
    default: return int4_plain_mm<FORM, MAX_ROWS, RUNS, WARPS, true, false>;
  }
}

}  // namespace

template <SamebitsFormKind FORM>
Kernel Kernels<FORM>::of(int m, int runs, int warps, bool x_is_shared) {
  return runs == 1 ? kernel_for<FORM, 1>(m, warps, x_is_shared) : kernel_for<FORM, 2>(m, warps, x_is_shared);
}

template <SamebitsFormKind FORM>
DecodingKernel Kernels<FORM>::decoding(int runs) {
  return runs == 1 ? int4_plain_mm<FORM, 1, 1, WARPS, true, true> : int4_plain_mm<FORM, 1, 2, WARPS, true, true>;
}

}  // namespace samebits

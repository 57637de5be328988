/*
 * samebits.h: the C interface of the CUDA side. Plain C, no CUDA headers: validation compiles and runs without a device.
 *
 * First half: what must hold of a packed weight at the native border (validate.cc). Second half: the launchers, each
 * defined beside its kernel. All pointers that a launcher takes are device pointers; all sizes are checked before it.
 */
#ifndef SAMEBITS_H
#define SAMEBITS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- limits (the same as in core/limits.ts) ---- */

enum {
  SAMEBITS_BLOCK_SIZE = 32,
  SAMEBITS_MAX_K = 65504,
  SAMEBITS_MAX_N = 1 << 24,
  SAMEBITS_MAX_M = 65535,
  SAMEBITS_MAX_WEIGHT_EXPONENT = 100
};

/* ---- refusals ---- */

typedef enum SamebitsStatus {
  SAMEBITS_OK = 0,
  SAMEBITS_LAYOUT_NATIVE_SCALE,
  SAMEBITS_LAYOUT_WRONG_TYPE,
  SAMEBITS_DTYPE_MISMATCH,
  SAMEBITS_SHAPE_MISMATCH,
  SAMEBITS_BYTE_LENGTH_MISMATCH,
  SAMEBITS_N_UNSUPPORTED,
  SAMEBITS_K_UNSUPPORTED,
  SAMEBITS_GROUP_SIZE_UNSUPPORTED,
  SAMEBITS_SCALE_NOT_FINITE,
  SAMEBITS_ZERO_POINT_NOT_FINITE,
  SAMEBITS_ZERO_POINT_OUT_OF_RANGE,
  SAMEBITS_WEIGHT_EXPONENT_OUT_OF_RANGE,
  SAMEBITS_M_UNSUPPORTED,
  SAMEBITS_INPUT_LENGTH_MISMATCH
} SamebitsStatus;

/* The stable name of a status, as TypeScript spells it: "LAYOUT_NATIVE_SCALE". */
const char *samebits_status_name(SamebitsStatus status);

/* Why something was refused. The texts are complete sentences' parts in the order of SamebitsError. */
typedef struct SamebitsRefusal {
  SamebitsStatus status;
  char rule[192];
  char expected[192];
  char got[192];
  char fix[192];
} SamebitsRefusal;

/* ---- a packed weight, as its producer describes it ---- */

typedef enum SamebitsLayout {
  SAMEBITS_COALESCED = 0, /* scale, zeroPoint [N, nGroups]; tag "coalesced-int4" */
  SAMEBITS_NATIVE = 1     /* scale, zeroPoint [nGroups, N]; tag "native-int4"; for the benchmark's comparison only */
} SamebitsLayout;

/* One array: its dtype ("u8" or "bf16"), its declared row-major shape, and the bytes that are really there. */
typedef struct SamebitsOperand {
  const char *dtype;
  uint64_t rank;
  int64_t shape[2];
  uint64_t size_bytes;
} SamebitsOperand;

typedef struct SamebitsWeightDescription {
  const char *layout;
  int64_t group_size;
  SamebitsOperand qdata;      /* u8[N, K/2], even k in the low nibble */
  SamebitsOperand scale;      /* bf16, shaped by the layout */
  SamebitsOperand zero_point; /* bf16, shaped as scale */
} SamebitsWeightDescription;

typedef struct SamebitsShape {
  int32_t n;
  int32_t k;
  int32_t group_size;
  int32_t n_groups;
} SamebitsShape;

/*
 * Checks tag, dtypes, ranks, shapes and byte lengths against the layout that the caller asks for; reads no data.
 * A square scale (N = nGroups) is told from its transpose by the tag alone.
 */
SamebitsStatus samebits_validate_description(const SamebitsWeightDescription *description, SamebitsLayout layout,
                                             SamebitsShape *shape, SamebitsRefusal *refusal);

/*
 * Checks `count` pairs of scale and zero point, bf16 bits, the first of which is element `first` of its operand, and
 * raises *reach to the largest |scale| * max(|zeroPoint|, |15 - zeroPoint|) among them (NUMERICS.md section 2).
 */
SamebitsStatus samebits_validate_values(const uint16_t *scale, const uint16_t *zero_point, uint64_t count,
                                        uint64_t first, double *reach, SamebitsRefusal *refusal);

/* E_w: the smallest integer with 2^E_w >= reach; 0 when reach is 0. */
SamebitsStatus samebits_weight_exponent(double reach, int32_t *exponent, SamebitsRefusal *refusal);

/* M, the rows that `length` activations of K make. */
SamebitsStatus samebits_validate_rows(uint64_t length, int32_t k, int32_t *m, SamebitsRefusal *refusal);

/* Writes scale in the low and zero point in the high half of each word; subnormals become zero of their sign. */
void samebits_interleave(const uint16_t *scale, const uint16_t *zero_point, uint64_t count, uint32_t *scale_zero);

/* ---- launchers: each returns a cudaError_t as int, 0 when the kernel is in the stream ---- */

struct CUstream_st;

/* Where and how to launch. */
typedef struct SamebitsLaunch {
  struct CUstream_st *stream;
  int32_t multiprocessor_count;
  /*
   * Nonzero when the operation before this one in the stream is a kernel of ours and the device can start this one while
   * that one drains (compute capability 9.0 and up); the kernel then waits on the device before it reads anything
   * that another kernel writes.
   */
  int32_t overlaps_previous;
} SamebitsLaunch;

/* What quantize_activations writes and int4_plain_mm reads, for M rows. */
typedef struct SamebitsActivations {
  int8_t *codes;         /* int8[M, K], even and odd k apart in each 8 (quantize_activations.cu) */
  float *run_terms;      /* {f32 d_b, f32 asum}[M, nRuns], nRuns = K / min(32, groupSize) */
  int32_t *row_exponent; /* i32[M], E_x or NAN_ROW */
} SamebitsActivations;

/* Loads every kernel onto the current device, so that no later launch does; fails when the binary has none for it. */
int samebits_load_quantize_activations(void);
int samebits_load_int4_plain_mm(void);

/* x bf16[M, K] -> codes, run_terms, row_exponent. */
int samebits_quantize_activations(const SamebitsLaunch *launch, const void *x, const SamebitsActivations *out,
                                  int32_t m, int32_t k, int32_t group_size);

/* One packed weight on the device. */
typedef struct SamebitsDeviceWeight {
  SamebitsShape shape;
  SamebitsLayout layout;
  int32_t weight_exponent;    /* E_w */
  const void *qdata;          /* u8[N, K/2] */
  const uint32_t *scale_zero; /* u32[N, nGroups], or [nGroups, N] when native; made by samebits_interleave */
} SamebitsDeviceWeight;

/* y[M, N] = x · wᵀ; y is f32, or bf16 when output_bf16. Passes over the weight once per four rows. */
int samebits_int4_plain_mm(const SamebitsLaunch *launch, const SamebitsDeviceWeight *weight,
                           const SamebitsActivations *activations, void *y, int32_t m, int32_t output_bf16);

/* Reads size_bytes (a multiple of 16) of zeros once; sink, one u32, stays untouched. */
int samebits_read_bandwidth(const SamebitsLaunch *launch, const void *data, uint64_t size_bytes, uint32_t *sink);

#ifdef __cplusplus
}
#endif

#endif

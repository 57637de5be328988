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
  SAMEBITS_ROWS_PER_PASS = 4,    /* rows of x that share one pass over the weights */
  SAMEBITS_LINEARS_PER_STEP = 3, /* linears on one x that run side by side */
  SAMEBITS_MAX_NORMED = 6144,    /* n of an x that every block makes itself */
  SAMEBITS_DECODING_STEPS = 4,   /* steps of a walk that decodes */
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
  SAMEBITS_INPUT_LENGTH_MISMATCH,
  SAMEBITS_FORM_UNKNOWN,
  SAMEBITS_OFFSET_NOT_FINITE
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

/* What a weight keeps of its groups (NUMERICS.md): the forms that kernels are compiled for. */
typedef enum SamebitsFormKind {
  SAMEBITS_ZERO_BF16 = 0,
  SAMEBITS_ZERO_F16,
  SAMEBITS_OFFSET_BF16,
  SAMEBITS_OFFSET_F16,
  SAMEBITS_NESTED_ZERO,
  SAMEBITS_NESTED_OFFSET
} SamebitsFormKind;

enum { SAMEBITS_FORM_KINDS = SAMEBITS_NESTED_OFFSET + 1 };

typedef struct SamebitsForm {
  SamebitsFormKind kind;
  int32_t center; /* what codes count from: 0 or 8 with an offset, 0 without */
} SamebitsForm;

/* One array: its dtype ("u8", "bf16" or "f16"), its declared row-major shape, and the bytes that are really there. */
typedef struct SamebitsOperand {
  const char *dtype;
  uint64_t rank;
  int64_t shape[2];
  uint64_t size_bytes;
} SamebitsOperand;

typedef struct SamebitsWeightDescription {
  const char *layout;
  const char *form; /* "zero", "offset", "nested-zero" or "nested-offset" */
  int64_t center;
  int64_t group_size;
  SamebitsOperand qdata;                   /* u8[N, K/2], even k in the low nibble */
  SamebitsOperand scale;                   /* bf16 or f16, shaped by the layout; u8 of a nested form */
  SamebitsOperand second;                  /* zero point or offset, as scale */
  SamebitsOperand scale_step, second_step; /* f16[N, K/256] of a nested form */
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
                                             SamebitsShape *shape, SamebitsForm *form, SamebitsRefusal *refusal);

/* `count` groups of a weight, from group `first` of all on; of a nested form, those of whole steps. */
typedef struct SamebitsGroups {
  uint64_t first, count;
  const uint16_t *scale, *second;           /* bf16 or f16 bits, of a form that is not nested */
  const uint8_t *scale_code, *second_code;  /* of a nested one */
  const uint16_t *scale_step, *second_step; /* f16 bits, one for every groups_per_step groups */
  int32_t groups_per_step;
} SamebitsGroups;

/* Checks groups and raises *reach to the largest magnitude that their codes can reach: R of NUMERICS.md. */
SamebitsStatus samebits_validate_groups(const SamebitsForm *form, const SamebitsGroups *groups, double *reach,
                                        SamebitsRefusal *refusal);

/* E_w: the smallest integer with 2^E_w >= reach; 0 when reach is 0. */
SamebitsStatus samebits_weight_exponent(double reach, int32_t *exponent, SamebitsRefusal *refusal);

/* M, the rows that `length` activations of K make. */
SamebitsStatus samebits_validate_rows(uint64_t length, int32_t k, int32_t *m, SamebitsRefusal *refusal);

/*
 * What a weight has of its groups, or of the steps of a nested form, as kernels read it: the scale's in the low half of each word
 * and the other's in the high half, subnormals of bf16 made zeros of their sign; codes in the two bytes of 16 bits.
 */
void samebits_interleave(SamebitsFormKind form, const uint16_t *scale, const uint16_t *second, uint64_t count, uint32_t *words);
void samebits_interleave_codes(const uint8_t *scale, const uint8_t *second, uint64_t count, uint16_t *words);

/* ---- launchers: each returns a cudaError_t as int, 0 when the kernel is in the stream ---- */

struct CUstream_st;

/* Where to launch, and on what. */
typedef struct SamebitsLaunch {
  struct CUstream_st *stream;
  int32_t multiprocessor_count;
  int32_t shared_bytes; /* the most shared memory that a block can have */
  int32_t overlaps;     /* whether a kernel that waits itself may begin before the one before it has ended */
} SamebitsLaunch;

/* Bytes of a row of K quantized activations (activations.cuh). */
uint64_t samebits_quantized_row_bytes(int32_t k, int32_t group_size);

/* x bf16[M, K] -> M quantized rows. */
int samebits_quantize_activations(const SamebitsLaunch *launch, const void *x, void *rows, int32_t m, int32_t k,
                                  int32_t group_size);

/* One packed weight on the device. */
typedef struct SamebitsDeviceWeight {
  SamebitsShape shape;
  SamebitsForm form;
  int32_t weight_exponent; /* E_w */
  void *codes;             /* in tiles (tiles.cuh) */
  void *scales;            /* and what else its groups have */
} SamebitsDeviceWeight;

/* Bytes of both, padding included. */
uint64_t samebits_tiled_code_bytes(const SamebitsShape *shape);
uint64_t samebits_tiled_scale_bytes(const SamebitsShape *shape, SamebitsFormKind form);

/*
 * Put `count` vectors of 16 bytes of qdata, or words of samebits_interleave, or of samebits_interleave_codes with those of their
 * steps, into tiles; the first is element `first` of the whole. Padding must have been zeroed.
 */
int samebits_tile_codes(const SamebitsLaunch *launch, const void *vectors, uint64_t first, uint64_t count,
                        const SamebitsDeviceWeight *weight);
int samebits_tile_scales(const SamebitsLaunch *launch, const uint32_t *words, uint64_t first, uint64_t count,
                         const SamebitsDeviceWeight *weight);
int samebits_tile_nested_scales(const SamebitsLaunch *launch, const uint16_t *codes, const uint32_t *steps, uint64_t first,
                                uint64_t count, const SamebitsDeviceWeight *weight);

/* How the scales of a weight lie in its tiles; one of the first two says nothing. */
typedef struct SamebitsScaleLayout {
  int32_t groups_per_chunk; /* of 128 k */
  int32_t log2_group_chunks;
  int32_t tile_bytes;
} SamebitsScaleLayout;

/* One linear of a step. */
typedef struct SamebitsLinear {
  const void *codes;
  const void *scales;
  void *y;          /* of the pass's first row */
  void *quantized;  /* rows of y as a later step's x, PENDING before; or NULL */
  const void *gate; /* f32[N] that a linear of the step gives, PENDING before: quantized gets gelu(gate) * y; or NULL */
  int32_t n;
  int32_t first_tile, tile_end; /* its tiles among those of the step */
  int32_t weight_exponent;
  int16_t output_bf16;
  int16_t center; /* of the weight's form */
  SamebitsScaleLayout scale_layout;
} SamebitsLinear;

/*
 * The x of a decoder's step that every block makes itself, of what the step before gave (DECODER.md, steps 7 and 8): hidden =
 * mul(add(hidden, RMSNorm(branch, branch_weight)), scalar), x = bf(RMSNorm(hidden, weight)).
 */
typedef struct SamebitsNormedInput {
  const void *branch;        /* f32[n], PENDING before; NULL where x comes quantized */
  const void *branch_weight; /* bf16[n] */
  const void *weight;        /* bf16[n] */
  const void *hidden;        /* f32[n] from before the launch; NULL for what the block left in own_hidden */
  void *own_hidden;          /* f32[blocks][n] */
  void *next_hidden;         /* f32[n] for after the launch; NULL where the next step of this kind reads own_hidden */
  float scalar, epsilon, inverse_n;
  int32_t n; /* at most SAMEBITS_MAX_NORMED */
} SamebitsNormedInput;

/* Linears on the same x that run side by side. */
typedef struct SamebitsStep {
  SamebitsLinear linears[SAMEBITS_LINEARS_PER_STEP];
  const void *x; /* quantized rows */
  int32_t tiles, chunks;
  SamebitsNormedInput normed;
  int64_t padding; /* to whole vectors */
} SamebitsStep;

/* Adds a weight to a step as its next linear; x, y, quantized and output_bf16 are the caller's. */
void samebits_describe_linear(const SamebitsDeviceWeight *weight, SamebitsStep *step, SamebitsLinear *linear);

/* Steps that one launch runs in order, all with M rows of x, the same size of run and weights of one form. */
typedef struct SamebitsWalk {
  const SamebitsStep *steps; /* on the device; on the host when the walk decodes: they go with the launch */
  int32_t count;
  SamebitsFormKind form;
  int32_t m;            /* 1..samebits_rows_per_pass */
  int32_t group_size;   /* 16, or any other */
  int32_t largest_k[2]; /* of the steps with even and with odd numbers */
  int32_t decodes;      /* whether steps have a normed input or a gate; every y is f32 then, and PENDING before if a step reads it */
  void *tails;          /* samebits_tail_bytes, all bytes 0x80 */
} SamebitsWalk;

uint64_t samebits_tail_bytes(const SamebitsLaunch *launch, int32_t steps, int32_t m);

/* Whether this device has room for a walk that decodes, whose normed inputs have n values. */
int32_t samebits_can_decode(const SamebitsLaunch *launch, const SamebitsWalk *walk, int32_t n);

/* Rows of x that one pass takes on this device, 1..SAMEBITS_ROWS_PER_PASS. */
int32_t samebits_rows_per_pass(const SamebitsLaunch *launch, int32_t k, int32_t group_size);

/* Loads every kernel onto the current device, so that no later launch does; fails when the binary has none for it. */
int samebits_load_quantize_activations(void);
int samebits_load_tile_weight(void);
int samebits_load_int4_plain_mm(int32_t shared_bytes);
int samebits_load_baseline_mm(void);

/* y[M, N] = x · wᵀ for every linear of every step; y is f32, or bf16 when output_bf16. */
int samebits_int4_plain_mm(const SamebitsLaunch *launch, const SamebitsWalk *walk);

/* Reads size_bytes (a multiple of 16) of zeros once; sink, one u32, stays untouched. */
int samebits_read_bandwidth(const SamebitsLaunch *launch, const void *data, uint64_t size_bytes, uint32_t *sink);

/* ---- the benchmark's baselines (baseline_mm.cu): the plain kernel that the layout was introduced with ---- */

/* A weight as its parts lie in a file, scale and zero point in either layout. */
typedef struct SamebitsBaselineWeight {
  SamebitsShape shape;
  SamebitsLayout layout;
  int32_t weight_exponent;
  const void *qdata;
  const uint32_t *scale_zero;
} SamebitsBaselineWeight;

uint64_t samebits_baseline_scratch_bytes(int32_t m, int32_t k);

/* x bf16[M, K] -> scratch, then y[M, N] = x · wᵀ, the weight read once for every row. */
int samebits_baseline_quantize(const SamebitsLaunch *launch, const void *x, void *scratch, int32_t m, int32_t k,
                               int32_t group_size);
int samebits_baseline_mm(const SamebitsLaunch *launch, const SamebitsBaselineWeight *weight, const void *scratch, void *y,
                         int32_t m, int32_t output_bf16);

#ifdef __cplusplus
}
#endif

#endif

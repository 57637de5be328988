/*
 * decoder.h: the C interface of the decoder's kernels, one launcher an operation of a step (DECODER.md). Plain C.
 *
 * All pointers are device pointers. A step has M tokens, 1..SAMEBITS_ROWS_PER_PASS, at positions from `position`, which kernels
 * read on the device so that one recorded graph serves every position. Each launcher returns a cudaError_t as int.
 */
#ifndef SAMEBITS_DECODER_H
#define SAMEBITS_DECODER_H

#include "samebits.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
  SAMEBITS_CHUNK_POSITIONS = 256,  /* positions in a chunk of the softmax */
  SAMEBITS_MAX_HEAD_SIZE = 512,
  SAMEBITS_MAX_HIDDEN_SIZE = 16384,
  SAMEBITS_CACHE_HEAD_SIZE = 64    /* heads in the cache are padded to this times a power of two */
};

/* What a step is told, in device memory. */
typedef struct SamebitsStepInput {
  int32_t position; /* of the first token */
  int32_t tokens[SAMEBITS_ROWS_PER_PASS];
} SamebitsStepInput;

/* Where quantized rows go, for linears with runs of 32 and of 16 k; NULL where none reads them. */
typedef struct SamebitsQuantizedRows {
  void *rows[2];
} SamebitsQuantizedRows;

/* hidden = E[token] * scale. */
typedef struct SamebitsEmbed {
  const SamebitsStepInput *input;
  const void *embedding; /* bf16[vocabulary, n] */
  float *hidden;         /* f32[M, n] */
  int32_t n;
  float scale; /* RN32(sqrt(n)) */
} SamebitsEmbed;

int samebits_embed_tokens(const SamebitsLaunch *launch, const SamebitsEmbed *of, int32_t m);

/*
 * Where there is y: next_hidden = mul(add(hidden, RMSNorm(y, branch_weight)), scalar), which must not overlap hidden. Then x =
 * bf(RMSNorm(next_hidden or hidden, next_weight)), quantized.
 */
typedef struct SamebitsNorm {
  const float *hidden;       /* f32[M, n] */
  float *next_hidden;        /* f32[M, n] */
  const float *y;            /* f32[M, n], or NULL */
  const void *branch_weight; /* bf16[n] */
  const void *next_weight;   /* bf16[n] */
  SamebitsQuantizedRows x;
  float scalar; /* 1 changes nothing */
  float epsilon;
  int32_t n;
} SamebitsNorm;

int samebits_rms_norm(const SamebitsLaunch *launch, const SamebitsNorm *of, int32_t m);

/* A layer's attention: its heads, its cache, and what one operation leaves for the next. */
typedef struct SamebitsAttention {
  const SamebitsStepInput *input;
  int32_t heads, key_value_heads, head_size;
  int32_t window; /* positions p with t - p < window are seen; INT32_MAX sees all */
  int32_t slots;  /* of the cache: position p lies in slot p mod slots */
  float epsilon;

  const float *q, *k, *v;             /* f32[M, heads * D], f32[M, key_value_heads * D]; v may be k */
  const void *query_norm, *key_norm;  /* bf16[D] */
  const float *rotary;                /* {cos, sin} f32[M, frequencies] */
  int32_t frequencies;                /* the others turn nothing */

  void *queries, *keys, *values; /* bf16, as attention.cuh lays them out */
  float *scores;                 /* f32[M, heads, chunks, 256]: chunks that the capacity has room for */
  float *chunk_terms;            /* {m, l} f32[M, heads, chunks] */
  float *outputs;                /* f32[M, heads, chunks, D] */
  int32_t chunks;
  SamebitsQuantizedRows attended;
} SamebitsAttention;

/* Bytes of keys, or of values, of one layer; of the queries of a step; and chunks that the positions of a step can touch. */
uint64_t samebits_cache_bytes(int32_t key_value_heads, int32_t head_size, int32_t slots);
uint64_t samebits_query_bytes(int32_t heads, int32_t head_size);
int32_t samebits_chunks_of(int32_t slots);

/* q, k, v to queries and the cache. */
int samebits_rotate_heads(const SamebitsLaunch *launch, const SamebitsAttention *of, int32_t m);
/* queries and keys to scores. */
int samebits_attention_scores(const SamebitsLaunch *launch, const SamebitsAttention *of, int32_t m);
/* scores and values to chunk_terms and outputs. */
int samebits_attention_chunks(const SamebitsLaunch *launch, const SamebitsAttention *of, int32_t m);
/* chunk_terms and outputs to attended. */
int samebits_combine_chunks(const SamebitsLaunch *launch, const SamebitsAttention *of, int32_t m);

/* gated = bf(gelu(gate) * up), quantized. */
typedef struct SamebitsGelu {
  const float *gate, *up; /* f32[M, n] */
  SamebitsQuantizedRows gated;
  int32_t n;
} SamebitsGelu;

int samebits_gated_gelu(const SamebitsLaunch *launch, const SamebitsGelu *of, int32_t m);

/* logits f32[rows, n] in place; cap is positive. */
int samebits_soft_cap(const SamebitsLaunch *launch, float *logits, int32_t n, float cap, int32_t rows);

/* Of logits f32[n]; best must be 0 before, and gets what samebits_token_of reads. */
int samebits_arg_max(const SamebitsLaunch *launch, const float *logits, int32_t n, uint64_t *best);
/* The index of the largest logit, the lowest among equals. */
int32_t samebits_token_of(uint64_t best);

/* Load every kernel onto the current device, so that no later launch does; fail when the binary has none for it. */
int samebits_load_embed_tokens(void);
int samebits_load_rms_norm(void);
int samebits_load_rotate_heads(void);
int samebits_load_attention_scores(void);
int samebits_load_attention_chunks(void);
int samebits_load_combine_chunks(void);
int samebits_load_gated_gelu(void);
int samebits_load_soft_cap(void);
int samebits_load_arg_max(void);

#ifdef __cplusplus
}
#endif

#endif

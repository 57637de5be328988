// Attention of one query head over the cache (DECODER.md, steps 5 and 6).

import { CHUNK_POSITIONS } from './decoder_config.js';
import { add, bf, exp, mul, rcp, treeSum } from './elementary.js';

const PARTIAL_SUMS = 32;

/** Keys or values of one head: those of position p begin at `start(p)`. */
export interface HeadCache {
  readonly data: Float32Array;
  start(position: number): number;
}

/** A chunk's share of the softmax, relative to its largest score. */
export interface ChunkSum {
  readonly largest: number;
  readonly sum: number;
  readonly weighted: Float32Array;
}

/**
 * Softmax of the scores of positions first..last, times their values.
 * @param query f32[D], bf16 values
 * @returns f32[D]
 */
export function attend(
  query: Float32Array,
  keys: HeadCache,
  values: HeadCache,
  first: number,
  last: number,
): Float32Array {
  const chunks: ChunkSum[] = [];
  for (let begin = first; begin <= last; ) {
    const end = Math.min(last + 1, (Math.floor(begin / CHUNK_POSITIONS) + 1) * CHUNK_POSITIONS);
    chunks.push(attendChunk(query, keys, values, begin, end));
    begin = end;
  }
  const largest = chunks.reduce((max, chunk) => Math.max(max, chunk.largest), Number.NEGATIVE_INFINITY);
  let sum = 0;
  const out = new Float32Array(query.length);
  for (const chunk of chunks) {
    const factor = exp(add(chunk.largest, -largest));
    sum = add(sum, mul(chunk.sum, factor));
    for (let i = 0; i < out.length; i++) out[i] = out[i]! + mul(chunk.weighted[i]!, factor);
  }
  const inverse = rcp(sum);
  return out.map((weighted) => weighted * inverse);
}

/** Positions begin..end - 1, all of one chunk. */
export function attendChunk(
  query: Float32Array,
  keys: HeadCache,
  values: HeadCache,
  begin: number,
  end: number,
): ChunkSum {
  const scores = new Float32Array(end - begin);
  for (let p = begin; p < end; p++) scores[p - begin] = score(query, keys.data, keys.start(p));
  const largest = scores.reduce((max, of) => Math.max(max, of), Number.NEGATIVE_INFINITY);
  const slots = new Float32Array(CHUNK_POSITIONS);
  const weighted = new Float32Array(query.length);
  for (let p = begin; p < end; p++) {
    const e = bf(exp(add(scores[p - begin]!, -largest)));
    slots[p % CHUNK_POSITIONS] = e;
    const start = values.start(p);
    for (let i = 0; i < weighted.length; i++) weighted[i] = weighted[i]! + e * values.data[start + i]!;
  }
  return { largest, sum: treeSum(slots), weighted };
}

/** Products of two bf16 are exact, so that only sums are rounded. */
function score(query: Float32Array, keys: Float32Array, start: number): number {
  const partial = new Float32Array(PARTIAL_SUMS);
  for (let i = 0; i < query.length; i++) {
    partial[i % PARTIAL_SUMS] = partial[i % PARTIAL_SUMS]! + query[i]! * keys[start + i]!;
  }
  return treeSum(partial);
}

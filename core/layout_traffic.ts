// What one warp's reads of scales cost in memory: counted cache lines and bytes, in either layout.

import { BLOCK_SIZE, type WeightShape } from './limits.js';
import { runSize } from './reference.js';
import type { ScaleLayout } from './validate.js';

/** Lanes that read together; lane i takes block i of 32 consecutive blocks of a weight row, 16 bytes of codes. */
export const WARP_LANES = 32;
/** What a GPU fetches at a time, and what is counted. */
export const CACHE_LINE_BYTES = 128;
/** bf16. */
export const SCALE_BYTES = 2;

/** One lane's read of one scale. */
export interface ScaleRead {
  readonly lane: number;
  /** Group of the row: floor(k / groupSize). */
  readonly group: number;
  /** From the start of the scales, which begin at a cache line. */
  readonly byteOffset: number;
  /** byteOffset / CACHE_LINE_BYTES, rounded down. */
  readonly line: number;
}

/** One step of a warp along a row of the weight: 32 blocks, or what is left of the row. */
export interface WarpRead {
  readonly reads: readonly ScaleRead[];
  /** The distinct cache lines, ascending. */
  readonly lines: readonly number[];
  /** Bytes of distinct scales. */
  readonly neededBytes: number;
  /** Bytes of the lines that hold them. */
  readonly fetchedBytes: number;
}

/** Steps that a warp takes along one row. */
export function warpSteps({ k }: WeightShape): number {
  return Math.ceil(k / (BLOCK_SIZE * WARP_LANES));
}

/**
 * The scales that the warp on weight row `row` reads in step `step`; its zero points cost the same again.
 * With groupSize 16 a lane's block has two groups, so a lane reads two scales.
 */
export function warpScaleRead(shape: WeightShape, layout: ScaleLayout, row: number, step: number): WarpRead {
  const { n, k, groupSize, nGroups } = shape;
  const reads: ScaleRead[] = [];
  for (let lane = 0; lane < WARP_LANES; lane++) {
    const firstK = (step * WARP_LANES + lane) * BLOCK_SIZE;
    for (let at = firstK; at < Math.min(firstK + BLOCK_SIZE, k); at += runSize(groupSize)) {
      const group = Math.floor(at / groupSize);
      const byteOffset = SCALE_BYTES * (layout === 'coalesced' ? row * nGroups + group : group * n + row);
      reads.push({ lane, group, byteOffset, line: Math.floor(byteOffset / CACHE_LINE_BYTES) });
    }
  }
  const lines = [...new Set(reads.map(({ line }) => line))].sort((a, b) => a - b);
  const neededBytes = SCALE_BYTES * new Set(reads.map(({ group }) => group)).size;
  return { reads, lines, neededBytes, fetchedBytes: lines.length * CACHE_LINE_BYTES };
}

/** Lines and bytes of a whole row: every step of its warp, nothing kept from one to the next. */
export function rowScaleTraffic(
  shape: WeightShape,
  layout: ScaleLayout,
  row: number,
): { readonly lines: number; readonly neededBytes: number; readonly fetchedBytes: number } {
  let lines = 0;
  for (let step = 0; step < warpSteps(shape); step++) lines += warpScaleRead(shape, layout, row, step).lines.length;
  return { lines, neededBytes: shape.nGroups * SCALE_BYTES, fetchedBytes: lines * CACHE_LINE_BYTES };
}

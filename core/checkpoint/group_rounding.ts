// Rounds scales and offsets to the bf16 pairs of the operator, a chunk of groups at a time, and keeps what that took.

import { MAX_ZERO_POINT } from '../limits.js';
import type { SourceGroups } from './source_weight.js';

/** Groups of one call of a kernel: so many stay in the first-level cache, and engines optimize what is called often. */
export const CHUNK_GROUPS = 512;

const MAGNITUDE_BITS = 0x7fffffff;
const HIGH_HALF = ~0xffff;
// Magnitudes as f32 bits compare as integers. The smallest that does not round to a subnormal bf16, the largest that does not
// round to infinity, and MAX_ZERO_POINT.
const SMALLEST_BITS = 0x007f8000;
const LARGEST_BITS = 0x7f7f7fff;
const MAX_ZERO_BITS = new Int32Array(Float32Array.of(MAX_ZERO_POINT).buffer)[0]!;

/** What became of a chunk of groups. Good until the next one is rounded. */
export interface RoundedGroups {
  /** What the source says. */
  readonly scale: Float64Array;
  readonly offset: Float64Array;
  /** A weight `scale * q + offset` became `(scale - slope) * q + (offset - shift)`. */
  readonly slope: Float64Array;
  readonly shift: Float64Array;
  /** Groups whose weights changed, whatever their codes. */
  readonly changedCount: number;
  /** Groups that are no scale and zero point for the operator: they were rounded to 0. */
  readonly special: readonly number[];
  /** The group that can reach the largest weight, and that weight. */
  readonly furthest: number;
  readonly reach: number;
}

// The memory of the chunk that is worked on. Engines know all of arrays that never change, which halves what a loop costs.
const scale = new Float64Array(CHUNK_GROUPS);
const offset = new Float64Array(CHUNK_GROUPS);
const slope = new Float64Array(CHUNK_GROUPS);
const shift = new Float64Array(CHUNK_GROUPS);
// f32 and its bits side by side: each loop below reads one and writes the other.
const scale32 = new Float32Array(CHUNK_GROUPS);
const scaleBits = new Int32Array(scale32.buffer);
const zero32 = new Float32Array(CHUNK_GROUPS);
const zeroBits = new Int32Array(zero32.buffer);

/** Rounds groups `first`..`end` and writes their bf16 bits to the same places of `scaleOut` and `zeroPointOut`. */
export function roundGroups(
  groups: SourceGroups,
  first: number,
  end: number,
  scaleOut: Uint16Array,
  zeroPointOut: Uint16Array,
): RoundedGroups {
  const count = end - first;
  groups.read(first, end, scale, offset);
  divide(count);
  const special = hasSpecial(count) ? takeSpecial(count) : [];
  round(count, first, scaleOut, zeroPointOut);
  const changedCount = compare(count);
  const furthest = furthestGroup(count);
  const reach = reachOf(scale32[furthest]!, zero32[furthest]!);
  return { scale, offset, slope, shift, changedCount, special, furthest, reach };
}

function divide(count: number): void {
  for (let g = 0; g < count; g++) {
    scale32[g] = scale[g]!;
    zero32[g] = -offset[g]! / scale[g]!;
  }
}

/** Whether a scale counts as 0 or is not finite, a zero point counts as 0 or lies beyond its reach, once rounded to bf16. */
function hasSpecial(count: number): boolean {
  let special = 0;
  for (let g = 0; g < count; g++) {
    const s = scaleBits[g]! & MAGNITUDE_BITS;
    const z = zeroBits[g]! & MAGNITUDE_BITS;
    special |= (s - SMALLEST_BITS) | (LARGEST_BITS - s) | (z - SMALLEST_BITS) | (MAX_ZERO_BITS - z);
  }
  return special < 0;
}

/** Sets to 0 what is no scale and zero point for the operator, and gives those groups. */
function takeSpecial(count: number): readonly number[] {
  const special: number[] = [];
  for (let g = 0; g < count; g++) {
    const s = scaleBits[g]! & MAGNITUDE_BITS;
    const z = zeroBits[g]! & MAGNITUDE_BITS;
    if (s < SMALLEST_BITS || s > LARGEST_BITS || z > MAX_ZERO_BITS) {
      special.push(g);
      scaleBits[g] = 0;
      zeroBits[g] = 0;
    } else if (z < SMALLEST_BITS) {
      // A subnormal counts as 0 in the operator, so it is stored as 0.
      zeroBits[g] = 0;
    }
  }
  return special;
}

/** f32 bits to those of the nearest bf16, ties to even. */
function round(count: number, first: number, scaleOut: Uint16Array, zeroPointOut: Uint16Array): void {
  for (let g = 0; g < count; g++) {
    const s = scaleBits[g]!;
    const z = zeroBits[g]!;
    const roundedScale = (s + 0x7fff + ((s >>> 16) & 1)) & HIGH_HALF;
    const roundedZero = (z + 0x7fff + ((z >>> 16) & 1)) & HIGH_HALF;
    scaleBits[g] = roundedScale;
    zeroBits[g] = roundedZero;
    scaleOut[first + g] = roundedScale >>> 16;
    zeroPointOut[first + g] = roundedZero >>> 16;
  }
}

/** What the rounding took; gives the number of groups in which that is anything. */
function compare(count: number): number {
  let changed = 0;
  for (let g = 0; g < count; g++) {
    const s = scale32[g]!;
    const a = scale[g]! - s;
    const b = offset[g]! + zero32[g]! * s;
    slope[g] = a;
    shift[g] = b;
    if (a !== 0 || b !== 0) changed++;
  }
  return changed;
}

/** |s| * max(|z|, |15 - z|), the largest weight that codes can reach. */
function reachOf(s: number, z: number): number {
  return Math.abs(s) * (z > 7.5 ? z : 15 - z);
}

function furthestGroup(count: number): number {
  let furthest = 0;
  let largest = 0;
  for (let g = 0; g < count; g++) {
    const reach = reachOf(scale32[g]!, zero32[g]!);
    if (reach <= largest) continue;
    largest = reach;
    furthest = g;
  }
  return furthest;
}

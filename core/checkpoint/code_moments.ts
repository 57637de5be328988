// Sums over packed codes and their squares, from which the sums over dequantized weights and their changes follow.

import type { RoundedGroups } from './group_rounding.js';

/** For each four codes of 16 bits: their sum in the low half, the sum of their squares in the high half. */
const MOMENTS = new Int32Array(65536);
for (let codes = 0; codes < MOMENTS.length; codes++) {
  const [a, b, c, d] = [codes & 15, (codes >> 4) & 15, (codes >> 8) & 15, codes >> 12];
  MOMENTS[codes] = (a + b + c + d) | ((a * a + b * b + c * c + d * d) << 16);
}

export const CODES_PER_WORD = 8;
/** So many words' sums of squares fit the 16 bits that the table packs them in. */
const CHUNK_WORDS = 32;

/** Sums over weights, and the largest change. */
export interface ChangeSums {
  sumOfSquares: number;
  sumOfSquaredChanges: number;
  largestChange: number;
}

/** Adds what groups `first`..`end`, whose codes lie in `words`, contribute to `sums`. */
export function addChanges(
  words: Int32Array,
  wordsPerGroup: number,
  { scale, offset, slope, shift }: RoundedGroups,
  first: number,
  end: number,
  sums: ChangeSums,
): void {
  const codes = wordsPerGroup * CODES_PER_WORD;
  let { sumOfSquares, sumOfSquaredChanges, largestChange } = sums;
  for (let g = 0, from = first * wordsPerGroup; g < end - first; g++, from += wordsPerGroup) {
    let q1 = 0;
    let q2 = 0;
    for (let i = from; i < from + wordsPerGroup; i += CHUNK_WORDS) {
      const packed = momentsOf(words, i, Math.min(i + CHUNK_WORDS, from + wordsPerGroup));
      q1 += packed & 0xffff;
      q2 += packed >>> 16;
    }
    const s = scale[g]!;
    const o = offset[g]!;
    sumOfSquares += s * (s * q2 + 2 * o * q1) + codes * o * o;
    const a = slope[g]!;
    const b = shift[g]!;
    sumOfSquaredChanges += a * (a * q2 + 2 * b * q1) + codes * b * b;
    // The codes themselves are needed only where the group could hold the largest change.
    const ends = Math.max(Math.abs(b), Math.abs(15 * a + b));
    if (ends > largestChange)
      largestChange = Math.max(largestChange, largestIn(words, from, from + wordsPerGroup, a, b));
  }
  sums.sumOfSquares = sumOfSquares;
  sums.sumOfSquaredChanges = sumOfSquaredChanges;
  sums.largestChange = largestChange;
}

/** Of an even number of words, four at a time: what a loop costs is as much as what it does here. */
function momentsOf(words: Int32Array, first: number, end: number): number {
  let packed = 0;
  let i = first;
  for (; i + 3 < end; i += 4) {
    const a = words[i]!;
    const b = words[i + 1]!;
    const c = words[i + 2]!;
    const d = words[i + 3]!;
    packed =
      (packed +
        MOMENTS[a & 0xffff]! +
        MOMENTS[a >>> 16]! +
        MOMENTS[b & 0xffff]! +
        MOMENTS[b >>> 16]! +
        MOMENTS[c & 0xffff]! +
        MOMENTS[c >>> 16]! +
        MOMENTS[d & 0xffff]! +
        MOMENTS[d >>> 16]!) |
      0;
  }
  for (; i < end; i++) packed = (packed + MOMENTS[words[i]! & 0xffff]! + MOMENTS[words[i]! >>> 16]!) | 0;
  return packed;
}

function largestIn(words: Int32Array, first: number, last: number, slope: number, shift: number): number {
  let largest = 0;
  for (let i = first; i < last; i++) {
    for (let bit = 0; bit < 32; bit += 4) {
      largest = Math.max(largest, Math.abs(slope * ((words[i]! >>> bit) & 15) + shift));
    }
  }
  return largest;
}

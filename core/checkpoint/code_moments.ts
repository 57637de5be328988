// Sums over packed codes and their squares, from which the sums over dequantized weights and their changes follow.

import { CHUNK_GROUPS, type RoundedGroups } from './group_rounding.js';

/** For each three codes of 12 bits: their sum in the low half, the sum of their squares in the high half. Fits the L1 cache. */
const MOMENTS = new Int32Array(4096);
for (let codes = 0; codes < MOMENTS.length; codes++) {
  const [a, b, c] = [codes & 15, (codes >> 4) & 15, codes >> 8];
  MOMENTS[codes] = (a + b + c) | ((a * a + b * b + c * c) << 16);
}

export const CODES_PER_WORD = 8;

// For each group of the chunk that is worked on: the sum of its codes, and of their squares.
const codeSums = new Int32Array(CHUNK_GROUPS);
const squareSums = new Int32Array(CHUNK_GROUPS);

/** Sums over weights, and the largest change. */
export interface ChangeSums {
  sumOfSquares: number;
  sumOfSquaredChanges: number;
  largestChange: number;
}

/** Adds what a chunk of groups contributes to `sums`; the codes of the first one start at word `first`. */
export function addChanges(
  words: Int32Array,
  first: number,
  wordsPerGroup: number,
  count: number,
  { scale, offset, slope, shift }: RoundedGroups,
  sums: ChangeSums,
): void {
  sumCodes(words, first, wordsPerGroup, count);
  const codes = wordsPerGroup * CODES_PER_WORD;
  let { sumOfSquares, sumOfSquaredChanges, largestChange } = sums;
  for (let g = 0; g < count; g++) {
    const q1 = codeSums[g]!;
    const q2 = squareSums[g]!;
    const s = scale[g]!;
    const o = offset[g]!;
    sumOfSquares += s * (s * q2 + 2 * o * q1) + codes * o * o;
    const a = slope[g]!;
    const b = shift[g]!;
    sumOfSquaredChanges += a * (a * q2 + 2 * b * q1) + codes * b * b;
    // The codes themselves are needed only where the group could hold the largest change.
    const ends = Math.max(Math.abs(b), Math.abs(15 * a + b));
    if (ends <= largestChange) continue;
    const from = first + g * wordsPerGroup;
    largestChange = Math.max(largestChange, largestIn(words, from, from + wordsPerGroup, a, b));
  }
  sums.sumOfSquares = sumOfSquares;
  sums.sumOfSquaredChanges = sumOfSquaredChanges;
  sums.largestChange = largestChange;
}

function sumCodes(words: Int32Array, first: number, wordsPerGroup: number, count: number): void {
  for (let g = 0, i = first; g < count; g++) {
    const end = i + wordsPerGroup;
    let q1 = 0;
    let q2 = 0;
    // Four words at a time: a loop costs more than what it would do here.
    for (; i + 4 <= end; i += 4) {
      const moments =
        (momentsOf(words[i]!) + momentsOf(words[i + 1]!) + momentsOf(words[i + 2]!) + momentsOf(words[i + 3]!)) | 0;
      q1 += moments & 0xffff;
      q2 += moments >>> 16;
    }
    for (; i < end; i++) {
      const moments = momentsOf(words[i]!);
      q1 += moments & 0xffff;
      q2 += moments >>> 16;
    }
    codeSums[g] = q1;
    squareSums[g] = q2;
  }
}

function momentsOf(word: number): number {
  return MOMENTS[word & 0xfff]! + MOMENTS[(word >>> 12) & 0xfff]! + MOMENTS[word >>> 24]!;
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

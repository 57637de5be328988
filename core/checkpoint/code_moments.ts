// Sums over packed codes and their squares, from which the sums over dequantized weights and their changes follow.

/** For each four codes of 16 bits: their sum in the low half, the sum of their squares in the high half. */
const MOMENTS = new Int32Array(65536);
for (let codes = 0; codes < MOMENTS.length; codes++) {
  const [a, b, c, d] = [codes & 15, (codes >> 4) & 15, (codes >> 8) & 15, codes >> 12];
  MOMENTS[codes] = (a + b + c + d) | ((a * a + b * b + c * c + d * d) << 16);
}

export const CODES_PER_WORD = 8;
/** So many words' sums of squares fit the 16 bits that the table packs them in. */
const CHUNK_WORDS = 32;

/** Groups of weights `s * q + o` that became `(s - slope) * q + (o - shift)`, for the codes q of `words`. */
export interface ChangedGroups {
  readonly words: Int32Array;
  readonly wordsPerGroup: number;
  readonly scale: Float64Array;
  readonly offset: Float64Array;
  readonly slope: Float64Array;
  readonly shift: Float64Array;
}

/** Sums over weights, and the largest change. */
export interface ChangeSums {
  sumOfSquares: number;
  sumOfSquaredChanges: number;
  largestChange: number;
}

/** Adds what groups `from`..`to` contribute to `sums`. */
export function addChanges(groups: ChangedGroups, from: number, to: number, sums: ChangeSums): void {
  const { words, wordsPerGroup, scale, offset, slope, shift } = groups;
  const codes = wordsPerGroup * CODES_PER_WORD;
  let { sumOfSquares, sumOfSquaredChanges, largestChange } = sums;
  for (let g = from, first = from * wordsPerGroup; g < to; g++, first += wordsPerGroup) {
    const last = first + wordsPerGroup;
    let q1 = 0;
    let q2 = 0;
    for (let start = first; start < last; start += CHUNK_WORDS) {
      const end = start + CHUNK_WORDS < last ? start + CHUNK_WORDS : last;
      let packed = 0;
      for (let i = start; i < end; i++) {
        const word = words[i]!;
        packed = (packed + MOMENTS[word & 0xffff]! + MOMENTS[word >>> 16]!) | 0;
      }
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
    if (ends > largestChange) largestChange = Math.max(largestChange, largestIn(words, first, last, a, b));
  }
  sums.sumOfSquares = sumOfSquares;
  sums.sumOfSquaredChanges = sumOfSquaredChanges;
  sums.largestChange = largestChange;
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

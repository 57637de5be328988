// Shuffles of 4-bit codes between the orders that formats keep them in and qdata's: even k low, odd k high, rows of K/2.

import { type ColumnRange, TILE } from './transpose.js';

/** Column of the eight that each nibble of an AWQ word holds, from the low nibble up. */
export const AWQ_ORDER: readonly number[] = [0, 2, 4, 6, 1, 3, 5, 7];

/**
 * AWQ's codes, packed along N: u32[K, columns], each word for eight neighbouring n of one k, to u32[columns * 8, K/8], a word
 * for eight neighbouring k of one n. Eight words at a time are a square of 8 x 8 nibbles, transposed in three rounds of
 * swapping halves.
 */
export function transposeAwq(source: Uint32Array, range: ColumnRange, out: Uint32Array): void {
  const words = range.rows / 8;
  for (let column = 0; column < range.columns; column += TILE) {
    const columnEnd = Math.min(column + TILE, range.columns);
    for (let word = 0; word < words; word += TILE) {
      transposeAwqTile(source, range, out, word, Math.min(word + TILE, words), column, columnEnd);
    }
  }
}

function transposeAwqTile(
  source: Uint32Array,
  { stride, column, rows: k }: ColumnRange,
  out: Uint32Array,
  firstWord: number,
  wordEnd: number,
  firstColumn: number,
  columnEnd: number,
): void {
  const outWords = k / 8;
  for (let w = firstWord; w < wordEnd; w++) {
    for (let c = firstColumn; c < columnEnd; c++) {
      transposeSquare(source, w * 8 * stride + column + c, stride, out, c * 8 * outWords + w, outWords);
    }
  }
}

function transposeSquare(
  source: Uint32Array,
  from: number,
  stride: number,
  out: Uint32Array,
  to: number,
  outStride: number,
): void {
  let a = source[from]!;
  let b = source[from + stride]!;
  let c = source[from + 2 * stride]!;
  let d = source[from + 3 * stride]!;
  let e = source[from + 4 * stride]!;
  let f = source[from + 5 * stride]!;
  let g = source[from + 6 * stride]!;
  let h = source[from + 7 * stride]!;
  let t = ((a >>> 16) ^ e) & 0xffff;
  e ^= t;
  a ^= t << 16;
  t = ((b >>> 16) ^ f) & 0xffff;
  f ^= t;
  b ^= t << 16;
  t = ((c >>> 16) ^ g) & 0xffff;
  g ^= t;
  c ^= t << 16;
  t = ((d >>> 16) ^ h) & 0xffff;
  h ^= t;
  d ^= t << 16;

  t = ((a >>> 8) ^ c) & 0x00ff00ff;
  c ^= t;
  a ^= t << 8;
  t = ((b >>> 8) ^ d) & 0x00ff00ff;
  d ^= t;
  b ^= t << 8;
  t = ((e >>> 8) ^ g) & 0x00ff00ff;
  g ^= t;
  e ^= t << 8;
  t = ((f >>> 8) ^ h) & 0x00ff00ff;
  h ^= t;
  f ^= t << 8;

  t = ((a >>> 4) ^ b) & 0x0f0f0f0f;
  b ^= t;
  a ^= t << 4;
  t = ((c >>> 4) ^ d) & 0x0f0f0f0f;
  d ^= t;
  c ^= t << 4;
  t = ((e >>> 4) ^ f) & 0x0f0f0f0f;
  f ^= t;
  e ^= t << 4;
  t = ((g >>> 4) ^ h) & 0x0f0f0f0f;
  h ^= t;
  g ^= t << 4;

  // a..h now hold nibble 0..7 of all eight words; AWQ_ORDER says which column each nibble is.
  out[to] = a;
  out[to + 2 * outStride] = b;
  out[to + 4 * outStride] = c;
  out[to + 6 * outStride] = d;
  out[to + outStride] = e;
  out[to + 3 * outStride] = f;
  out[to + 5 * outStride] = g;
  out[to + 7 * outStride] = h;
}

/** Two's complement codes -8..7 to unsigned ones, in place: q = s + 8 flips the top bit of every nibble. */
export function flipSigns(words: Uint32Array): void {
  for (let i = 0; i < words.length; i++) words[i] = words[i]! ^ 0x88888888;
}

/**
 * One code -8..7 a byte to q = s + 8, two a byte.
 * @returns the index of the first word that holds anything else, or -1
 */
export function packSigned(source: Uint32Array, out: Uint16Array): number {
  for (let i = 0; i < source.length; i++) {
    const word = source[i]!;
    const codes = ((word & 0x7f7f7f7f) + 0x08080808) ^ (word & 0x80808080);
    if ((codes & 0xf0f0f0f0) !== 0) return i;
    out[i] = gather(codes);
  }
  return -1;
}

/** Four codes in the low nibbles of four bytes as 16 bits, the first lowest. */
function gather(codes: number): number {
  const pairs = codes | (codes >>> 4);
  return (pairs & 0xff) | ((pairs >>> 8) & 0xff00);
}

// AWQ's codes, packed along N, turned into rows packed along K: squares of 8 x 8 nibbles, four side by side in registers.

/** Columns that are turned in registers. */
const COLUMNS: usize = 4;
/** Rows that become four words; K is a multiple of it. */
const ROWS: usize = 32;
// A tile fills lines of the cache in rows of the source and of the result, whose strides may put them all in a few sets.
const TILE_COLUMNS: usize = 16 * COLUMNS;
const TILE_ROWS: usize = 4 * ROWS;

/** The nibbles of the words of a tile: v128[16, 16, 8], each four columns. */
const turned: usize = memory.data(16 * 16 * 8 * 16, 16);
const WORD_BYTES: usize = 8 * 16;
const PANEL_BYTES: usize = 16 * 8 * 16;

/**
 * u32[k, columns], each word for eight neighbouring n of one k, to u32[columns * 8, k / 8], a word for eight neighbouring k of
 * one n. May read 12 bytes past the last row.
 * @param stride bytes from a row of the source to the next
 */
export function transposeAwq(source: usize, stride: usize, k: usize, columns: usize, out: usize): void {
  const outStride: usize = k / 2;
  for (let row: usize = 0; row < k; row += TILE_ROWS) {
    const rows = min(TILE_ROWS, k - row);
    for (let c: usize = 0; c < columns; c += TILE_COLUMNS) {
      const width = min(TILE_COLUMNS, columns - c);
      const from = source + row * stride + 4 * c;
      for (let r: usize = 0; r < rows; r += 8) {
        let to = turned + (r / 8) * WORD_BYTES;
        for (let i: usize = 0; i < width; i += COLUMNS, to += PANEL_BYTES) {
          turnNibbles(from + r * stride + 4 * i, stride, to);
        }
      }
      let panel = turned;
      for (let i: usize = 0; i < width; i += COLUMNS, panel += PANEL_BYTES) {
        storePanel(panel, rows, out + 8 * (c + i) * outStride + row / 2, outStride, width - i);
      }
    }
  }
}

/** Up to four columns of all eight nibbles; which are columns 0, 2, 4, 6, 1, 3, 5, 7 of eight. */
function storePanel(panel: usize, rows: usize, to: usize, outStride: usize, columns: usize): void {
  for (let nibble: usize = 0; nibble < 8; nibble++) {
    const column: usize = ((nibble << 1) & 6) + (nibble >> 2);
    for (let r: usize = 0; r < rows; r += ROWS) {
      storeColumns(panel + (r / 8) * WORD_BYTES + 16 * nibble, to + column * outStride + r / 2, outStride, columns);
    }
  }
}

/** Of four columns of eight words: vector i becomes nibble i of each word, in three rounds of swapping halves. */
function turnNibbles(from: usize, stride: usize, to: usize): void {
  const a = v128.load(from);
  const b = v128.load(from + stride);
  const c = v128.load(from + 2 * stride);
  const d = v128.load(from + 3 * stride);
  const e = v128.load(from + 4 * stride);
  const f = v128.load(from + 5 * stride);
  const g = v128.load(from + 6 * stride);
  const h = v128.load(from + 7 * stride);
  const a1 = evenHalves(a, e);
  const e1 = oddHalves(a, e);
  const b1 = evenHalves(b, f);
  const f1 = oddHalves(b, f);
  const c1 = evenHalves(c, g);
  const g1 = oddHalves(c, g);
  const d1 = evenHalves(d, h);
  const h1 = oddHalves(d, h);
  swapNibbles(evenBytes(a1, c1), evenBytes(b1, d1), to);
  swapNibbles(oddBytes(a1, c1), oddBytes(b1, d1), to + 32);
  swapNibbles(evenBytes(e1, g1), evenBytes(f1, h1), to + 64);
  swapNibbles(oddBytes(e1, g1), oddBytes(f1, h1), to + 96);
}

// Shifts and blends: engines make one instruction of each, and many of a shuffle that is not among those they know.

function evenHalves(low: v128, high: v128): v128 {
  return v128.shuffle<i16>(low, i32x4.shl(high, 16), 0, 9, 2, 11, 4, 13, 6, 15);
}

function oddHalves(low: v128, high: v128): v128 {
  return v128.shuffle<i16>(i32x4.shr_u(low, 16), high, 0, 9, 2, 11, 4, 13, 6, 15);
}

function evenBytes(low: v128, high: v128): v128 {
  return v128.or(v128.and(low, i16x8.splat(0x00ff)), i16x8.shl(high, 8));
}

function oddBytes(low: v128, high: v128): v128 {
  return v128.or(i16x8.shr_u(low, 8), v128.and(high, i16x8.splat(<i16>0xff00)));
}

/** Stores the even nibbles of both, then the odd ones. */
function swapNibbles(low: v128, high: v128, to: usize): void {
  const swapped = v128.and(v128.xor(i16x8.shr_u(low, 4), high), i8x16.splat(15));
  v128.store(to, v128.xor(low, i16x8.shl(swapped, 4)));
  v128.store(to + 16, v128.xor(high, swapped));
}

/** One nibble of up to four columns, four words: to rows eight apart. */
function storeColumns(from: usize, to: usize, outStride: usize, columns: usize): void {
  const a = v128.load(from);
  const b = v128.load(from + WORD_BYTES);
  const c = v128.load(from + 2 * WORD_BYTES);
  const d = v128.load(from + 3 * WORD_BYTES);
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
  if (columns > 1) v128.store(to + 8 * outStride, v128.shuffle<i64>(ab, cd, 1, 3));
  if (columns < 3) return;
  const abHigh = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const cdHigh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(to + 16 * outStride, v128.shuffle<i64>(abHigh, cdHigh, 0, 2));
  if (columns > 3) v128.store(to + 24 * outStride, v128.shuffle<i64>(abHigh, cdHigh, 1, 3));
}

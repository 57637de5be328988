// Matrices that formats keep the other way round, turned into rows: squares in registers, tiles in the cache.

/** Rows of a tile: of 32-bit words, a line of the cache. */
const TILE: usize = 16;

/**
 * u32[rows, columns] -> u32[columns, rows]
 * @param stride bytes from a row of the source to the next
 */
export function transpose32(source: usize, stride: usize, rows: usize, columns: usize, out: usize): void {
  transpose<u32>(source, stride, rows, columns, out);
}

/** As above, of u16. */
export function transpose16(source: usize, stride: usize, rows: usize, columns: usize, out: usize): void {
  transpose<u16>(source, stride, rows, columns, out);
}

function transpose<T>(source: usize, stride: usize, rows: usize, columns: usize, out: usize): void {
  const bytes: usize = sizeof<T>();
  const square: usize = 16 / bytes;
  const outStride = bytes * rows;
  const wholeRows = rows - (rows % square);
  const wholeColumns = columns - (columns % square);
  for (let r: usize = 0; r < wholeRows; r += TILE) {
    const rowEnd = min(r + TILE, wholeRows);
    for (let c: usize = 0; c < wholeColumns; c += square) {
      for (let row = r; row < rowEnd; row += square) {
        const from = source + row * stride + bytes * c;
        const to = out + c * outStride + bytes * row;
        if (sizeof<T>() === 4) square32(from, stride, to, outStride);
        else square16(from, stride, to, outStride);
      }
    }
  }
  for (let c: usize = 0; c < columns; c++) {
    const first = c < wholeColumns ? wholeRows : 0;
    for (let r = first; r < rows; r++)
      store<T>(out + c * outStride + bytes * r, load<T>(source + r * stride + bytes * c));
  }
}

/** 4 x 4 words. */
function square32(from: usize, stride: usize, to: usize, outStride: usize): void {
  const a = v128.load(from);
  const b = v128.load(from + stride);
  const c = v128.load(from + 2 * stride);
  const d = v128.load(from + 3 * stride);
  const ab = v128.shuffle<i32>(a, b, 0, 4, 1, 5);
  const cd = v128.shuffle<i32>(c, d, 0, 4, 1, 5);
  const abHigh = v128.shuffle<i32>(a, b, 2, 6, 3, 7);
  const cdHigh = v128.shuffle<i32>(c, d, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(ab, cd, 0, 2));
  v128.store(to + outStride, v128.shuffle<i64>(ab, cd, 1, 3));
  v128.store(to + 2 * outStride, v128.shuffle<i64>(abHigh, cdHigh, 0, 2));
  v128.store(to + 3 * outStride, v128.shuffle<i64>(abHigh, cdHigh, 1, 3));
}

/** 8 x 8 half words, in three rounds that interleave: neighbours in pairs, pairs in fours, fours in rows of eight. */
function square16(from: usize, stride: usize, to: usize, outStride: usize): void {
  const a = v128.load(from);
  const b = v128.load(from + stride);
  const c = v128.load(from + 2 * stride);
  const d = v128.load(from + 3 * stride);
  const e = v128.load(from + 4 * stride);
  const f = v128.load(from + 5 * stride);
  const g = v128.load(from + 6 * stride);
  const h = v128.load(from + 7 * stride);
  const ab = v128.shuffle<i16>(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  const cd = v128.shuffle<i16>(c, d, 0, 8, 1, 9, 2, 10, 3, 11);
  const ef = v128.shuffle<i16>(e, f, 0, 8, 1, 9, 2, 10, 3, 11);
  const gh = v128.shuffle<i16>(g, h, 0, 8, 1, 9, 2, 10, 3, 11);
  eightRows(ab, cd, ef, gh, to, outStride);
  const abHigh = v128.shuffle<i16>(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  const cdHigh = v128.shuffle<i16>(c, d, 4, 12, 5, 13, 6, 14, 7, 15);
  const efHigh = v128.shuffle<i16>(e, f, 4, 12, 5, 13, 6, 14, 7, 15);
  const ghHigh = v128.shuffle<i16>(g, h, 4, 12, 5, 13, 6, 14, 7, 15);
  eightRows(abHigh, cdHigh, efHigh, ghHigh, to + 4 * outStride, outStride);
}

/** Four columns of eight, from the pairs of rows that hold them. */
function eightRows(ab: v128, cd: v128, ef: v128, gh: v128, to: usize, outStride: usize): void {
  const low = v128.shuffle<i32>(ab, cd, 0, 4, 1, 5);
  const lowEnd = v128.shuffle<i32>(ef, gh, 0, 4, 1, 5);
  const high = v128.shuffle<i32>(ab, cd, 2, 6, 3, 7);
  const highEnd = v128.shuffle<i32>(ef, gh, 2, 6, 3, 7);
  v128.store(to, v128.shuffle<i64>(low, lowEnd, 0, 2));
  v128.store(to + outStride, v128.shuffle<i64>(low, lowEnd, 1, 3));
  v128.store(to + 2 * outStride, v128.shuffle<i64>(high, highEnd, 0, 2));
  v128.store(to + 3 * outStride, v128.shuffle<i64>(high, highEnd, 1, 3));
}

// Matrices that formats keep the other way round, turned into rows.

/** Columns `column`... of a matrix [rows, stride], as many as the result has rows. */
export interface ColumnRange {
  readonly stride: number;
  readonly column: number;
  readonly rows: number;
  readonly columns: number;
}

/** Words of a tile's side: a line of the cache. */
export const TILE = 16;
/** Of the squares in a tile that are turned in registers: a loop costs more than what it would do here. */
const SQUARE = 4;

/** u32[rows, columns] -> u32[columns, rows] */
export function transposeWords(source: Uint32Array, range: ColumnRange, out: Uint32Array): void {
  const { stride, column, rows, columns } = range;
  const wholeRows = rows - (rows % SQUARE);
  const wholeColumns = columns - (columns % SQUARE);
  for (let r = 0; r < wholeRows; r += TILE) {
    const rowEnd = Math.min(r + TILE, wholeRows);
    for (let c = 0; c < wholeColumns; c += TILE) {
      transposeTile(source, range, out, r, rowEnd, c, Math.min(c + TILE, wholeColumns));
    }
  }
  for (let c = 0; c < columns; c++) {
    const firstRow = c < wholeColumns ? wholeRows : 0;
    for (let r = firstRow; r < rows; r++) out[c * rows + r] = source[r * stride + column + c]!;
  }
}

function transposeTile(
  source: Uint32Array,
  { stride, column, rows }: ColumnRange,
  out: Uint32Array,
  firstRow: number,
  rowEnd: number,
  firstColumn: number,
  columnEnd: number,
): void {
  for (let r = firstRow; r < rowEnd; r += SQUARE) {
    for (let c = firstColumn; c < columnEnd; c += SQUARE) {
      transposeSquare(source, r * stride + column + c, stride, out, c * rows + r, rows);
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
  const second = from + stride;
  const third = second + stride;
  const fourth = third + stride;
  storeRow(out, to, source[from]!, source[second]!, source[third]!, source[fourth]!);
  storeRow(out, to + outStride, source[from + 1]!, source[second + 1]!, source[third + 1]!, source[fourth + 1]!);
  storeRow(out, to + 2 * outStride, source[from + 2]!, source[second + 2]!, source[third + 2]!, source[fourth + 2]!);
  storeRow(out, to + 3 * outStride, source[from + 3]!, source[second + 3]!, source[third + 3]!, source[fourth + 3]!);
}

function storeRow(out: Uint32Array, to: number, a: number, b: number, c: number, d: number): void {
  out[to] = a;
  out[to + 1] = b;
  out[to + 2] = c;
  out[to + 3] = d;
}

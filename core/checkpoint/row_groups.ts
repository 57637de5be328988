// The scales and zero points of a weight as exact scales and offsets in rows, wherever the format keeps its groups.

/** What SourceRows needs of its groups: f64[rows, G] both. */
export interface RowGroups {
  readonly scale: Float64Array;
  readonly offset: Float64Array;
}

/** `zero point`: `w = (q - z) * s`. `signed offset`: `w = (q - 8) * s + z`. */
export type ZeroMeaning = 'zero point' | 'signed offset';

/** Rows at a time: a cache line of f32 in the source, sixteen lines in each of the results. */
const TILE = 16;

/**
 * @param scale f32[G, rows]
 * @param zero f32[G, rows]
 */
export function groupsByRow(scale: Float32Array, zero: Float32Array, rows: number, meaning: ZeroMeaning): RowGroups {
  const nGroups = scale.length / rows;
  const outScale = new Float64Array(scale.length);
  const offset = new Float64Array(scale.length);
  const isOffset = meaning === 'signed offset';
  for (let first = 0; first < rows; first += TILE) {
    const end = Math.min(first + TILE, rows);
    for (let g = 0; g < nGroups; g++) {
      for (let row = first; row < end; row++) {
        const s = scale[g * rows + row]!;
        const z = zero[g * rows + row]!;
        const to = row * nGroups + g;
        outScale[to] = s;
        offset[to] = isOffset ? z - 8 * s : -z * s;
      }
    }
  }
  return { scale: outScale, offset };
}

/**
 * @param scale f32[rows, G]
 * @param zero f32[rows, G]
 */
export function groupsInRows(scale: Float32Array, zero: Float32Array, meaning: ZeroMeaning): RowGroups {
  const offset = new Float64Array(scale.length);
  const isOffset = meaning === 'signed offset';
  for (let i = 0; i < offset.length; i++) {
    const s = scale[i]!;
    offset[i] = isOffset ? zero[i]! - 8 * s : -zero[i]! * s;
  }
  return { scale: new Float64Array(scale), offset };
}

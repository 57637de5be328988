// The scales and zero points of a weight as exact scales and offsets in rows, wherever the format keeps its groups.

import type { SliceBuffers } from './slice_buffers.js';

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
export function groupsByRow(
  scale: Float32Array,
  zero: Float32Array,
  rows: number,
  meaning: ZeroMeaning,
  buffers: SliceBuffers,
): RowGroups {
  const outScale = buffers.f64('scale', scale.length);
  const offset = buffers.f64('offset', scale.length);
  for (let first = 0; first < rows; first += TILE) {
    transposeRows(
      scale,
      zero,
      rows,
      first,
      Math.min(first + TILE, rows),
      meaning === 'signed offset',
      outScale,
      offset,
    );
  }
  return { scale: outScale, offset };
}

function transposeRows(
  scale: Float32Array,
  zero: Float32Array,
  rows: number,
  first: number,
  end: number,
  isOffset: boolean,
  outScale: Float64Array,
  offset: Float64Array,
): void {
  const nGroups = scale.length / rows;
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

/**
 * @param scale f32[rows, G]
 * @param zero f32[rows, G]
 */
export function groupsInRows(
  scale: Float32Array,
  zero: Float32Array,
  meaning: ZeroMeaning,
  buffers: SliceBuffers,
): RowGroups {
  const outScale = buffers.f64('scale', scale.length);
  const offset = buffers.f64('offset', scale.length);
  const isOffset = meaning === 'signed offset';
  for (let i = 0; i < offset.length; i++) {
    const s = scale[i]!;
    outScale[i] = s;
    offset[i] = isOffset ? zero[i]! - 8 * s : -zero[i]! * s;
  }
  return { scale: outScale, offset };
}

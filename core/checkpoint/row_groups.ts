// The scales and zero points of a weight as exact scales and offsets in rows, wherever the format keeps its groups.

import type { SourceGroups } from './source_weight.js';

/**
 * `w = (q - zero) * scale`
 * @param scale f32[rows, G]
 * @param zero f32[rows, G]
 */
export function zeroPointGroups(scale: Float32Array, zero: Float32Array): SourceGroups {
  return {
    count: scale.length,
    read: (first, end, outScale, outOffset) => {
      for (let g = first, to = 0; g < end; g++, to++) {
        const s = scale[g]!;
        outScale[to] = s;
        outOffset[to] = -zero[g]! * s;
      }
    },
  };
}

/**
 * `w = (q - middle) * scale + offset`
 * @param scale f32[rows, G]
 * @param offset f32[rows, G]
 * @param middle the code that stands for 0 in the source
 */
export function offsetGroups(scale: Float32Array, offset: Float32Array, middle: 0 | 8): SourceGroups {
  return {
    count: scale.length,
    read: (first, end, outScale, outOffset) => {
      for (let g = first, to = 0; g < end; g++, to++) {
        const s = scale[g]!;
        outScale[to] = s;
        outOffset[to] = offset[g]! - middle * s;
      }
    },
  };
}

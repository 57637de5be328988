// Weights of any height that can be checked whole: a few random rows, repeated down the matrix.

import { CoalescedInt4Tensor, drawActivations, drawWeight, Int4Tensor } from '../../../core/index.js';
import type { RaceShape } from '../messages.js';

/** Rows that are drawn; every output is one of so many values. */
export const TILE_ROWS = 64;

/** A weight, an input, and the few rows that all others repeat. */
export interface RaceWeight {
  readonly native: Int4Tensor;
  readonly coalesced: CoalescedInt4Tensor;
  /** The first TILE_ROWS rows, or all; E_w is the whole weight's. */
  readonly tile: CoalescedInt4Tensor;
  /** bf16[1, K] */
  readonly x: Uint16Array;
}

/** The weight of `shape` in both layouts. Row i is row i mod TILE_ROWS. */
export function raceWeight({ n, k, groupSize }: RaceShape): RaceWeight {
  const name = `race ${n}x${k} g${groupSize}`;
  const rows = Math.min(n, TILE_ROWS);
  const drawn = drawWeight({ name, n: rows, k, groupSize, weights: 'plain' });
  const nGroups = drawn.nGroups;
  const qdata = new Uint8Array((n * k) / 2);
  repeat(drawn.qdata, qdata);
  const scale = new Uint16Array(nGroups * n);
  const zeroPoint = new Uint16Array(nGroups * n);
  for (let g = 0; g < nGroups; g++) {
    repeat(drawn.scale.subarray(g * rows, (g + 1) * rows), scale.subarray(g * n, (g + 1) * n));
    repeat(drawn.zeroPoint.subarray(g * rows, (g + 1) * rows), zeroPoint.subarray(g * n, (g + 1) * n));
  }
  const native = new Int4Tensor({
    qdata: { dtype: 'u8', shape: [n, k / 2], data: qdata },
    scale: { dtype: 'bf16', shape: [nGroups, n], data: scale },
    zeroPoint: { dtype: 'bf16', shape: [nGroups, n], data: zeroPoint },
    groupSize,
  });
  return {
    native,
    coalesced: CoalescedInt4Tensor.fromInt4Tensor(native),
    tile: CoalescedInt4Tensor.fromInt4Tensor(drawn),
    x: drawActivations({ name, m: 1, k, activations: 'plain' }),
  };
}

/** An output of the whole weight from that of its tile. */
export function repeated(tile: Float32Array, n: number): Float32Array {
  const whole = new Float32Array(n);
  repeat(tile, whole);
  return whole;
}

function repeat<T extends Uint8Array | Uint16Array | Float32Array>(source: T, into: T): void {
  into.set(source.subarray(0, Math.min(source.length, into.length)));
  // Doubling: each copy is as long as all that is there.
  for (let done = source.length; done < into.length; done *= 2)
    into.copyWithin(done, 0, Math.min(done, into.length - done));
}

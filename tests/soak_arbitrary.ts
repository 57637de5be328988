// The mean cases as a fast-check arbitrary: shapes and kinds shrink, values follow from a drawn name. One seed for all
// property tests, SAMEBITS_SEED or a fixed one, stands in their names.

import * as fc from 'fast-check';
import { BLOCK_SIZE } from '../core/index.js';
import {
  SOAK_FINITE_KINDS,
  SOAK_MAX_BLOCKS,
  SOAK_WEIGHT_KINDS,
  type SoakCase,
  soakGroupSizes,
} from '../core/parity/soak_cases.js';

export const SEED = Number(process.env['SAMEBITS_SEED'] ?? 20_260_101);

export interface SoakBounds {
  readonly maxBlocks?: number;
  readonly maxN?: number;
  readonly maxM?: number;
}

/** Half of the cases mix kinds; the others have one kind of weight and one of activations. */
export function soakCases({ maxBlocks = SOAK_MAX_BLOCKS, maxN = 24, maxM = 9 }: SoakBounds = {}) {
  const kinds = fc.oneof(
    fc.constant({ weights: 'mixed', activations: 'mixed' } as const),
    fc.record({
      weights: fc.constantFrom(...SOAK_WEIGHT_KINDS),
      activations: fc.constantFrom(...SOAK_FINITE_KINDS, 'nan-row' as const, 'inf-row' as const),
    }),
  );
  return fc
    .record({
      n: fc.integer({ min: 1, max: maxN }),
      blocks: fc.integer({ min: 1, max: maxBlocks }),
      m: fc.integer({ min: 1, max: maxM }),
      draw: fc.nat(),
      group: fc.nat({ max: 99 }),
      kinds,
    })
    .map(({ n, blocks, m, draw, group, kinds: { weights, activations } }): SoakCase => {
      const k = blocks * BLOCK_SIZE;
      const sizes = soakGroupSizes(k);
      const groupSize = sizes[group % sizes.length]!;
      return { name: `draw ${draw}`, n, k, groupSize, m, weights, activations };
    });
}

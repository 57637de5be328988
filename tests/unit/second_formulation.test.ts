// The reference against a second formulation in exact rationals: every bit of both outputs, E_w, thousands of cases.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CASES,
  CoalescedInt4Tensor,
  drawActivations,
  drawWeight,
  firstDifference,
  formatDifference,
  int4PlainMM,
} from '../../core/index.js';
import { drawSoakActivations, drawSoakWeight } from '../../core/parity/soak_cases.js';
import { SEED, soakCases } from '../soak_arbitrary.js';
import { secondFormulation, secondWeightExponent } from './second_formulation.js';

function expectSame(x: Uint16Array, weight: CoalescedInt4Tensor): void {
  const { f32, bf16 } = secondFormulation(x, weight);
  const tell = (difference: ReturnType<typeof firstDifference>) => difference && formatDifference(difference);
  expect(secondWeightExponent(weight)).toBe(weight.weightExponent);
  expect(tell(firstDifference(new Float32Array(f32.buffer), int4PlainMM(x, weight), weight.n))).toBeNull();
  expect(tell(firstDifference(bf16, int4PlainMM(x, weight, 'bf16'), weight.n))).toBeNull();
}

describe('the case table', () => {
  const small = CASES.filter(({ n, k, m }) => n * k * m <= 100_000);
  test.each(small)('$name', (of) => {
    expectSame(drawActivations(of), CoalescedInt4Tensor.fromInt4Tensor(drawWeight(of)));
  });
});

test(`5000 mean cases, seed ${SEED}`, () => {
  fc.assert(
    fc.property(soakCases({ maxBlocks: 6, maxN: 3, maxM: 2 }), (of) => {
      expectSame(drawSoakActivations(of), drawSoakWeight(of));
    }),
    { numRuns: 5000, seed: SEED },
  );
});

test('a second formulation with one slip is told from the reference', () => {
  const of = { name: 'a slip', n: 3, k: 96, groupSize: 32, m: 1, weights: 'mixed', activations: 'outlier' } as const;
  const weight = drawSoakWeight(of);
  const second = weight.groups.second.map((bits) => bits ^ 1);
  const { n, k, groupSize, qdata, form, groups } = weight;
  const slipped = { n, k, groupSize, qdata, form, groups: { ...groups, second } };
  const { f32 } = secondFormulation(drawSoakActivations(of), slipped);
  expect(firstDifference(new Float32Array(f32.buffer), int4PlainMM(drawSoakActivations(of), weight), 3)).not.toBeNull();
});

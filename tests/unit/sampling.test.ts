// Draws of tokens: the same from the same seed, from the tokens that the options leave, as often as their weights say.

import { describe, expect, test } from 'vitest';
import { argMax } from '../../core/model/arg_max.js';
import { DescendingIndices } from '../../core/model/descending_indices.js';
import { type SamplingOptions, sampler, sampleToken } from '../../core/model/sampling.js';
import { Random } from '../../core/parity/random.js';

const random = new Random(7);
const logits = Float32Array.from({ length: 2048 }, () => 3 * random.normal());

function drawn(options: SamplingOptions, count: number, of = logits): number[] {
  const draw = sampler(options);
  return Array.from({ length: count }, () => draw(of));
}

/** By definition: exp from the engine, everything sorted. */
function likeliest(of: Float32Array): number[] {
  return [...of.keys()].sort((a, b) => of[b]! - of[a]! || a - b);
}

describe('which tokens are drawn', () => {
  test('a seed and its options give one text, pinned', () => {
    const options = { temperature: 0.8, topK: 40, topP: 0.95, seed: 2 ** 53 - 1 };
    expect(drawn(options, 12)).toEqual(drawn(options, 12));
    expect(drawn(options, 12)).toMatchInlineSnapshot(`
      [
        2043,
        671,
        490,
        1322,
        2001,
        1882,
        860,
        2043,
        592,
        2006,
        671,
        664,
      ]
    `);
    expect(drawn({ ...options, seed: 1 }, 12)).not.toEqual(drawn(options, 12));
  });

  test('temperature 0, topK 1 and a topP of next to nothing take the largest logit, the lowest token among equals', () => {
    const equal = Float32Array.from([1, 5, -3, 5, 5]);
    for (const options of [{ temperature: 0 }, { temperature: 1, topK: 1 }, { temperature: 1, topP: 1e-9 }]) {
      expect(new Set(drawn({ ...options, seed: 3 }, 50, equal))).toEqual(new Set([1]));
      expect(new Set(drawn({ ...options, seed: 3 }, 50))).toEqual(new Set([argMax(logits)]));
    }
  });

  test('topK leaves the K likeliest, and draws each of them', () => {
    const tokens = new Set(drawn({ temperature: 10, topK: 5, seed: 1 }, 500));
    expect([...tokens].sort()).toEqual(likeliest(logits).slice(0, 5).sort());
  });

  test('topP leaves the fewest tokens that have its share, of those that topK left', () => {
    const of = Float32Array.from([4, 3, 2, 1], (share) => Math.log(share));
    const left = (options: object) => new Set(drawn({ temperature: 1, seed: 5, ...options }, 300, of));
    expect(left({ topP: 0.39 })).toEqual(new Set([0]));
    expect(left({ topP: 0.41 })).toEqual(new Set([0, 1]));
    expect(left({ topP: 0.71 })).toEqual(new Set([0, 1, 2]));
    expect(left({ topP: 0.91 })).toEqual(new Set([0, 1, 2, 3]));
    // Of the three likeliest, 4 / 9 is more than 0.42.
    expect(left({ topP: 0.42, topK: 3 })).toEqual(new Set([0]));
    expect(left({ topP: 0.42 })).toEqual(new Set([0, 1]));
  });

  test('options that leave all tokens change no draw', () => {
    const plain = drawn({ temperature: 1, seed: 11 }, 200);
    expect(drawn({ temperature: 1, seed: 11, topP: 1, topK: 2048 }, 200)).toEqual(plain);
  });

  test.each([0.5, 1, 2])('at temperature %d each token comes as often as its probability says', (temperature) => {
    const of = Float32Array.from([0, -1, 1.5, 0.25, Number.NEGATIVE_INFINITY, -40]);
    const weights = [...of].map((logit) => Math.exp(logit / temperature));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const count = 20_000;
    const draws = drawn({ temperature, seed: 99 }, count, of);
    for (const [token, weight] of weights.entries()) {
      const expected = weight / total;
      const share = draws.filter((draw) => draw === token).length / count;
      expect(Math.abs(share - expected)).toBeLessThanOrEqual(5 * Math.sqrt((expected * (1 - expected)) / count));
    }
  });

  test('draws go over the tokens in their own order, from the first to the last', () => {
    const of = Float32Array.from([1, 1, 1, 1]);
    const at = (draw: number) => sampleToken(of, { temperature: 1 }, draw);
    expect([0, 0.24, 0.25, 0.5, 0.75, 1 - 2 ** -53].map(at)).toEqual([0, 0, 1, 2, 3, 3]);
  });

  test('NaN is never drawn', () => {
    const of = Float32Array.from([1, Number.NaN, 1, Number.NaN]);
    expect(new Set(drawn({ temperature: 5, seed: 1, topK: 3, topP: 0.99 }, 100, of))).toEqual(new Set([0, 2]));
  });
});

describe('what is refused: ARGUMENT_INVALID', () => {
  test.each([
    ['temperature', { temperature: -1 }],
    ['temperature', { temperature: Number.NaN }],
    ['temperature', { temperature: Number.POSITIVE_INFINITY }],
    ['topK', { topK: 0 }],
    ['topK', { topK: 1.5 }],
    ['topP', { topP: 0 }],
    ['topP', { topP: 1.01 }],
    ['topP', { topP: Number.NaN }],
    ['seed', { seed: -1 }],
    ['seed', { seed: 2 ** 53 }],
    ['seed', { seed: 0.5 }],
  ])('%s in %o', (name, options) => {
    const refused = () => sampler({ temperature: 1, seed: 0, ...options });
    expect(refused).toThrow(expect.objectContaining({ code: 'ARGUMENT_INVALID', rule: expect.stringContaining(name) }));
  });

  test.each([[Number.NaN], [Number.POSITIVE_INFINITY], [Number.NEGATIVE_INFINITY]])('logits of %d', (logit) => {
    const draw = sampler({ temperature: 1, seed: 0 });
    expect(() => draw(new Float32Array(4).fill(logit))).toThrow(expect.objectContaining({ code: 'ARGUMENT_INVALID' }));
  });
});

test.each([1, 2, 3, 10, 1000])('%i indices descend', (length) => {
  const few = Float32Array.from({ length }, () => random.below(length));
  const descending = new DescendingIndices(few, Int32Array.from(few.keys()));
  expect(Array.from({ length }, () => descending.next())).toEqual(likeliest(few));
  expect(descending.next()).toBeUndefined();
});

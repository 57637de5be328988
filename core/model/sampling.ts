// Draws tokens by their logits: integers, and arithmetic that is rounded the same in every engine, so that a seed gives the
// same text everywhere.

import { kindOf, requireObject } from '../argument_checks.js';
import { SamebitsError } from '../errors.js';
import { Random } from '../parity/random.js';
import { argMax } from './arg_max.js';
import { DescendingIndices } from './descending_indices.js';
import { exp } from './elementary.js';

/** From which tokens is drawn, and how boldly. */
export interface SamplingOptions {
  /** What differences of logits are divided by; 0 takes the largest logit, the lowest token among equals. */
  readonly temperature: number;
  /** Only the so many likeliest tokens; without it all. */
  readonly topK?: number;
  /** Of these only the likeliest that have this share of their probability together, above 0 to 1; without it all. */
  readonly topP?: number;
  /** An integer from 0 to 2^53 - 1, of the generator sfc32. */
  readonly seed: number;
}

/**
 * A sequence of draws, two words of sfc32 each; call it once for each token, in order.
 * @returns from logits f32[vocabulary] to a token
 * @throws SamebitsError ARGUMENT_INVALID; so does the function where no logit is finite, or one is +Infinity
 */
export function sampler(options: SamplingOptions): (logits: Float32Array) => number {
  checkOptions(options);
  const random = new Random(options.seed);
  return (logits) => {
    const high = random.u32();
    return sampleToken(logits, options, (high * 2 ** 21 + (random.u32() >>> 11)) / 2 ** 53);
  };
}

/**
 * The token of one draw. Each has the weight floor(2^32 exp((logit - largest) / temperature)), exp as DECODER.md defines it,
 * so that sums are exact; tokens are told apart by their logits, the lower token first among equals; a draw falls on the
 * remaining tokens in their own order.
 * @param draw at least 0 and below 1
 */
export function sampleToken(
  logits: Float32Array,
  { temperature, topK, topP = 1 }: Pick<SamplingOptions, 'temperature' | 'topK' | 'topP'>,
  draw: number,
): number {
  const best = argMax(logits);
  const largest = requireFinite(logits[best]!);
  if (temperature === 0) return best;

  let tokens = tokensAbove(logits, largest + LEAST * temperature);
  if (topK !== undefined && topK < tokens.length) {
    const descending = new DescendingIndices(logits, tokens);
    tokens = Int32Array.from({ length: topK }, () => descending.next()!);
  }
  const weights = new Float64Array(logits.length);
  let total = 0;
  for (const token of tokens) {
    weights[token] = Math.floor(exp(Math.fround((logits[token]! - largest) / temperature)) * 2 ** 32);
    total += weights[token]!;
  }
  if (topP < 1) {
    const share = topP * total;
    const descending = new DescendingIndices(logits, tokens);
    const kept: number[] = [];
    for (total = 0; total < share; total += weights[kept.at(-1)!]!) kept.push(descending.next()!);
    tokens = Int32Array.from(kept);
  }
  // Below the total, which is under 2^53: the product is at most its predecessor.
  let rest = Math.floor(draw * total);
  return tokens.sort().find((token) => {
    rest -= weights[token]!;
    return rest < 0;
  })!;
}

/** So many temperatures below the largest logit, weights are 0: 2^-32 is e^-22.2. */
const LEAST = -23;

function tokensAbove(logits: Float32Array, least: number): Int32Array {
  const tokens = new Int32Array(logits.length);
  let count = 0;
  for (let i = 0; i < logits.length; i++) if (logits[i]! > least) tokens[count++] = i;
  return tokens.subarray(0, count);
}

function checkOptions(options: SamplingOptions): void {
  const { temperature, topK, topP, seed } = requireObject(options, 'the options of sampling');
  const check = (isValid: boolean, name: string, expected: string, got: unknown) => {
    if (isValid) return;
    throw new SamebitsError('ARGUMENT_INVALID', {
      rule: `${name} must be in its range`,
      expected,
      got: kindOf(got),
      fix: 'Leave out what shall not limit the draws; a temperature of 0 is greedy.',
    });
  };
  check(Number.isFinite(temperature) && temperature >= 0, 'temperature', 'a finite number, 0 or more', temperature);
  check(topK === undefined || (Number.isInteger(topK) && topK >= 1), 'topK', 'an integer, 1 or more', topK);
  check(topP === undefined || (topP > 0 && topP <= 1), 'topP', 'a number above 0, at most 1', topP);
  check(Number.isSafeInteger(seed) && seed >= 0, 'seed', 'an integer from 0 to 2^53 - 1', seed);
}

function requireFinite(largest: number): number {
  if (Number.isFinite(largest)) return largest;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'the largest logit must be a finite number',
    expected: 'logits as a model gives them',
    got: String(largest),
    fix: "Check the model's weights: what they give overflows.",
  });
}

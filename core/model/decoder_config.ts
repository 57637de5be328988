// What a Gemma 4 text decoder is: the sizes that every step of DECODER.md needs, whatever file they came from.

import { SamebitsError } from '../errors.js';

/** One layer's attention. */
export interface LayerConfig {
  readonly attention: 'sliding' | 'full';
  /** Query heads; a multiple of keyValueHeads. */
  readonly heads: number;
  readonly keyValueHeads: number;
  /** D, a multiple of 2; heads * D and keyValueHeads * D are multiples of 32. */
  readonly headSize: number;
  /** False where v is k's linear output, before its norm. */
  readonly hasValueProjection: boolean;
  /** Positions p with t - p < window are seen; null sees all. */
  readonly window: number | null;
  readonly rotaryTheta: number;
  /** The first so many of the D / 2 frequencies are real; the others are 0. */
  readonly rotaryFrequencies: number;
}

export interface DecoderConfig {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly vocabularySize: number;
  /** The most positions that a session can have. */
  readonly maxPositions: number;
  readonly rmsNormEpsilon: number;
  /** Null leaves logits as they are. */
  readonly softCap: number | null;
  readonly layers: readonly LayerConfig[];
  /** Begins every text, when there is one. */
  readonly beginToken: number | null;
  /** Any of these ends a text. */
  readonly endTokens: readonly number[];
}

/** Positions in a chunk of the softmax (DECODER.md, step 6). */
export const CHUNK_POSITIONS = 256;
/** Tokens that one step takes at most; longer prompts take several steps. */
export const TOKENS_PER_STEP = 4;

/**
 * Positions that a layer's cache holds in a session of `capacity`: position p lies in slot p mod cacheSlots. A sliding
 * layer has room for what the first token of a step sees, besides all tokens of the step and one that ran ahead.
 */
export function cacheSlots(layer: LayerConfig, capacity: number): number {
  return layer.window === null ? capacity : Math.min(capacity, layer.window + TOKENS_PER_STEP);
}

/** @throws SamebitsError ARGUMENT_INVALID for a cache of more positions than the model has, or of none */
export function requireCapacity({ maxPositions }: DecoderConfig, capacity: number): void {
  if (Number.isInteger(capacity) && capacity >= 1 && capacity <= maxPositions) return;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: "a cache's capacity is a number of positions that the model has",
    expected: `an integer from 1 to ${maxPositions}`,
    got: String(capacity),
    fix: 'Open a cache of fewer positions.',
  });
}

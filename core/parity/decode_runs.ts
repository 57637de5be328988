// Whole texts of a decoder, as digests of every logit: what a backend computed, to be compared with any other.

import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { argMax } from '../model/arg_max.js';
import type { DeviceDecoder } from '../model/decoder_backend.js';
import { type DecoderConfig, TOKENS_PER_STEP } from '../model/decoder_config.js';
import { type SamplingOptions, sampler } from '../model/sampling.js';
import { DecoderSession } from '../model/session.js';
import { Random } from './random.js';

/** A prompt, and how the text goes on: with the likeliest tokens first, then with drawn ones. */
export interface DecodeRun {
  /** `prompt of 17` */
  readonly name: string;
  readonly prompt: readonly number[];
  readonly greedyTokens: number;
  readonly drawnTokens: number;
  /** Of the draws. */
  readonly seed: number;
}

export interface DecodeResult {
  readonly name: string;
  /** SHA-256 of the f32 bits of every logit, of the prompt's positions first, little-endian. */
  readonly sha256: string;
  /** What the text went on with. */
  readonly tokens: readonly number[];
}

/** Ten prompts that end before, at and after the borders of chunks of 256 and of windows of 128. */
const PROMPT_LENGTHS = [1, 2, 7, 17, 64, 127, 130, 255, 258, 500];
/** Of each text, of each kind: 200 in all ten. */
const NEW_TOKENS = 20;
/** Draws that use every limit of sampling. */
const DRAWS: Omit<SamplingOptions, 'seed'> = { temperature: 0.9, topK: 40, topP: 0.95 };

/** The texts that the model's positions have room for. One goes on from greedy to drawn, so that its prompt is run once. */
export function decodeRuns({ vocabularySize, maxPositions, beginToken }: DecoderConfig): readonly DecodeRun[] {
  return PROMPT_LENGTHS.filter((length) => length + 2 * NEW_TOKENS <= maxPositions).map((length) => {
    const name = `prompt of ${length}`;
    const random = Random.named(name);
    const drawn = Array.from({ length }, () => random.below(vocabularySize));
    const prompt = beginToken === null ? drawn : [beginToken, ...drawn.slice(1)];
    return { name, prompt, greedyTokens: NEW_TOKENS, drawnTokens: NEW_TOKENS, seed: length };
  });
}

/**
 * Runs texts side by side, each in a session of its own: their steps take turns. The prompts of the first, the third and so
 * on go in steps of as many tokens as there can be, the others token by token.
 */
export async function decodeTogether(
  decoder: DeviceDecoder,
  runs: readonly DecodeRun[],
): Promise<readonly DecodeResult[]> {
  return Promise.all(runs.map((run, i) => decodeRun(decoder, run, i % 2 === 0 ? TOKENS_PER_STEP : 1)));
}

/** @param promptStep tokens of the prompt that one step takes */
export async function decodeRun(
  decoder: DeviceDecoder,
  { name, prompt, greedyTokens, drawnTokens, seed }: DecodeRun,
  promptStep: number = TOKENS_PER_STEP,
): Promise<DecodeResult> {
  const session = await DecoderSession.open(decoder, prompt.length + greedyTokens + drawnTokens);
  const hash = sha256.create();
  const draw = sampler({ ...DRAWS, seed });
  const { vocabularySize } = decoder.config;
  /** Runs tokens; gives the logits of the last one. */
  const take = async (added: readonly number[]) => {
    const result = await session.append(added, 'everyLogit');
    const logits = 'logits' in result ? new Float32Array(result.logits) : new Float32Array(0);
    hash.update(new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength));
    return logits.subarray(logits.length - vocabularySize);
  };
  try {
    let last = new Float32Array(0);
    for (let first = 0; first < prompt.length; first += promptStep) {
      last = await take(prompt.slice(first, first + promptStep));
    }
    const tokens: number[] = [];
    while (tokens.length < greedyTokens + drawnTokens) {
      tokens.push(tokens.length < greedyTokens ? argMax(last) : draw(last));
      last = await take(tokens.slice(-1));
    }
    return { name, sha256: bytesToHex(hash.digest()), tokens };
  } finally {
    session.dispose();
  }
}

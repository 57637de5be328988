// Whole texts of a decoder, as digests of every logit: what a backend computed, to be compared with any other.

import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import type { DeviceCache, DeviceDecoder, StepResult } from '../model/decoder_backend.js';
import { type DecoderConfig, TOKENS_PER_STEP } from '../model/decoder_config.js';
import { Random } from './random.js';

/** A prompt and how it goes on. */
export interface DecodeRun {
  /** `prompt of 17, greedy` */
  readonly name: string;
  readonly prompt: readonly number[];
  readonly newTokens: number;
  /** Null takes the largest logit; otherwise any of the largest few, drawn from this seed. */
  readonly seed: number | null;
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
const NEW_TOKENS = 200;
/** How many of the largest logits are drawn from. */
const DRAWN_FROM = 8;

/** Each prompt greedily, then drawn; as much as the model's positions have room for. */
export function decodeRuns(config: DecoderConfig): readonly DecodeRun[] {
  const { vocabularySize, maxPositions, beginToken } = config;
  const lengths = PROMPT_LENGTHS.filter((length) => length + NEW_TOKENS <= maxPositions);
  return lengths.flatMap((length) => {
    const random = Random.named(`prompt of ${length}`);
    const drawn = Array.from({ length }, () => random.below(vocabularySize));
    const prompt = beginToken === null ? drawn : [beginToken, ...drawn.slice(1)];
    const of = { prompt, newTokens: NEW_TOKENS };
    return [
      { ...of, name: `prompt of ${length}, greedy`, seed: null },
      { ...of, name: `prompt of ${length}, drawn`, seed: length },
    ];
  });
}

/** Runs texts side by side, each in a cache of its own: their steps take turns. */
export async function decodeTogether(
  decoder: DeviceDecoder,
  runs: readonly DecodeRun[],
): Promise<readonly DecodeResult[]> {
  return Promise.all(runs.map((run, i) => decodeRun(decoder, run, i % 2 === 0 ? TOKENS_PER_STEP : 1)));
}

/** @param promptStep tokens of the prompt that one step takes */
export async function decodeRun(
  decoder: DeviceDecoder,
  { name, prompt, newTokens, seed }: DecodeRun,
  promptStep: number = TOKENS_PER_STEP,
): Promise<DecodeResult> {
  const cache = await decoder.openCache(prompt.length + newTokens);
  const hash = sha256.create();
  const random = seed === null ? null : new Random(seed);
  try {
    let last = new Float32Array(0);
    const take = async (tokens: readonly number[], position: number, wants: StepResult['wants']) => {
      const logits = await logitsOf(cache, tokens, position, wants);
      hash.update(new Uint8Array(logits.buffer, logits.byteOffset, logits.byteLength));
      last = logits.subarray(logits.length - decoder.config.vocabularySize);
    };
    for (let first = 0; first < prompt.length; first += promptStep) {
      await take(prompt.slice(first, first + promptStep), first, 'everyLogit');
    }
    const tokens: number[] = [];
    for (let i = 0; i < newTokens; i++) {
      const token = random ? largest(last, random.below(DRAWN_FROM)) : largest(last, 0);
      tokens.push(token);
      await take([token], prompt.length + i, 'logits');
    }
    return { name, sha256: bytesToHex(hash.digest()), tokens };
  } finally {
    cache.dispose();
  }
}

async function logitsOf(
  cache: DeviceCache,
  tokens: readonly number[],
  position: number,
  wants: StepResult['wants'],
): Promise<Float32Array<ArrayBuffer>> {
  const result = await cache.step(tokens, position, wants);
  return 'logits' in result ? new Float32Array(result.logits) : new Float32Array(0);
}

/** The index of the largest logit but `rank`, the lower one among equals. */
function largest(logits: Float32Array, rank: number): number {
  const best: number[] = [];
  for (let i = 0; i < logits.length; i++) {
    let at = best.length;
    while (at > 0 && logits[i]! > logits[best[at - 1]!]!) at--;
    if (at > rank) continue;
    best.splice(at, 0, i);
    if (best.length > rank + 1) best.pop();
  }
  return best[Math.min(rank, best.length - 1)]!;
}

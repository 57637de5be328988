// Whole texts of a decoder, as digests of every logit: what a backend computed, to be compared with any other.

import { sha256 } from '@noble/hashes/sha2.js';
import { bytesToHex } from '@noble/hashes/utils.js';
import { argMax } from '../model/arg_max.js';
import type { DeviceDecoder } from '../model/decoder_backend.js';
import { type DecoderConfig, TOKENS_PER_STEP } from '../model/decoder_config.js';
import { type SamplingOptions, sampler } from '../model/sampling.js';
import { DecoderSession } from '../model/session.js';
import { Random } from './random.js';

/** A prompt and how it goes on. */
export interface DecodeRun {
  /** `prompt of 17, greedy` */
  readonly name: string;
  readonly prompt: readonly number[];
  readonly newTokens: number;
  /** Null takes the largest logit; otherwise tokens are drawn from this seed. */
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
/** Draws that use every limit of sampling. */
const DRAWS: Omit<SamplingOptions, 'seed'> = { temperature: 0.9, topK: 40, topP: 0.95 };

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

/** Runs texts side by side, each in a session of its own: their steps take turns. */
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
  const session = await DecoderSession.open(decoder, prompt.length + newTokens);
  const hash = sha256.create();
  const pick = seed === null ? argMax : sampler({ ...DRAWS, seed });
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
    for (let i = 0; i < newTokens; i++) {
      tokens.push(pick(last));
      last = await take(tokens.slice(-1));
    }
    return { name, sha256: bytesToHex(hash.digest()), tokens };
  } finally {
    session.dispose();
  }
}

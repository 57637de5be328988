// What steps of a decoder on a device must show, against the reference on the CPU: the same bits.

import { expect } from 'vitest';
import { Random } from '../../core/index.js';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import type { DecoderSource, DeviceCache, DeviceDecoder } from '../../core/model/decoder_backend.js';

/** Tokens of a test. */
export function drawnTokens(name: string, count: number, vocabulary: number): number[] {
  const random = Random.named(`tokens of ${name}`);
  return Array.from({ length: count }, () => random.u32() % vocabulary);
}

/** Runs `tokens` from `position` in steps of `sizes` in turn; the logits of every token. */
export async function everyLogit(
  cache: DeviceCache,
  tokens: readonly number[],
  sizes: readonly number[],
  position = 0,
): Promise<Float32Array[]> {
  const steps: Float32Array[] = [];
  for (let done = 0; done < tokens.length; ) {
    const step = tokens.slice(done, done + sizes[steps.length % sizes.length]!);
    const result = await cache.step(step, position + done, 'everyLogit');
    if (result.wants !== 'everyLogit') throw new Error(`a step gave ${result.wants}`);
    steps.push(result.logits);
    done += step.length;
  }
  return steps;
}

/** Fails at the first step whose bits differ. */
export function expectSameBits(actual: readonly Float32Array[], expected: readonly Float32Array[]): void {
  const bits = (steps: readonly Float32Array[]) =>
    steps.flatMap((logits) => [...new Uint32Array(logits.buffer, logits.byteOffset, logits.length)]);
  const of = bits(actual);
  const reference = bits(expected);
  expect(of.length).toBe(reference.length);
  expect(of.findIndex((value, i) => value !== reference[i])).toBe(-1);
}

/** The reference's logits of `tokens`, one at a time. */
export async function referenceLogits(source: DecoderSource, tokens: readonly number[]): Promise<Float32Array[]> {
  const cache = await (await CpuDecoder.load(source)).openCache(tokens.length);
  return everyLogit(cache, tokens, [1]);
}

/** Runs the tokens on the device in steps of these sizes, and compares all logits with the reference's. */
export async function expectReference(
  decoder: DeviceDecoder,
  expected: readonly Float32Array[],
  tokens: readonly number[],
  sizes: readonly number[],
): Promise<void> {
  const cache = await decoder.openCache(tokens.length);
  try {
    expectSameBits(await everyLogit(cache, tokens, sizes), expected);
  } finally {
    cache.dispose();
  }
}

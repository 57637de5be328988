// Texts as digests: what they depend on, and what they do not.

import { expect, test } from 'vitest';
import { decodeRun, decodeRuns, decodeTogether, drawDecoderSource } from '../../core/index.js';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import { SMALL_DECODER } from '../parity/hard_decoders.js';

const source = drawDecoderSource(SMALL_DECODER);
const runs = decodeRuns(SMALL_DECODER)
  .slice(3, 5)
  .map((run) => ({ ...run, prompt: run.prompt.slice(0, 9), greedyTokens: 3, drawnTokens: 6 }));

test('ten prompts with 200 greedy and 200 drawn tokens, past chunks and windows', () => {
  const all = decodeRuns(SMALL_DECODER);
  expect(all.length).toBe(10);
  expect(new Set(all.map(({ name }) => name)).size).toBe(10);
  const sum = (tokens: readonly number[]) => tokens.reduce((a, b) => a + b);
  expect(sum(all.map(({ greedyTokens }) => greedyTokens))).toBe(200);
  expect(sum(all.map(({ drawnTokens }) => drawnTokens))).toBe(200);
  expect(Math.max(...all.map(({ prompt }) => prompt.length))).toBeGreaterThan(256 + 128);
  expect(decodeRuns({ ...SMALL_DECODER, maxPositions: 50 }).length).toBe(3);
});

test('neither the size of a step nor texts beside it change a digest', async () => {
  const decoder = await CpuDecoder.load(source);
  const together = await decodeTogether(decoder, runs);
  const alone = [];
  for (const run of runs) alone.push(await decodeRun(decoder, run, 3));
  expect(together).toEqual(alone);
  expect(new Set(alone.map(({ sha256 }) => sha256)).size).toBe(runs.length);
});

test('goes on with the largest logits, then with others too', async () => {
  const decoder = await CpuDecoder.load(source);
  const run = runs[0]!;
  const { tokens } = await decodeRun(decoder, run);
  const cache = await decoder.openCache(20);
  const text = [...run.prompt, ...tokens];
  const likeliest: number[] = [];
  for (const [position, token] of text.slice(0, -1).entries()) {
    const result = await cache.step([token], position, 'greedy');
    if (result.wants === 'greedy') likeliest.push(result.token);
  }
  const expected = likeliest.slice(run.prompt.length - 1);
  expect(tokens.slice(0, run.greedyTokens)).toEqual(expected.slice(0, run.greedyTokens));
  expect(tokens).not.toEqual(expected);
  expect((await decodeRun(decoder, { ...run, seed: run.seed + 1 })).tokens).not.toEqual(tokens);
});

test('a weight that is off by one bit changes every digest', async () => {
  const decoder = await CpuDecoder.load(source);
  const vector: typeof source.vector = async (name, layer) =>
    (await source.vector(name, layer)).map((bits, i) => (name === 'norm' && i === 5 ? bits ^ 1 : bits));
  const faulty = await CpuDecoder.load({ ...source, vector });
  const [expected, actual] = [await decodeTogether(decoder, runs), await decodeTogether(faulty, runs)];
  for (const [i, { sha256 }] of actual.entries()) expect(sha256).not.toBe(expected[i]!.sha256);
});

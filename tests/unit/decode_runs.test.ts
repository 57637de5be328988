// Texts as digests: what they depend on, and what they do not.

import { expect, test } from 'vitest';
import { decodeRun, decodeRuns, decodeTogether, drawDecoderSource } from '../../core/index.js';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import { SMALL_DECODER } from '../parity/hard_decoders.js';

const source = drawDecoderSource(SMALL_DECODER);
const runs = decodeRuns(SMALL_DECODER)
  .slice(6, 10)
  .map((run) => ({ ...run, prompt: run.prompt.slice(0, 9), newTokens: 6 }));

test('ten prompts, greedily and drawn, past chunks and windows', () => {
  const all = decodeRuns(SMALL_DECODER);
  expect(all.length).toBe(20);
  expect(new Set(all.map(({ name }) => name)).size).toBe(20);
  expect(Math.max(...all.map(({ prompt, newTokens }) => prompt.length + newTokens))).toBeGreaterThan(2 * 256);
  expect(decodeRuns({ ...SMALL_DECODER, maxPositions: 210 }).length).toBe(6);
});

test('neither the size of a step nor texts beside it change a digest', async () => {
  const decoder = await CpuDecoder.load(source);
  const together = await decodeTogether(decoder, runs);
  const alone = [];
  for (const run of runs) alone.push(await decodeRun(decoder, run, 3));
  expect(together).toEqual(alone);
  expect(new Set(alone.map(({ sha256 }) => sha256)).size).toBe(runs.length);
});

test('greedy takes the largest logit, drawn takes others too', async () => {
  const decoder = await CpuDecoder.load(source);
  const [greedy, drawn] = await decodeTogether(decoder, runs);
  const cache = await decoder.openCache(20);
  const { prompt } = runs[0]!;
  for (const [i, token] of prompt.slice(0, -1).entries()) await cache.step([token], i, 'nothing');
  expect(await cache.step(prompt.slice(-1), prompt.length - 1, 'greedy')).toEqual({
    wants: 'greedy',
    token: greedy!.tokens[0],
  });
  expect(drawn!.tokens).not.toEqual(greedy!.tokens);
});

test('a weight that is off by one bit changes every digest', async () => {
  const decoder = await CpuDecoder.load(source);
  const vector: typeof source.vector = async (name, layer) =>
    (await source.vector(name, layer)).map((bits, i) => (name === 'norm' && i === 5 ? bits ^ 1 : bits));
  const faulty = await CpuDecoder.load({ ...source, vector });
  const [expected, actual] = [await decodeTogether(decoder, runs), await decodeTogether(faulty, runs)];
  for (const [i, { sha256 }] of actual.entries()) expect(sha256).not.toBe(expected[i]!.sha256);
});

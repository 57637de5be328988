// The decoder on the CPU at its limits: memory that is not there, and steps that no cache has room for.

import { expect, test } from 'vitest';
import { DRAWN_CONFIG, drawDecoderSource } from '../../core/index.js';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';

const refusal = (code: string, details: object = {}) => expect.objectContaining({ code, ...details });

test('a cache that no memory holds is refused with its size', async () => {
  const capacity = 2 ** 50;
  const decoder = await CpuDecoder.load(drawDecoderSource({ ...DRAWN_CONFIG, maxPositions: capacity }));
  const expected = expect.stringContaining(`${decoder.cacheSizeBytes(capacity)} bytes`);
  await expect(decoder.openCache(capacity)).rejects.toEqual(refusal('DEVICE_OUT_OF_MEMORY', { expected }));
  await expect(decoder.openCache(4)).resolves.toMatchObject({ capacity: 4 });
});

test.each([0, 1.5, DRAWN_CONFIG.maxPositions + 1])('a cache of %d positions is refused', async (capacity) => {
  const decoder = await CpuDecoder.load(drawDecoderSource());
  await expect(decoder.openCache(capacity)).rejects.toEqual(refusal('ARGUMENT_INVALID'));
  expect(() => decoder.cacheSizeBytes(capacity)).toThrow(refusal('ARGUMENT_INVALID'));
});

test.each([0, 5, 8])('a step of %i tokens is refused, and leaves the cache as it was', async (nTokens) => {
  const decoder = await CpuDecoder.load(drawDecoderSource());
  const [cache, other] = [await decoder.openCache(16), await decoder.openCache(16)];
  for (const one of [cache, other]) await one.step([1, 2], 0, 'nothing');
  const tokens = Array.from({ length: nTokens }, (_, i) => i);
  await expect(cache.step(tokens, 2, 'everyLogit')).rejects.toEqual(
    refusal('ARGUMENT_INVALID', { got: String(nTokens) }),
  );
  expect(await cache.step([3, 4], 2, 'everyLogit')).toEqual(await other.step([3, 4], 2, 'everyLogit'));
});

test('logits of every token have a row each', async () => {
  const decoder = await CpuDecoder.load(drawDecoderSource());
  const [together, alone] = [await decoder.openCache(8), await decoder.openCache(8)];
  const result = await together.step([5, 6, 7, 8], 0, 'everyLogit');
  if (result.wants !== 'everyLogit') throw new Error('something else was asked for');
  const rows: number[] = [];
  for (const [position, token] of [5, 6, 7, 8].entries()) {
    const one = await alone.step([token], position, 'logits');
    if (one.wants !== 'logits') throw new Error('something else was asked for');
    rows.push(...one.logits);
  }
  expect(result.logits).toHaveLength(4 * DRAWN_CONFIG.vocabularySize);
  expect([...result.logits]).toEqual(rows);
});

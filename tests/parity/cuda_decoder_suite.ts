// What the cuda backend's decoder must show, on a device or by its own sources on the host: the bits of the reference.

import { expect, test } from 'vitest';
import { decodeRuns, decodeTogether, SamebitsError } from '../../core/index.js';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import type { CudaBackend } from '../../node/cuda_backend.js';
import type { OpenCuda } from './cuda_suite.js';
import { drawDecoderSource } from './decoder_source.js';
import { drawnTokens, everyLogit, expectReference, expectSameBits, referenceLogits } from './decoder_suite.js';
import { LONG_DECODER, SMALL_DECODER, WALKING_DECODER, WIDE_DECODER } from './hard_decoders.js';

/** 16 for some of the linears that read the same x as others. */
const mixedGroups = (linear: string) => (['k', 'up', 'o'].includes(linear) ? 16 : 32);
const { vocabularySize } = SMALL_DECODER;

export function cudaDecoderSuite(open: OpenCuda): void {
  const small = (backend: CudaBackend) => backend.loadDecoder(drawDecoderSource(SMALL_DECODER, mixedGroups));

  test('steps of 1 to 4 tokens have the logits of the reference, past the window', async (context) => {
    const backend = await open(context);
    const source = drawDecoderSource(SMALL_DECODER, mixedGroups);
    const tokens = drawnTokens('small', 13, vocabularySize);
    const expected = await referenceLogits(source, tokens);
    const decoder = await backend.loadDecoder(source);
    for (const sizes of [[1], [4], [3, 1, 2]]) await expectReference(decoder, expected, tokens, sizes);
    decoder.dispose();
  });

  test.for([32, 16])('layers that one launch walks through, with groups of %i', async (groupSize, context) => {
    const backend = await open(context);
    const source = drawDecoderSource(WALKING_DECODER, () => groupSize);
    const tokens = drawnTokens('walking', 9, vocabularySize);
    const expected = await referenceLogits(source, tokens);
    const decoder = await backend.loadDecoder(source);
    for (const sizes of [[1], [2, 1, 1]]) await expectReference(decoder, expected, tokens, sizes);
    decoder.dispose();
  });

  test('heads of every padding, many queries a key, and no soft cap', async (context) => {
    const backend = await open(context);
    const source = drawDecoderSource(WIDE_DECODER);
    const tokens = drawnTokens('wide', 9, vocabularySize);
    const decoder = await backend.loadDecoder(source);
    await expectReference(decoder, await referenceLogits(source, tokens), tokens, [1, 4]);
    decoder.dispose();
  });

  test('past chunks, and a window that leaves the first of them behind', async (context) => {
    const backend = await open(context);
    const source = drawDecoderSource(LONG_DECODER);
    const tokens = drawnTokens('long', 266, vocabularySize);
    const expected = (await referenceLogits(source, tokens)).slice(252);
    const decoder = await backend.loadDecoder(source);
    const cache = await decoder.openCache(270);
    for (let position = 0; position < 252; position += 4) {
      await cache.step(tokens.slice(position, position + 4), position, 'nothing');
    }
    expectSameBits(await everyLogit(cache, tokens.slice(252), [3, 4, 1], 252), expected);
    // Written again from before the border.
    expectSameBits(await everyLogit(cache, tokens.slice(260), [1], 260), expected.slice(8));
    cache.dispose();
    decoder.dispose();
  });

  test('the last logits, the largest of them, or nothing', async (context) => {
    const backend = await open(context);
    const decoder = await small(backend);
    const cache = await decoder.openCache(4);
    const tokens = drawnTokens('wants', 3, vocabularySize);
    const every = await everyLogit(cache, tokens, [3]);
    const last = every[0]!.slice(2 * vocabularySize);
    const logits = await cache.step(tokens, 0, 'logits');
    expectSameBits('logits' in logits ? [logits.logits] : [], [last]);
    expect(await cache.step(tokens, 0, 'greedy')).toEqual({ wants: 'greedy', token: last.indexOf(Math.max(...last)) });
    expect(await cache.step(tokens, 0, 'nothing')).toEqual({ wants: 'nothing' });
    decoder.dispose();
  });

  test('interleaved caches do not mix, and outlive the handle of their decoder', async (context) => {
    const backend = await open(context);
    const source = drawDecoderSource(SMALL_DECODER, mixedGroups);
    const texts = ['one', 'two'].map((name) => drawnTokens(name, 4, vocabularySize));
    const decoder = await backend.loadDecoder(source);
    const caches = [await decoder.openCache(8), await decoder.openCache(8)];
    decoder.dispose();
    const actual: Float32Array[][] = [[], []];
    for (const position of [0, 1, 2, 3]) {
      for (const i of [0, 1]) {
        actual[i]!.push(...(await everyLogit(caches[i]!, [texts[i]![position]!], [1], position)));
      }
    }
    for (const i of [0, 1]) expectSameBits(actual[i]!, await referenceLogits(source, texts[i]!));
    for (const cache of caches) cache.dispose();
    await expect(caches[0]!.step([1], 0, 'greedy')).rejects.toMatchObject({ code: 'DISPOSED' });
    await expect(decoder.openCache(8)).rejects.toMatchObject({ code: 'DISPOSED' });
  });

  test('texts that take turns have the digests of the reference', async (context) => {
    const backend = await open(context);
    const source = drawDecoderSource(SMALL_DECODER, mixedGroups);
    const runs = decodeRuns(SMALL_DECODER)
      .slice(4, 6)
      .map((run) => ({ ...run, prompt: run.prompt.slice(0, 3), greedyTokens: 1, drawnTokens: 2 }));
    const decoder = await backend.loadDecoder(source);
    const reference = await CpuDecoder.load(source);
    expect(await decodeTogether(decoder, runs)).toEqual(await decodeTogether(reference, runs));
    decoder.dispose();
  });

  test('the comparison sees a norm, a scalar and an embedding that are a little off', async (context) => {
    const backend = await open(context);
    const source = drawDecoderSource(SMALL_DECODER, mixedGroups);
    const tokens = drawnTokens('faults', 2, vocabularySize);
    const expected = await referenceLogits(source, tokens);
    const flipped = (values: Uint16Array) => values.map((bits) => bits ^ 4);
    const faults: readonly Partial<typeof source>[] = [
      {
        vector: async (name, layer) =>
          (name === 'kNorm' ? flipped : (v: Uint16Array) => v)(await source.vector(name, layer)),
      },
      { layerScalar: async (layer) => (await source.layerScalar(layer)) * (layer === 0 ? 1.0625 : 1) },
      { embedding: async (first, count) => flipped(await source.embedding(first, count)) },
    ];
    for (const fault of faults) {
      const decoder = await backend.loadDecoder({ ...source, ...fault });
      await expect(expectReference(decoder, expected, tokens, [2])).rejects.toThrow();
      decoder.dispose();
    }
  });

  test('a cache that does not fit says how much is missing', async (context) => {
    const backend = await open(context);
    const capacity = 2 ** 24;
    const layers = Array.from({ length: 24 }, () => LONG_DECODER.layers[1]!);
    const decoder = await backend.loadDecoder(drawDecoderSource({ ...LONG_DECODER, layers, maxPositions: capacity }));
    const error = await decoder.openCache(capacity).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(SamebitsError);
    expect(error).toMatchObject({
      code: 'DEVICE_OUT_OF_MEMORY',
      expected: `${decoder.cacheSizeBytes(capacity)} bytes`,
    });
    expect(error instanceof SamebitsError && error.got).toMatch(/^\d+ bytes free, \d+ too few$/);
    decoder.dispose();
  });

  test('a cache of more positions than the model has, or of none, is refused', async (context) => {
    const backend = await open(context);
    const decoder = await small(backend);
    for (const capacity of [0, 1.5, SMALL_DECODER.maxPositions + 1]) {
      await expect(decoder.openCache(capacity)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
      expect(() => decoder.cacheSizeBytes(capacity)).toThrow(expect.objectContaining({ code: 'ARGUMENT_INVALID' }));
    }
    decoder.dispose();
  });

  test('weights that are not the configuration, and heads beyond the kernels, are refused', async (context) => {
    const backend = await open(context);
    const source = drawDecoderSource(SMALL_DECODER);
    const swapped = { ...source, linear: () => source.linear('head', null) };
    await expect(backend.loadDecoder(swapped)).rejects.toMatchObject({ code: 'SHAPE_MISMATCH' });
    const [layer] = SMALL_DECODER.layers;
    const config = { ...SMALL_DECODER, layers: [{ ...layer!, headSize: 1024 }] };
    await expect(backend.loadDecoder(drawDecoderSource(config))).rejects.toMatchObject({ code: 'DEVICE_LIMIT' });
  });
}

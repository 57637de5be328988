// Steps of the decoder by the cuda backend's own sources, on the host, against the reference.

import { afterAll, expect, test } from 'vitest';
import type { CudaBackend } from '../../node/cuda_backend.js';
import { openOnHost } from '../native/open_on_host.js';
import { drawnTokens, expectReference, referenceLogits } from './decoder_suite.js';
import { drawnDecoder, SMALL_DECODER } from './drawn_decoder.js';

let shared: Promise<CudaBackend> | undefined;
afterAll(async () => {
  const backend = await shared?.catch(() => undefined);
  await backend?.dispose();
});

test('steps of 1 to 4 tokens have the logits of the reference, past the window', async (context) => {
  shared ??= openOnHost(context);
  const backend = await shared;
  const source = drawnDecoder(SMALL_DECODER);
  const tokens = drawnTokens('small', 20, SMALL_DECODER.vocabularySize);
  const expected = await referenceLogits(source, tokens);
  const decoder = await backend.loadDecoder(drawnDecoder(SMALL_DECODER));
  for (const sizes of [[1], [4], [3, 1, 2]]) await expectReference(decoder, expected, tokens, sizes);
  decoder.dispose();
  expect(expected.length).toBe(20);
});

// Whole steps of a real model on WebGPU with the bits of the reference: all six layers, real weights and sizes. Windows of 128
// and chunks of 256, which take a software device long to fill, are those of drawn decoders in webgpu_decoder.test.ts; here
// the window is shortened.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { openFileDecoderSource } from '../../core/model/file_decoder_source.js';
import { convertFile } from '../../node/file_convert.js';
import { withSamebitsFile } from '../../node/packed_file.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { drawnTokens, expectReference, referenceLogits } from './decoder_suite.js';
import { useDawn } from './webgpu_device.js';

const WINDOW = 5;
const dawn = useDawn();
const folder = mkdtempSync(join(tmpdir(), 'samebits-model-'));
afterAll(() => rmSync(folder, { recursive: true }));

test('steps of four tokens and of one past a window, and not those of a longer window', async (context) => {
  const { device } = dawn(context);
  const packed = join(folder, 'model.safetensors');
  await convertFile(join(import.meta.dirname, '../data/gemma4-kjv-6m'), packed);
  await withSamebitsFile(packed, async (file) => {
    const real = await openFileDecoderSource(file);
    const withWindow = (window: number) => {
      const layers = real.config.layers.map((layer) => (layer.window === null ? layer : { ...layer, window }));
      return { ...real, config: { ...real.config, layers } };
    };
    const tokens = drawnTokens('a real model', 9, real.config.vocabularySize);
    const backend = await WebGPUBackend.create(device);
    const decoder = await backend.loadDecoder(withWindow(WINDOW));
    await expectReference(decoder, await referenceLogits(withWindow(WINDOW), tokens), tokens, [4, 1, 4]);
    const longer = await referenceLogits(withWindow(WINDOW + 1), tokens);
    await expect(expectReference(decoder, longer, tokens, [4, 1, 4])).rejects.toThrow();
    await backend.dispose();
  });
});

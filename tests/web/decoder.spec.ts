// Whole texts by the published browser build on WebGPU: the digest of every logit against the reference's, and the recorded
// one. A text and what it went on with are given at once, which gives the same logits in fewer steps.

import { readFileSync } from 'node:fs';
import { expect, test } from '@playwright/test';
import {
  CpuBackend,
  type DecodeRun,
  decodeRun,
  decodeRuns,
  drawDecoderSource,
  openSamebitsFile,
  TextModelFile,
} from '../../core/index.js';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import type { DeviceDecoder } from '../../core/model/decoder_backend.js';
import type { DecoderConfig } from '../../core/model/decoder_config.js';
import { openFileSource } from '../../node/file_source.js';
import { LONG_DECODER } from '../parity/hard_decoders.js';
import { type ModelServer, serveModels } from './model_server.js';
import { DECODER_RECORDS } from './records.js';

const MODEL = 'gemma4-kjv-6m.safetensors';
let server: ModelServer;
test.beforeAll(async () => {
  server = await serveModels(new Map([[MODEL, readFileSync(`build/${MODEL}`)]]));
});
test.afterAll(() => server.close());

/** The run's digest by the reference, and the run with its whole text for a prompt. */
async function onReference(decoder: DeviceDecoder, run: DecodeRun) {
  const { sha256, tokens } = await decodeRun(decoder, run, 1);
  return { sha256, whole: { ...run, prompt: [...run.prompt, ...tokens], greedyTokens: 0, drawnTokens: 0 } };
}

/** With the head sizes of the real model, whose kernels then need not be compiled again. */
const LONG: DecoderConfig = {
  ...LONG_DECODER,
  layers: LONG_DECODER.layers.map((layer) => ({ ...layer, headSize: 2 * layer.headSize })),
};

test('texts have the logits of the reference and of every record: past a window and a chunk, and of the real model', async ({
  page,
}) => {
  const packed = await openSamebitsFile(await openFileSource(`build/${MODEL}`));
  const real = await (await TextModelFile.open(packed)).load(new CpuBackend());
  const short = decodeRuns(real.decoder.config)[0]!;
  const long = { ...decodeRuns(LONG).find(({ prompt }) => prompt.length === 255)!, greedyTokens: 2, drawnTokens: 8 };
  const texts = [
    await onReference(await CpuDecoder.load(drawDecoderSource(LONG)), long),
    await onReference(real.decoder, short),
  ] as const;
  await packed.close();

  await page.goto(`${server.url}page`);
  const inPage = await page.evaluate(
    async ([name, url, config, long, short]: readonly [string, string, DecoderConfig, DecodeRun, DecodeRun]) => {
      const samebits: typeof import('../../web/index.js') = await import(name);
      const backend = await samebits.openBackend('webgpu');
      const drawn = await backend.loadDecoder(samebits.drawDecoderSource(config));
      const source = samebits.blobSource(await (await fetch(url)).blob(), 'model');
      const file = await samebits.TextModelFile.open(await samebits.openSamebitsFile(source));
      const { decoder } = await file.load(backend);
      return [(await samebits.decodeRun(drawn, long)).sha256, (await samebits.decodeRun(decoder, short)).sha256];
    },
    ['samebits', `${server.url}ignores/${MODEL}`, LONG, texts[0].whole, texts[1].whole] as const,
  );
  expect(inPage).toEqual(texts.map(({ sha256 }) => sha256));
  for (const { device, texts } of DECODER_RECORDS) expect(inPage[1], device).toBe(texts[short.name]?.sha256);
});

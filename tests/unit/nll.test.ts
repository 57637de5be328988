// The likelihood of the held-out text: what a loss is, and the small model's first window of it with and without 4 bits.

import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import {
  MemorySink,
  memoryFolder,
  memorySource,
  openModelCheckpoint,
  openSamebitsFile,
  planConversion,
  runConversion,
  TextTokenizer,
} from '../../core/index.js';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import { fileDecoderSource } from '../../core/model/file_decoder_source.js';
import { DecoderSession } from '../../core/model/session.js';
import { negativeLogLikelihood, windowLosses } from '../../scripts/nll.mjs';
import { MODEL, openBf16Model } from './bf16_decoder.js';

const fileOf = (name: string) => new Uint8Array(readFileSync(`${MODEL}/${name}`));
const textOf = (name: string) => readFileSync(`${MODEL}/${name}`, 'utf8');

async function meanOf(decoder: CpuDecoder, tokens: readonly number[], windows: number): Promise<number> {
  const model = { openSession: (capacity: number) => DecoderSession.open(decoder, capacity) };
  const losses = await windowLosses(model, tokens, windows);
  expect(losses).toHaveLength(256 * windows);
  return losses.reduce((sum, loss) => sum + loss, 0) / losses.length;
}

test('a loss is -ln of a share of the softmax', () => {
  expect(negativeLogLikelihood(Float32Array.of(5, 5, 5, 5), 2)).toBeCloseTo(Math.log(4), 12);
  expect(negativeLogLikelihood(Float32Array.of(1000, 1000 + Math.fround(Math.log(3))), 0)).toBeCloseTo(Math.log(4), 3);
});

test('4 bits cost the first window little', async () => {
  const tokens = new TextTokenizer(textOf('tokenizer.json'), textOf('tokenizer_config.json')).encode(textOf('val.txt'));
  expect(tokens).toHaveLength(JSON.parse(textOf('reference.json')).val_tokens);
  const { source } = await openBf16Model();
  const names = ['model.safetensors', 'config.json'];
  const sink = new MemorySink();
  await runConversion(
    await planConversion(await openModelCheckpoint(memoryFolder(new Map(names.map((name) => [name, fileOf(name)]))))),
    sink,
  );
  const packed = fileDecoderSource(await openSamebitsFile(memorySource(sink.bytes)), source.config);
  const plain = await meanOf(await CpuDecoder.loadFrom(source), tokens, 1);
  const int4 = await meanOf(await CpuDecoder.load(packed), tokens, 1);
  // The whole text has 3.0897 with f32.
  expect(Math.abs(plain - 3.0688)).toBeLessThan(1e-3);
  expect(Math.abs(int4 - plain)).toBeLessThan(0.03);
});

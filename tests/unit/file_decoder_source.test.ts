// The small model's weights in a converted file: each has its shape, and the bits of the source.

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
} from '../../core/index.js';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import { fileDecoderSource, openFileDecoderSource } from '../../core/model/file_decoder_source.js';
import { readHfConfig } from '../../core/model/hf_config.js';
import { DecoderSession } from '../../core/model/session.js';

const bytesOf = (name: string) => new Uint8Array(readFileSync(`tests/data/gemma4-kjv-6m/${name}`));
const config = readHfConfig(new TextDecoder().decode(bytesOf('config.json')));

async function converted() {
  const names = ['model.safetensors', 'config.json'];
  const model = await openModelCheckpoint(memoryFolder(new Map(names.map((name) => [name, bytesOf(name)]))));
  const plan = await planConversion(model);
  const sink = new MemorySink();
  await runConversion(plan, sink);
  return openSamebitsFile(memorySource(sink.bytes));
}

test('runs on the CPU, and rows of the embedding come one by one', async () => {
  const source = fileDecoderSource(await converted(), config);
  const all = await source.embedding(0, config.vocabularySize);
  expect(await source.embedding(700, 2)).toEqual(all.slice(700 * 256, 702 * 256));
  const session = await DecoderSession.open(await CpuDecoder.load(source), 16);
  // "And it came to" goes on as the model in f32 does: " pass".
  expect(await session.append([2, 298, 357, 470, 291], 'greedy')).toEqual({ wants: 'greedy', token: 600 });
});

test('what does not fit its config is named', async () => {
  const file = await converted();
  const code = (of: string) => expect.objectContaining({ code: of });
  expect(() => fileDecoderSource(file, { ...config, intermediateSize: 512 })).toThrow(code('FILE_TENSOR_INVALID'));
  const layers = [...config.layers, config.layers[5]!];
  expect(() => fileDecoderSource(file, { ...config, layers })).toThrow(code('FILE_TENSOR_MISSING'));
  await expect(openFileDecoderSource(file)).rejects.toEqual(code('FILE_TENSOR_MISSING'));
});

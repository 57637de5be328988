// A text model as a program uses it: what it refuses before it runs anything, and what leaving a text leaves behind.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { CpuBackend, openSamebitsFile, type TextModel, TextModelFile, type TextOptions } from '../../core/index.js';
import { convertFile } from '../../node/file_convert.js';
import { openFileSource } from '../../node/file_source.js';

const folder = mkdtempSync(join(tmpdir(), 'samebits-text-model-'));
let model: TextModel;

beforeAll(async () => {
  const packed = join(folder, 'model.safetensors');
  await convertFile(join(import.meta.dirname, '../data/gemma4-kjv-6m'), packed);
  const file = await openSamebitsFile(await openFileSource(packed));
  model = await (await TextModelFile.open(file)).load(new CpuBackend());
  await file.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

/** Also of what TypeScript would refuse. */
async function write(options: unknown): Promise<string> {
  let written = '';
  const text: AsyncIterable<{ delta: string }> = Reflect.apply(model.write, model, ['And it', options]);
  for await (const { delta } of text) written += delta;
  return written;
}

test('a text of two tokens', async () => {
  expect(await write({ maxNewTokens: 2 })).toBe(' shall come');
});

const REFUSED: Record<string, unknown> = {
  'no options': undefined,
  'no length': {},
  'half a token': { maxNewTokens: 2.5 },
  'a temperature that is no number': { maxNewTokens: 2, temperature: '1' },
  'a limit that a greedy text would not need': { maxNewTokens: 2, topK: 0 } satisfies TextOptions,
};
test.each(Object.entries(REFUSED))('%s is refused', async (_, options) => {
  await expect(write(options)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
});

test('a text that is left in the middle has freed its cache', async () => {
  const openCache = vi.spyOn(model.decoder, 'openCache');
  for await (const { text } of model.write('And it', { maxNewTokens: 100 })) if (text.length > 5) break;
  const cache = await openCache.mock.results[0]!.value;
  await expect(cache.step([1], 0, 'nothing')).rejects.toMatchObject({ code: 'DISPOSED' });
});

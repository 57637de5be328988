// The texts that ship with the page are what this build writes. A text is 160 steps deep: one wrong bit in a logit that
// decides sends it elsewhere.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { CpuBackend, openSamebitsFile, type TextModel, TextModelFile } from '../../core/index.js';
import { convertFile } from '../../node/file_convert.js';
import { openFileSource } from '../../node/file_source.js';
import type { VerseRecord } from '../../web/verse_records.js';

const DATA = join(import.meta.dirname, '../data');
const FOLDER = join(DATA, 'verses');
const settings = JSON.parse(readFileSync(join(import.meta.dirname, '../../web/verses.json'), 'utf8'));
const records = readdirSync(FOLDER).map((name): VerseRecord => JSON.parse(readFileSync(join(FOLDER, name), 'utf8')));
/** Of each record; the page's own tests write others. */
const SEEDS = [7];

const folder = mkdtempSync(join(tmpdir(), 'samebits-verses-'));
let model: TextModel;

beforeAll(async () => {
  const packed = join(folder, 'model.safetensors');
  await convertFile(join(DATA, 'gemma4-kjv-6m'), packed);
  const file = await openSamebitsFile(await openFileSource(packed));
  model = await (await TextModelFile.open(file)).load(new CpuBackend());
  await file.close();
});
afterAll(() => rmSync(folder, { recursive: true }));

test('there are records, of what the page asks for', () => {
  expect(records).not.toHaveLength(0);
  for (const { device, recordedAt, texts, ...recorded } of records) {
    const { seeds, ...asked } = settings;
    expect(recorded, device).toEqual(asked);
    expect(Object.keys(texts), device).toEqual(seeds.map(String));
    expect(new Set(Object.values(texts)).size, device).toBe(seeds.length);
    expect(recordedAt).toMatch(/^\d{4}-\d\d-\d\d$/);
  }
});

test.each(SEEDS)('seed %i gives the recorded text', async (seed) => {
  let text = '';
  for await (const { delta } of model.write(settings.prompt, { ...settings, seed })) text += delta;
  for (const { device, texts } of records) expect(text, device).toBe(texts[seed]);
});

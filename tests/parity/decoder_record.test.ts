// The recorded texts of a GPU against this machine: the reference and Dawn must give every logit that it gave, from the same
// kernels.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Backend, CpuBackend, decodeRuns, decodeTogether } from '../../core/index.js';
import { openFileDecoderSource } from '../../core/model/file_decoder_source.js';
import { openDawnBackend } from '../../node/dawn_device.js';
import type { DecoderRecord } from '../../node/decoder_record.js';
import { convertFile } from '../../node/file_convert.js';
import { withSamebitsFile } from '../../node/packed_file.js';
import { kernelSourcesSha256 } from '../../scripts/kernel-sources.mjs';
import { ranOn, skipWithout } from '../backend_report.js';

const FOLDER = 'tests/data/decoder_records';
const MODEL = 'tests/data/gemma4-kjv-6m';
/** The texts of the shortest prompt, greedy and drawn: past the window of 128; the command verifies all. */
const TEXTS = 2;
const names = existsSync(FOLDER) ? readdirSync(FOLDER) : [];

/** Name and digest of the first texts. */
async function textsOn(backend: Backend) {
  const folder = mkdtempSync(join(tmpdir(), 'samebits-decoder-record-'));
  try {
    const packed = join(folder, 'model.safetensors');
    await convertFile(MODEL, packed);
    return await withSamebitsFile(packed, async (file) => {
      const source = await openFileDecoderSource(file);
      const decoder = await backend.loadDecoder(source);
      const results = await decodeTogether(decoder, decodeRuns(source.config).slice(0, TEXTS));
      decoder.dispose();
      return Object.fromEntries(results.map(({ name, sha256, tokens }) => [name, { sha256, tokens }]));
    });
  } finally {
    rmSync(folder, { recursive: true });
    await backend.dispose();
  }
}

test('there is a record', (context) => {
  if (names.length === 0) skipWithout(context, 'recorded texts', `no file in ${FOLDER}`);
  expect(names.length).toBeGreaterThan(0);
});

describe.each(names)('%s', (name) => {
  const record: DecoderRecord = JSON.parse(readFileSync(join(FOLDER, name), 'utf8'));

  test('was made with the kernels of this tree, on cuda', () => {
    expect(record.cudaSourcesSha256).toBe(kernelSourcesSha256('cuda'));
    expect(record.shaderSourcesSha256).toBe(kernelSourcesSha256('shaders'));
    expect(record.backends).toEqual(expect.arrayContaining(['cpu', 'cuda']));
    expect(Object.keys(record.texts)).toHaveLength(20);
  });

  test('the reference gives the recorded texts', { timeout: 120_000 }, async () => {
    expect(record.texts).toMatchObject(await textsOn(new CpuBackend()));
  });

  test('Dawn gives the recorded texts', { timeout: 300_000 }, async (context) => {
    let dawn: Backend;
    try {
      dawn = await openDawnBackend();
    } catch (error) {
      return skipWithout(context, 'webgpu', error instanceof Error ? error.message : String(error));
    }
    ranOn(context, 'webgpu', dawn.device.name);
    expect(record.texts).toMatchObject(await textsOn(dawn));
  });
});

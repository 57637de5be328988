// The recorded texts of a GPU against this machine: the reference and Dawn must give every logit that it gave, from the same
// kernels. Which texts is a matter of time; `samebits verify --decode` runs all.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Backend, CpuBackend, type DecodeRun, decodeRun, decodeRuns } from '../../core/index.js';
import type { DeviceDecoder } from '../../core/model/decoder_backend.js';
import { openFileDecoderSource } from '../../core/model/file_decoder_source.js';
import { readHfConfig } from '../../core/model/hf_config.js';
import { openDawnBackend } from '../../node/dawn_device.js';
import type { DecoderRecord } from '../../node/decoder_record.js';
import { convertFile } from '../../node/file_convert.js';
import { withSamebitsFile } from '../../node/packed_file.js';
import { kernelSourcesSha256 } from '../../scripts/kernel-sources.mjs';
import { ranOn, skipWithout } from '../backend_report.js';

const FOLDER = 'tests/data/decoder_records';
const MODEL = 'tests/data/gemma4-kjv-6m';
const names = existsSync(FOLDER) ? readdirSync(FOLDER) : [];

/** Loads the recorded model, and hands it over with the run of a prompt of that length. */
async function withRun<T>(
  backend: Backend,
  promptLength: number,
  work: (decoder: DeviceDecoder, run: DecodeRun) => Promise<T>,
): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), 'samebits-decoder-record-'));
  try {
    const packed = join(folder, 'model.safetensors');
    await convertFile(MODEL, packed);
    return await withSamebitsFile(packed, async (file) => {
      const source = await openFileDecoderSource(file);
      const run = decodeRuns(source.config).find(({ prompt }) => prompt.length === promptLength);
      if (run === undefined) throw new Error(`no prompt of ${promptLength}`);
      return await work(await backend.loadDecoder(source), run);
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

  test('was made with the kernels of this tree, on cuda, of every text', () => {
    expect(record.cudaSourcesSha256).toBe(kernelSourcesSha256('cuda'));
    expect(record.shaderSourcesSha256).toBe(kernelSourcesSha256('shaders'));
    expect(record.backends).toEqual(expect.arrayContaining(['cpu', 'cuda']));
    const config = readHfConfig(readFileSync(join(MODEL, 'config.json'), 'utf8'));
    expect(Object.keys(record.texts)).toEqual(decodeRuns(config).map(({ name }) => name));
  });

  test('the reference gives a recorded text that goes past the window', async () => {
    const { name, ...text } = await withRun(new CpuBackend(), 127, (decoder, run) => decodeRun(decoder, run));
    expect(text).toEqual(record.texts[name]);
  });

  test('Dawn gives the logits of a recorded text', async (context) => {
    let dawn: Backend;
    try {
      dawn = await openDawnBackend();
    } catch (error) {
      return skipWithout(context, 'webgpu (Dawn)', error instanceof Error ? error.message : String(error));
    }
    ranOn(context, 'webgpu (Dawn)', dawn.device.name);
    const { name, sha256 } = await withRun(dawn, 1, (decoder, run) => {
      // As a prompt it takes fewer steps, and has the same logits.
      const prompt = [...run.prompt, ...(record.texts[run.name]?.tokens ?? [])];
      return decodeRun(decoder, { ...run, prompt, greedyTokens: 0, drawnTokens: 0 });
    });
    expect(sha256).toBe(record.texts[name]?.sha256);
  });
});

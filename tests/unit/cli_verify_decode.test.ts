// verify --decode: its verdict, its exit code and its record, with a device that computes rightly and one that does not.

import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, test, vi } from 'vitest';
import { CpuBackend } from '../../core/index.js';
import type { DecoderSource, DeviceDecoder } from '../../core/model/decoder_backend.js';
import { verifyDecode } from '../../node/commands/verify_decode.js';
import { convertFile } from '../../node/file_convert.js';

const folder = mkdtempSync(join(tmpdir(), 'samebits-verify-decode-'));
const packed = join(folder, 'model.safetensors');

/** With room for the first of the texts only. */
beforeAll(async () => {
  const source = join(folder, 'model');
  cpSync(join(import.meta.dirname, '../data/gemma4-kjv-6m'), source, { recursive: true });
  const config = JSON.parse(readFileSync(join(source, 'config.json'), 'utf8'));
  writeFileSync(join(source, 'config.json'), JSON.stringify({ ...config, max_position_embeddings: 41 }));
  await convertFile(source, packed);
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

/** The reference by another name, with one of its scalars a little off. */
class FaultyBackend extends CpuBackend {
  override loadDecoder(source: DecoderSource): Promise<DeviceDecoder> {
    const layerScalar = async (layer: number) => (await source.layerScalar(layer)) * (layer === 3 ? 1.0078125 : 1);
    return super.loadDecoder({ ...source, layerScalar });
  }
}

async function verify(backend: CpuBackend, record: string) {
  let out = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
  vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  const named = Object.defineProperty(backend, 'name', { value: 'webgpu' });
  await verifyDecode([packed], { backends: [named], unavailable: [] }, { record });
  return { out, exitCode: process.exitCode };
}

test('equal logits are said to be equal, and recorded', async () => {
  const path = join(folder, 'right.json');
  const { out, exitCode } = await verify(new CpuBackend(), path);
  expect(out).toMatch(/prompt of 1 +41 +[0-9a-f]{12} +equal/);
  expect(out).toContain("every logit of 1 of 1 texts equals the reference's, bit for bit");
  expect(exitCode).toBeUndefined();
  const { backends, texts } = JSON.parse(readFileSync(path, 'utf8'));
  expect(backends).toEqual(['cpu', 'webgpu']);
  expect(Object.keys(texts)).toEqual(['prompt of 1']);
  expect(texts['prompt of 1'].sha256).toMatch(/^[0-9a-f]{64}$/);
  expect(texts['prompt of 1'].tokens).toHaveLength(40);
});

test('a scalar that is a little off is found, with exit code 1 and no record', async () => {
  const path = join(folder, 'wrong.json');
  const { out, exitCode } = await verify(new FaultyBackend(), path);
  expect(out).toMatch(/prompt of 1 +41 +[0-9a-f]{12} +DIFFERS/);
  expect(out).toContain('every logit of 0 of 1 texts');
  expect(exitCode).toBe(1);
  expect(existsSync(path)).toBe(false);
});

test('one model at a time', async () => {
  const verifying = verifyDecode([packed, packed], { backends: [], unavailable: [] }, {});
  await expect(verifying).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
});

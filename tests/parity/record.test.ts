// The recorded CUDA runs against this machine: the reference and Dawn must give the bits that a GPU gave, from the same
// kernels. A record of other kernels proves nothing, so a stale one fails.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import {
  type Backend,
  CASES,
  CoalescedInt4Tensor,
  drawActivations,
  drawFormWeight,
  drawWeight,
  FORM_CASES,
  fileInputs,
  outputDigest,
  type ParityInput,
  type ParityResult,
  verifyWeight,
} from '../../core/index.js';
import { openDawnBackend } from '../../node/dawn_device.js';
import { convertFile } from '../../node/file_convert.js';
import { withSamebitsFile } from '../../node/packed_file.js';
import type { ParityRecord } from '../../node/record.js';
import { kernelSourcesSha256 } from '../../scripts/kernel-sources.mjs';
import { ranOn, skipWithout } from '../backend_report.js';

const FOLDER = 'tests/data/records';
const MODEL = 'tests/data/gemma4-kjv-6m';
const records = readdirSync(FOLDER).map((name): [string, ParityRecord] => [
  name,
  JSON.parse(readFileSync(join(FOLDER, name), 'utf8')),
]);

let backends: readonly Backend[] = [];
let unavailable = '';
const results = new Map<string, ParityResult>();

beforeAll(async () => {
  try {
    backends = [await openDawnBackend()];
  } catch (error) {
    unavailable = error instanceof Error ? error.message : String(error);
  }
  for (const parityCase of CASES) {
    const weight = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(parityCase));
    await collect(weight, [{ name: parityCase.name, m: parityCase.m, x: drawActivations(parityCase) }]);
  }
  // On the reference alone: webgpu_forms.test.ts compares Dawn with it, on these cases with fewer rows of x.
  for (const formCase of FORM_CASES) {
    const { name, m } = formCase;
    await collect(drawFormWeight(formCase), [{ name, m, x: drawActivations(formCase) }], []);
  }
  const folder = mkdtempSync(join(tmpdir(), 'samebits-record-'));
  try {
    const packed = join(folder, 'model.safetensors');
    await convertFile(MODEL, packed);
    await withSamebitsFile(packed, async (file) => {
      for (const [name, { k }] of file.weights) await collect(await file.readWeight(name), fileInputs(name, k));
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
}, 300_000);

afterAll(() => Promise.all(backends.map((backend) => backend.dispose())));

async function collect(weight: CoalescedInt4Tensor, inputs: readonly ParityInput[], on = backends): Promise<void> {
  for await (const result of verifyWeight(weight, inputs, on)) results.set(result.name, result);
}

test('there is a record', () => {
  expect(records.length).toBeGreaterThan(0);
});

describe.each(records)('%s', (_, record) => {
  test('was made with the CUDA kernels of this tree', () => {
    expect(record.cudaSourcesSha256).toBe(kernelSourcesSha256('cuda'));
  });

  test('was made with the WGSL kernels of this tree', () => {
    expect(record.shaderSourcesSha256).toBe(kernelSourcesSha256('shaders'));
  });

  test("holds every form's case table and every packed weight of the real model, equal on cuda, webgpu and cpu", () => {
    expect(Object.keys(record.cases).sort()).toEqual([...results.keys()].sort());
    expect(results.size).toBe(CASES.length + FORM_CASES.length + 42 * 5);
    for (const { backends: equal } of Object.values(record.cases)) {
      expect([...equal].sort()).toEqual(['cpu', 'cuda', 'webgpu']);
    }
  });

  test('the reference gives the recorded bits', () => {
    const here = Object.fromEntries([...results].map(([name, { sha256 }]) => [name, sha256]));
    const there = Object.fromEntries(Object.entries(record.cases).map(([name, { sha256 }]) => [name, sha256]));
    expect(here).toEqual(there);
  });

  test('Dawn gives the recorded bits of the default form', (context) => {
    const [dawn] = backends;
    if (!dawn) return skipWithout(context, 'webgpu', unavailable);
    ranOn(context, 'webgpu', dawn.device.name);
    const ofForms = new Set(FORM_CASES.map(({ name }) => name));
    for (const name of Object.keys(record.cases)) {
      if (ofForms.has(name)) continue;
      expect(results.get(name)?.outcomes, name).toEqual([{ backend: 'webgpu', difference: null }]);
    }
  });

  test('a digest tells one wrong bit', () => {
    const y = Float32Array.of(1, 2);
    const half = Uint16Array.of(0x3f80, 0x4000);
    const before = outputDigest(y, half);
    new Uint32Array(y.buffer)[1]! ^= 1;
    expect(outputDigest(y, half)).not.toBe(before);
  });
});

// Mean cases without end on real backends: uploaded, multiplied in both output types at the same time, every bit compared.

import * as fc from 'fast-check';
import { afterAll, describe, expect, type TestContext, test } from 'vitest';
import { type Backend, firstDifference, formatDifference, int4PlainMM } from '../../core/index.js';
import { drawSoakActivations, drawSoakWeight, type SoakCase } from '../../core/parity/soak_cases.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { openOnHost } from '../native/open_on_host.js';
import { SEED, soakCases } from '../soak_arbitrary.js';
import { useDawn } from './webgpu_device.js';

/** Cases in flight together. */
const BATCH = 25;

/** What differs, or `equal`. */
async function run(backend: Backend, of: SoakCase): Promise<string> {
  const weight = drawSoakWeight(of);
  const x = drawSoakActivations(of);
  const handle = await backend.upload(weight);
  try {
    const [f32, bf16] = await Promise.all([
      backend.linear(x, handle),
      backend.linear(x, handle, { outputType: 'bf16' }),
    ]);
    const difference =
      firstDifference(int4PlainMM(x, weight), f32, of.n) ?? firstDifference(int4PlainMM(x, weight, 'bf16'), bf16, of.n);
    return difference ? formatDifference(difference) : 'equal';
  } finally {
    handle.dispose();
  }
}

async function runMany(backend: Backend, batches: number): Promise<void> {
  const property = fc.asyncProperty(fc.array(soakCases(), { minLength: BATCH, maxLength: BATCH }), async (cases) => {
    for (const outcome of await Promise.all(cases.map((of) => run(backend, of)))) expect(outcome).toBe('equal');
  });
  await fc.assert(property, { numRuns: batches, seed: SEED });
}

describe('webgpu', () => {
  const dawn = useDawn();
  const backends: WebGPUBackend[] = [];
  afterAll(() => Promise.all(backends.map((backend) => backend.dispose())));

  test(`1250 mean cases, seed ${SEED}`, async (context: TestContext) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    backends.push(backend);
    await runMany(backend, 50);
  });

  test(`250 mean cases in slices of a few rows, without packed dot products, seed ${SEED}`, async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device, { dot: 'unpacked', maxBindingBytes: 2048 });
    backends.push(backend);
    await runMany(backend, 10);
  });
});

test(`cuda, its sources on the host: 750 mean cases, seed ${SEED}`, async (context) => {
  const backend = await openOnHost(context);
  await runMany(backend, 30);
  await backend.dispose();
});

// Devices with less shared memory than the newest: the same bits with fewer warps, fewer rows a pass, or x left where it is.

import { afterAll, describe, test } from 'vitest';
import {
  CASES,
  CoalescedInt4Tensor,
  drawActivations,
  drawFormWeight,
  drawWeight,
  FORM_CASES,
  verifyWeight,
} from '../../core/index.js';
import type { CudaBackend } from '../../node/cuda_backend.js';
import { openOnHost } from '../native/open_on_host.js';
import type { OpenCuda } from './cuda_suite.js';
import { drawnPlans } from './drawn_plans.js';

/** Turing, and Ampere and Ada for the desktop. */
describe.each([64, 99])('%i KiB of shared memory', (kib) => {
  let shared: Promise<CudaBackend> | undefined;
  const open: OpenCuda = (context) => {
    process.env['CUDA_ON_HOST_SHARED_BYTES'] = String(kib * 1024);
    shared ??= openOnHost(context).finally(() => {
      delete process.env['CUDA_ON_HOST_SHARED_BYTES'];
    });
    return shared;
  };
  afterAll(async () => {
    const backend = await shared?.catch(() => undefined);
    await backend?.dispose();
  });

  test('long rows of the case table', async (context) => {
    const backend = await open(context);
    const long = CASES.filter(({ k, m }) => k >= 16_384 || (k >= 4096 && m > 1));
    const inForms = FORM_CASES.filter(
      ({ form, k, m, weights }) => k >= 16_384 && m === 1 && weights === 'plain' && form.center === 0,
    );
    if (long.length === 0 || inForms.length === 0) throw new Error('the case tables have no long rows');
    const drawn = [
      ...long.map((of) => ({ of, draw: () => CoalescedInt4Tensor.fromInt4Tensor(drawWeight(of)) })),
      ...inForms.map((of) => ({ of, draw: () => drawFormWeight(of) })),
    ];
    for (const { of, draw } of drawn) {
      const tensor = draw();
      const inputs = [{ name: of.name, m: of.m, x: drawActivations(of) }];
      for await (const { name, outcomes } of verifyWeight(tensor, inputs, [backend])) {
        if (outcomes.some(({ difference }) => difference !== null)) throw new Error(`${name}: wrong bits`);
      }
    }
  });

  drawnPlans(open, 0, 20);
});

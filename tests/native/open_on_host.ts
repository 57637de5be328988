// The cuda backend whose kernels and runtime are the host's.

import type { TestContext } from 'vitest';
import { CudaBackend } from '../../node/cuda_backend.js';
import { ranOn, skipWithout } from '../backend_report.js';
import { buildAddonOnHost } from './build_on_host.js';

const NAME = 'cuda (its sources on the host)';

/** What its device holds (cuda_runtime.h). */
export const HOST_MEMORY_BYTES = 64 * 2 ** 20;

/** Opens a backend of the test's own, or skips the test where there is no compiler. */
export async function openOnHost(context: TestContext): Promise<CudaBackend> {
  const build = await buildAddonOnHost();
  if ('missing' in build) skipWithout(context, NAME, build.missing);
  process.env['SAMEBITS_CUDA_ADDON'] = build.path;
  try {
    const backend = await CudaBackend.open();
    ranOn(context, NAME, 'g++, every thread a fiber');
    return backend;
  } finally {
    delete process.env['SAMEBITS_CUDA_ADDON'];
  }
}

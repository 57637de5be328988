// The cuda backend's own sources, kernels and addon, on the host: what a machine without a GPU can prove of them.

import { afterAll } from 'vitest';
import type { CudaBackend } from '../../node/cuda_backend.js';
import { openOnHost } from '../native/open_on_host.js';
import { cudaSuite, type OpenCuda } from './cuda_suite.js';
import { drawnPlans } from './drawn_plans.js';

let shared: Promise<CudaBackend> | undefined;

const open: OpenCuda = (context) => {
  shared ??= openOnHost(context);
  return shared;
};

cudaSuite(open);
for (let first = 0; first < 60; first += 20) drawnPlans(open, first, 20);

afterAll(async () => {
  const backend = await shared?.catch(() => undefined);
  await backend?.dispose();
});

// The cuda backend's own sources, kernels and addon, on the host: what a machine without a GPU can prove of them.

import { afterAll } from 'vitest';
import type { CudaBackend } from '../../node/cuda_backend.js';
import { openOnHost } from '../native/open_on_host.js';
import { cudaSuite } from './cuda_suite.js';

let shared: Promise<CudaBackend> | undefined;

cudaSuite((context) => {
  shared ??= openOnHost(context);
  return shared;
});

afterAll(async () => {
  const backend = await shared?.catch(() => undefined);
  await backend?.dispose();
});

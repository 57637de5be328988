// Weights of every form by the cuda backend's own sources, on the host.

import { afterAll } from 'vitest';
import { FORM_CASES } from '../../core/index.js';
import type { CudaBackend } from '../../node/cuda_backend.js';
import { openOnHost } from '../native/open_on_host.js';
import { cudaFormsSuite } from './cuda_forms_suite.js';

/** Larger ones take the host seconds each. */
const MAX_PRODUCTS = 140_000;

let shared: Promise<CudaBackend> | undefined;

cudaFormsSuite(
  (context) => {
    shared ??= openOnHost(context);
    return shared;
  },
  FORM_CASES.filter(({ n, k, m }) => n * k * m <= MAX_PRODUCTS),
);

afterAll(async () => {
  const backend = await shared?.catch(() => undefined);
  await backend?.dispose();
});

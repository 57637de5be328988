// Steps of the decoder by the cuda backend's own sources, on the host, against the reference.

import { afterAll } from 'vitest';
import type { CudaBackend } from '../../node/cuda_backend.js';
import { openOnHost } from '../native/open_on_host.js';
import { cudaDecoderSuite } from './cuda_decoder_suite.js';

let shared: Promise<CudaBackend> | undefined;

cudaDecoderSuite((context) => {
  shared ??= openOnHost(context);
  return shared;
});

afterAll(async () => {
  const backend = await shared?.catch(() => undefined);
  await backend?.dispose();
});

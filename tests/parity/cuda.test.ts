// The cuda backend on a real device.

import { afterAll } from 'vitest';
import { SamebitsError } from '../../core/index.js';
import { CudaBackend } from '../../node/cuda_backend.js';
import { ranOn, skipWithout } from '../backend_report.js';
import { cudaDecoderSuite } from './cuda_decoder_suite.js';
import { cudaFormsSuite } from './cuda_forms_suite.js';
import { cudaSuite, type OpenCuda } from './cuda_suite.js';
import { drawnPlans } from './drawn_plans.js';

const opened = CudaBackend.open().catch((error: unknown) => {
  if (error instanceof SamebitsError && error.code === 'BACKEND_UNAVAILABLE') return error;
  throw error;
});

afterAll(async () => {
  const backend = await opened;
  if (backend instanceof CudaBackend) await backend.dispose();
});

const open: OpenCuda = async (context) => {
  const backend = await opened;
  if (backend instanceof SamebitsError) skipWithout(context, 'cuda', backend.got);
  ranOn(context, 'cuda', backend.device.name);
  return backend;
};

cudaSuite(open);
cudaDecoderSuite(open);
cudaFormsSuite(open);
drawnPlans(open, 0, 200);

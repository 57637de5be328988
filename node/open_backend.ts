// Which backend runs: the one that was asked for, or the best one that is here.

import type { Backend, BackendName, PassedOver } from '../core/index.js';
import { CpuBackend, SamebitsError } from '../core/index.js';
import { WebGPUBackend } from '../shaders/index.js';
import { CudaBackend } from './cuda_backend.js';
import { openDawnBackend } from './dawn_device.js';

/** Best first: what 'auto' tries in turn. */
export const BACKEND_ORDER: readonly BackendName[] = ['cuda', 'webgpu', 'cpu'];

/**
 * Opens a backend. 'auto' takes the first of cuda, webgpu and cpu that is available and lists in `passedOver` why the
 * others were not; a name never falls back. A GPUDevice of the caller's stays the caller's: dispose leaves it alone.
 * 'auto' passes over a software WebGPU adapter, which is slower than the reference; ask for 'webgpu' to have it.
 * @throws SamebitsError BACKEND_UNAVAILABLE with the reason
 */
export async function openBackend(choice: 'auto' | BackendName | GPUDevice = 'auto'): Promise<Backend> {
  if (typeof choice !== 'string') return WebGPUBackend.create(choice);
  if (choice !== 'auto') return openNamed(choice, []);
  const passedOver: PassedOver[] = [];
  for (const name of BACKEND_ORDER) {
    try {
      const backend = await openNamed(name, passedOver);
      if (name === 'cpu' || !backend.device.isSoftware) return backend;
      passedOver.push({ name, reason: `${backend.device.name} is a software adapter` });
      await backend.dispose();
    } catch (error) {
      if (!(error instanceof SamebitsError) || error.code !== 'BACKEND_UNAVAILABLE') throw error;
      passedOver.push({ name, reason: error.got });
    }
  }
  throw new SamebitsError('BACKEND_UNAVAILABLE', {
    rule: 'some backend must be available',
    expected: BACKEND_ORDER.join(', '),
    got: 'none',
    fix: "Run 'samebits doctor'.",
  });
}

async function openNamed(name: BackendName, passedOver: readonly PassedOver[]): Promise<Backend> {
  switch (name) {
    case 'cuda':
      return CudaBackend.open({ passedOver });
    case 'webgpu':
      return openDawnBackend(passedOver);
    case 'cpu':
      return new CpuBackend(passedOver);
    default:
      throw new SamebitsError('ARGUMENT_INVALID', {
        rule: 'a backend is chosen by name',
        expected: `'auto', ${BACKEND_ORDER.map((known) => `'${known}'`).join(', ')} or a GPUDevice`,
        got: JSON.stringify(name),
        fix: "Pass one of these names; 'samebits doctor' shows what is here.",
      });
  }
}

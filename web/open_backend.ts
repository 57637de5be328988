// Which backend runs in a browser: the one that was asked for, or the best one that is here.

import { type Backend, CpuBackend, type PassedOver, SamebitsError } from '../core/index.js';
import { WebGPUBackend } from '../shaders/index.js';
import { openBrowserBackend } from './browser_device.js';

/**
 * Opens a backend. 'auto' takes webgpu where it is available and else cpu, and lists in `passedOver` why webgpu was not
 * taken; a name never falls back. A GPUDevice of the caller's stays the caller's: dispose leaves it alone.
 * 'auto' passes over a software adapter, which is slower than the reference; ask for 'webgpu' to have it.
 * The cpu backend computes on the calling thread: open it in a worker where that matters.
 * @throws SamebitsError BACKEND_UNAVAILABLE with the reason; ARGUMENT_INVALID for a name that does not exist
 */
export async function openBackend(choice: 'auto' | 'webgpu' | 'cpu' | GPUDevice = 'auto'): Promise<Backend> {
  if (typeof choice !== 'string') return WebGPUBackend.create(choice);
  switch (choice) {
    case 'auto':
      return openBest();
    case 'webgpu':
      return openBrowserBackend();
    case 'cpu':
      return new CpuBackend();
    default:
      throw new SamebitsError('ARGUMENT_INVALID', {
        rule: 'a backend is chosen by name',
        expected: "'auto', 'webgpu', 'cpu' or a GPUDevice",
        got: JSON.stringify(choice),
        fix: "Pass one of these; 'cuda' is there in Node only.",
      });
  }
}

async function openBest(): Promise<Backend> {
  const passedOver: PassedOver[] = [];
  try {
    const backend = await openBrowserBackend();
    if (!backend.device.isSoftware) return backend;
    passedOver.push({ name: 'webgpu', reason: `${backend.device.name} is a software adapter` });
    await backend.dispose();
  } catch (error) {
    if (!(error instanceof SamebitsError) || error.code !== 'BACKEND_UNAVAILABLE') throw error;
    passedOver.push({ name: 'webgpu', reason: error.got });
  }
  return new CpuBackend(passedOver);
}

// From nothing to the first result: each step of opening a device, timed.

import { CoalescedInt4Tensor, drawActivations, drawWeight } from '../../core/index.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { requestBrowserDevice } from '../browser_device.js';
import type { ColdStart } from './messages.js';

/** The first matvec: large enough to be one, too small for its own time to count. */
const FIRST = {
  name: 'cold start',
  n: 256,
  k: 1024,
  groupSize: 32,
  m: 1,
  weights: 'plain',
  activations: 'plain',
} as const;

/**
 * Opens a device, which dies with its backend, and multiplies once on it.
 * @throws SamebitsError BACKEND_UNAVAILABLE with the reason
 */
export async function openCold() {
  const weight = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(FIRST));
  const x = drawActivations(FIRST);
  const elapsedMs = stopwatch();
  const gpu = await requestBrowserDevice();
  const deviceMs = elapsedMs();
  const backend = await WebGPUBackend.create(gpu, { ownsDevice: true });
  const kernelsMs = elapsedMs();
  const uploaded = await backend.upload(weight);
  await backend.linear(x, uploaded);
  uploaded.dispose();
  const coldStart: ColdStart = { deviceMs, kernelsMs, firstMatvecMs: elapsedMs() };
  return { gpu, backend, coldStart };
}

/** Milliseconds since it was made, or since it was last read. */
function stopwatch(): () => number {
  let last = performance.now();
  return () => {
    const now = performance.now();
    const elapsedMs = now - last;
    last = now;
    return elapsedMs;
  };
}

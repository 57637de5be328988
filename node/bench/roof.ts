// A warm device and its read roof: the rate, measured in the same run, that a matvec's bandwidth is a percentage of.

import type { Backend } from '../../core/index.js';
import { type GpuState, gpuStates, isNvidia } from './gpu_state.js';

const ROOF_BYTES = { hardware: 4e9, software: 64e6 };
const ROOF_READS = { hardware: 40, software: 4 };
const WARM_UP_READS = 10;
/** A device that idled takes this long to reach its clocks; the first reading in a process is far too low. */
const WARM_UP_MS = { hardware: 1000, software: 0 };

/**
 * Reads memory until the device is at its clocks, and gives those, as nvidia-smi saw them meanwhile; null for
 * other devices than NVIDIA's and without nvidia-smi.
 */
export async function warmUp(backend: Backend): Promise<readonly GpuState[] | null> {
  const kind = kindOf(backend);
  const end = performance.now() + WARM_UP_MS[kind];
  const read = () => backend.benchmark.readBandwidthGBps(ROOF_BYTES[kind], WARM_UP_READS);
  while (performance.now() < end) await read();
  if (!isNvidia(backend.device)) return null;
  let isAnswered = false;
  const asked = gpuStates().finally(() => {
    isAnswered = true;
  });
  while (!isAnswered) await read();
  return asked;
}

/** GB/s of the best of many reads. Warm the device first. */
export function readRoof(backend: Backend): Promise<number> {
  const kind = kindOf(backend);
  return backend.benchmark.readBandwidthGBps(ROOF_BYTES[kind], ROOF_READS[kind]);
}

function kindOf({ device }: Backend): 'hardware' | 'software' {
  return device.isSoftware ? 'software' : 'hardware';
}

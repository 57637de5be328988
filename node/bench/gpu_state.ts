// What nvidia-smi says of the GPUs of this machine; null where there is none to ask.

import { execFile } from 'node:child_process';
import type { DeviceInfo } from '../../core/index.js';

/** One GPU. A figure that the driver does not give is null. */
export interface GpuState {
  readonly name: string;
  readonly driver: string;
  readonly smClockMHz: number | null;
  readonly maxSmClockMHz: number | null;
  readonly memoryClockMHz: number | null;
  readonly maxMemoryClockMHz: number | null;
  readonly freeMemoryBytes: number | null;
}

const FIELDS = [
  'name',
  'driver_version',
  'clocks.current.sm',
  'clocks.max.sm',
  'clocks.current.memory',
  'clocks.max.memory',
  'memory.free',
];
const ANSWER_MS = 10_000;

/** Every GPU, in the driver's order; null without nvidia-smi, or when it does not answer. */
export function gpuStates(command = 'nvidia-smi'): Promise<readonly GpuState[] | null> {
  const query = [`--query-gpu=${FIELDS.join(',')}`, '--format=csv,noheader,nounits'];
  return new Promise((resolve) => {
    execFile(command, query, { timeout: ANSWER_MS }, (error, output) => resolve(error ? null : parseGpuStates(output)));
  });
}

/** Rows of `nvidia-smi --query-gpu=... --format=csv,noheader,nounits`; null when none is whole. */
export function parseGpuStates(csv: string): readonly GpuState[] | null {
  const states = csv.split('\n').flatMap((line) => {
    const [name, driver, ...figures] = line.split(',').map((cell) => cell.trim());
    if (!name || !driver || figures.length !== FIELDS.length - 2) return [];
    // What is not supported reads `[N/A]`.
    const [sm, maxSm, memory, maxMemory, freeMiB] = figures.map((cell) => (/^\d+$/.test(cell) ? Number(cell) : null));
    return [
      {
        name,
        driver,
        smClockMHz: sm ?? null,
        maxSmClockMHz: maxSm ?? null,
        memoryClockMHz: memory ?? null,
        maxMemoryClockMHz: maxMemory ?? null,
        freeMemoryBytes: freeMiB == null ? null : freeMiB * 2 ** 20,
      },
    ];
  });
  return states.length > 0 ? states : null;
}

/** Whether nvidia-smi knows this device. A WebGPU adapter may hide which card it is, but not whose. */
export function isNvidia({ name, isSoftware, details }: DeviceInfo): boolean {
  return !isSoftware && /nvidia/i.test(`${name} ${details['vendor'] ?? ''}`);
}

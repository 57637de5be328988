// Device time of compute passes: timestamp queries where the device has them, else the wall clock.

import { readBack } from './device_buffer.js';
import type { DeviceGuard } from './device_guard.js';
import { BufferUsage } from './gpu_flags.js';

/** Queries of a set; WebGPU allows 4096. */
const MAX_PASSES_PER_SET = 2048;
const TIMESTAMP_BYTES = 8;

export function hasTimestamps(device: GPUDevice): boolean {
  return device.features.has('timestamp-query');
}

/** How timePasses measures on this device, for people. */
export function timingMethod(device: GPUDevice): string {
  return hasTimestamps(device) ? 'timestamp queries around each pass' : 'wall clock from submission to completion';
}

/** Commands that are timed, and what goes before them, which is not. */
export interface TimedWork {
  prepare?(encoder: GPUCommandEncoder): void;
  record(pass: GPUComputePassEncoder): void;
}

/** Records `passes` equal compute passes, a command buffer each, and gives the time of each in microseconds. */
export async function timePasses(guard: DeviceGuard, work: TimedWork, passes: number): Promise<number[]> {
  const elapsedUs: number[] = [];
  if (hasTimestamps(guard.device)) {
    for (let done = 0; done < passes; done += MAX_PASSES_PER_SET) {
      elapsedUs.push(...(await timestampedPasses(guard, work, Math.min(MAX_PASSES_PER_SET, passes - done))));
    }
  } else {
    for (let i = 0; i < passes; i++) elapsedUs.push(await wallClockPass(guard, work));
  }
  return elapsedUs;
}

async function timestampedPasses(guard: DeviceGuard, work: TimedWork, passes: number): Promise<number[]> {
  const { device } = guard;
  const sizeBytes = passes * 2 * TIMESTAMP_BYTES;
  const { value, accepted } = guard.scoped('timestamp queries', () => ({
    querySet: device.createQuerySet({ type: 'timestamp', count: passes * 2 }),
    resolved: device.createBuffer({
      label: 'timestamps',
      size: sizeBytes,
      usage: BufferUsage.QUERY_RESOLVE | BufferUsage.COPY_SRC,
    }),
  }));
  const { querySet, resolved } = value;
  try {
    await accepted;
    await guard.run('timed passes', () => {
      for (let i = 0; i < passes; i++) {
        submitPass(device, work, { querySet, beginningOfPassWriteIndex: 2 * i, endOfPassWriteIndex: 2 * i + 1 });
      }
    });
    const bytes = await readBack(guard, 'a read of timestamps', resolved, sizeBytes, (encoder) =>
      encoder.resolveQuerySet(querySet, 0, passes * 2, resolved, 0),
    );
    const nanoseconds = new BigUint64Array(bytes.buffer);
    return Array.from({ length: passes }, (_, i) => Number(nanoseconds[2 * i + 1]! - nanoseconds[2 * i]!) / 1000);
  } finally {
    querySet.destroy();
    resolved.destroy();
  }
}

async function wallClockPass(guard: DeviceGuard, work: TimedWork): Promise<number> {
  const start = performance.now();
  const { value, accepted } = guard.scoped('a timed pass', () => {
    submitPass(guard.device, work);
    return guard.settle('a timed pass', guard.device.queue.onSubmittedWorkDone());
  });
  await value;
  const elapsedUs = (performance.now() - start) * 1000;
  await accepted;
  return elapsedUs;
}

function submitPass(device: GPUDevice, work: TimedWork, timestampWrites?: GPUComputePassTimestampWrites): void {
  const encoder = device.createCommandEncoder({ label: 'timed pass' });
  work.prepare?.(encoder);
  const pass = encoder.beginComputePass(timestampWrites ? { timestampWrites } : {});
  work.record(pass);
  pass.end();
  device.queue.submit([encoder.finish()]);
}

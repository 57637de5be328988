// The rate at which a device reads memory: the roof that a matvec's bandwidth is a percentage of.

import type { DeviceGuard } from './device_guard.js';
import { bind, type Dispatch, recordDispatches, spread } from './dispatches.js';
import { BufferUsage } from './gpu_flags.js';
import type { Pipelines } from './pipelines.js';
import { timePasses } from './timing.js';

/** Of read_bandwidth.wgsl: 256 lanes, 16 loads of 16 bytes each. */
export const BYTES_PER_WORKGROUP = 256 * 16 * 16;
const VECTOR_BYTES = 16;
/** Buffers start as zeros, so no exclusive or of them is this. */
const NEVER = 0xffffffff;

/** The largest rate in GB/s (1e9) of `replays` reads of about `sizeBytes`, in buffers of at most `maxBindingBytes`. */
export async function measureReadBandwidth(
  guard: DeviceGuard,
  pipelines: Pipelines,
  maxBindingBytes: number,
  sizeBytes: number,
  replays: number,
): Promise<number> {
  const { device } = guard;
  const { pipeline, bindGroupLayout } = await pipelines.readBandwidth();
  const buffers: GPUBuffer[] = [];
  const create = (size: number, usage: number) => {
    const buffer = device.createBuffer({ label: 'read bandwidth', size, usage });
    buffers.push(buffer);
    return buffer;
  };
  const dispatches: Dispatch[] = [];
  const pieceBytes = Math.floor(maxBindingBytes / VECTOR_BYTES) * VECTOR_BYTES;
  const totalBytes = Math.max(1, Math.floor(sizeBytes / VECTOR_BYTES)) * VECTOR_BYTES;
  try {
    await guard.run('memory to read', () => {
      const sink = create(4, BufferUsage.STORAGE);
      for (let start = 0; start < totalBytes; start += pieceBytes) {
        const size = Math.min(pieceBytes, totalBytes - start);
        const data = create(size, BufferUsage.STORAGE);
        const params = create(8, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
        device.queue.writeBuffer(params, 0, new Uint32Array([size / VECTOR_BYTES, NEVER]));
        const bindings = [{ buffer: data }, { buffer: sink }, { buffer: params }];
        dispatches.push({
          pipeline,
          bindGroup: bind(device, bindGroupLayout, bindings),
          workgroups: [...spread(Math.ceil(size / BYTES_PER_WORKGROUP)), 1],
        });
      }
    });
    const work = { record: (pass: GPUComputePassEncoder) => recordDispatches(pass, dispatches) };
    const elapsedUs = await timePasses(guard, work, replays);
    return totalBytes / Math.min(...elapsedUs) / 1000;
  } finally {
    for (const buffer of buffers) buffer.destroy();
  }
}

// Buffers for the inputs and outputs of single calls and for the way back, kept for the next call of a like size.

import type { DeviceGuard } from './device_guard.js';
import { BufferUsage } from './gpu_flags.js';

const MIN_SIZE_BYTES = 256;
/** Larger buffers are not kept; a token's activations are far smaller. */
const MAX_KEPT_SIZE_BYTES = 4 * 2 ** 20;
const MAX_KEPT_PER_SIZE = 4;

/** Every buffer has one user at a time: from `acquire` to `release`; after a failure it is destroyed instead. */
export class BufferPool {
  readonly #free = new Map<number, GPUBuffer[]>();

  constructor(
    readonly guard: DeviceGuard,
    readonly usage: number,
  ) {}

  /** At least `sizeBytes`, contents unknown. Call inside the error scope of the work that uses it. */
  acquire(sizeBytes: number): GPUBuffer {
    const size = sizeClass(sizeBytes);
    return this.#free.get(size)?.pop() ?? this.guard.device.createBuffer({ label: 'pooled', size, usage: this.usage });
  }

  /** Gives a buffer back; whatever the queue still does with it comes before what the next user submits. */
  release(buffer: GPUBuffer): void {
    const free = this.#free.get(buffer.size) ?? [];
    if (buffer.size > MAX_KEPT_SIZE_BYTES || free.length >= MAX_KEPT_PER_SIZE) {
      buffer.destroy();
      return;
    }
    free.push(buffer);
    this.#free.set(buffer.size, free);
  }

  dispose(): void {
    for (const buffers of this.#free.values()) for (const buffer of buffers) buffer.destroy();
    this.#free.clear();
  }
}

/** Of what linears read and write. */
export const OPERAND_USAGE = BufferUsage.STORAGE | BufferUsage.COPY_SRC | BufferUsage.COPY_DST;
/** Of what the host reads. */
export const STAGING_USAGE = BufferUsage.MAP_READ | BufferUsage.COPY_DST;

function sizeClass(sizeBytes: number): number {
  if (sizeBytes > MAX_KEPT_SIZE_BYTES) return Math.ceil(sizeBytes / MIN_SIZE_BYTES) * MIN_SIZE_BYTES;
  return Math.max(MIN_SIZE_BYTES, 2 ** Math.ceil(Math.log2(sizeBytes)));
}

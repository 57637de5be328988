// Plain device memory for activations and outputs, and the way back from the device.

import { checkedContents } from '../core/argument_checks.js';
import { type DeviceBuffer, disposedError } from '../core/backend.js';
import type { DeviceGuard } from './device_guard.js';
import { BufferUsage, MAP_MODE_READ } from './gpu_flags.js';
import type { Lifetime } from './lifetime.js';

/** Made by a backend, which it dies with. */
export class WebGPUBuffer implements DeviceBuffer {
  #disposed = false;

  constructor(
    readonly owner: object,
    readonly guard: DeviceGuard,
    readonly lifetime: Lifetime,
    /** For callers with a pipeline of their own: usage STORAGE, COPY_SRC, COPY_DST; its size is rounded up to words. */
    readonly buffer: GPUBuffer,
    readonly sizeBytes: number,
    readonly onDispose: (buffer: WebGPUBuffer) => void,
  ) {}

  get disposed(): boolean {
    return this.#disposed;
  }

  write(bytes: Uint8Array): Promise<void> {
    return this.lifetime.track(async () => {
      if (this.#disposed) throw disposedError('buffer');
      const contents = wholeWords(checkedContents(bytes, this.sizeBytes));
      await this.guard.run('a write to a buffer', () => this.guard.device.queue.writeBuffer(this.buffer, 0, contents));
    });
  }

  read(): Promise<Uint8Array> {
    return this.lifetime.track(async () => {
      if (this.#disposed) throw disposedError('buffer');
      return readBack(this.guard, 'a read of a buffer', this.buffer, this.sizeBytes);
    });
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.onDispose(this);
    this.buffer.destroy();
  }
}

/** Buffers are bound and copied in words of 4 bytes. */
export function wordAligned(sizeBytes: number): number {
  return Math.ceil(sizeBytes / 4) * 4;
}

/** The same bytes, or a copy that ends with a whole word. */
function wholeWords(bytes: Uint8Array): Uint8Array<ArrayBufferLike> {
  if (bytes.byteLength % 4 === 0) return bytes;
  const padded = new Uint8Array(wordAligned(bytes.byteLength));
  padded.set(bytes);
  return padded;
}

/**
 * The first `sizeBytes` of a buffer once everything submitted before, and the commands that `record` adds, are done.
 * Its staging buffer lives for this call only.
 */
export async function readBack(
  guard: DeviceGuard,
  what: string,
  source: GPUBuffer,
  sizeBytes: number,
  record: (encoder: GPUCommandEncoder) => void = () => {},
): Promise<Uint8Array<ArrayBuffer>> {
  const { device } = guard;
  const size = wordAligned(sizeBytes);
  const { value, accepted } = guard.scoped(what, () => {
    const usage = BufferUsage.MAP_READ | BufferUsage.COPY_DST;
    const staging = device.createBuffer({ label: 'staging', size, usage });
    const encoder = device.createCommandEncoder({ label: what });
    record(encoder);
    encoder.copyBufferToBuffer(source, 0, staging, 0, size);
    device.queue.submit([encoder.finish()]);
    return { staging, mapped: guard.settle(what, staging.mapAsync(MAP_MODE_READ)) };
  });
  try {
    await accepted;
    await value.mapped;
    return new Uint8Array(value.staging.getMappedRange()).slice(0, sizeBytes);
  } finally {
    value.staging.destroy();
  }
}

// Plain device memory for activations and outputs, and the way back from the device.

import { checkedContents } from '../core/argument_checks.js';
import { type DeviceBuffer, disposedError } from '../core/backend.js';
import { BufferPool, STAGING_USAGE } from './buffer_pool.js';
import type { DeviceGuard } from './device_guard.js';
import { MAP_MODE_READ } from './gpu_flags.js';
import type { Lifetime } from './lifetime.js';

/** Made by a backend, which it dies with. */
export class WebGPUBuffer implements DeviceBuffer {
  #disposed = false;

  constructor(
    readonly owner: object,
    readonly guard: DeviceGuard,
    readonly staging: BufferPool,
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
      return readBack(this.guard, 'a read of a buffer', this.buffer, this.sizeBytes, undefined, this.staging);
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
 * The first `sizeBytes` of a buffer once everything submitted before, and the commands that `record` adds, are done. The
 * staging buffer comes from `staging` and goes back there; without a pool it lives for this call only.
 */
export async function readBack(
  guard: DeviceGuard,
  what: string,
  source: GPUBuffer,
  sizeBytes: number,
  record: (encoder: GPUCommandEncoder) => void = () => {},
  staging?: BufferPool,
): Promise<Uint8Array<ArrayBuffer>> {
  const { device } = guard;
  const size = wordAligned(sizeBytes);
  const pool = staging ?? new BufferPool(guard, STAGING_USAGE);
  const { value, accepted } = guard.scoped(what, () => {
    const buffer = pool.acquire(size);
    const encoder = device.createCommandEncoder({ label: what });
    record(encoder);
    encoder.copyBufferToBuffer(source, 0, buffer, 0, size);
    device.queue.submit([encoder.finish()]);
    return { buffer, mapped: guard.settle(what, buffer.mapAsync(MAP_MODE_READ, 0, size)) };
  });
  const { buffer, mapped } = value;
  try {
    await accepted;
    await mapped;
    const bytes = new Uint8Array(buffer.getMappedRange(0, size)).slice(0, sizeBytes);
    buffer.unmap();
    pool.release(buffer);
    return bytes;
  } catch (error) {
    buffer.destroy();
    throw error;
  } finally {
    if (!staging) pool.dispose();
  }
}

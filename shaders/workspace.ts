// Device memory between the kernels: codes and run terms of quantized activations.
//
// All calls of a backend share the workspaces. That is safe because a queue carries out its dispatches in order, and every
// linear writes what it reads within one command buffer: no two calls are ever between their kernels at the same time.

import type { DeviceGuard } from './device_guard.js';
import { BufferUsage } from './gpu_flags.js';

/** Room is made for a multiple of this; keeps the parts of a buffer at multiples of 256 bytes, which suit every device. */
const MIN_ELEMENTS = 2048;

/** Quantized activations: a range of a buffer, four sevenths codes and three sevenths run terms. */
export interface QuantizedActivations {
  readonly whole: GPUBufferBinding;
  /** int8[M, K] */
  readonly codes: GPUBufferBinding;
  /** {u32, u32}[M, 1 + nRuns], runs of 16 and rows of 32 at the smallest */
  readonly runTerms: GPUBufferBinding;
}

/** Bytes of `elements` = M * K quantized activations. */
export function quantizedBytes(elements: number): number {
  return (codesBytes(elements) / 4) * 7;
}

/** Quantized activations in a buffer, from byte `offset`, a multiple of 256. */
export function quantizedAt(buffer: GPUBuffer, offset: number, elements: number): QuantizedActivations {
  const size = codesBytes(elements);
  return {
    whole: { buffer, offset, size: quantizedBytes(elements) },
    codes: { buffer, offset, size },
    runTerms: { buffer, offset: offset + size, size: (size / 4) * 3 },
  };
}

function codesBytes(elements: number): number {
  return Math.ceil(elements / MIN_ELEMENTS) * MIN_ELEMENTS;
}

/** Workspaces in powers of two; a call takes the smallest that holds it. They live as long as the backend. */
export class Workspaces {
  readonly #buffers = new Map<number, Promise<GPUBuffer>>();
  readonly #owned: GPUBuffer[] = [];

  constructor(readonly guard: DeviceGuard) {}

  /**
   * A workspace for `elements` = M * K activations.
   * @throws SamebitsError DEVICE_OUT_OF_MEMORY
   */
  async get(elements: number): Promise<QuantizedActivations> {
    const size = Math.max(MIN_ELEMENTS, 2 ** Math.ceil(Math.log2(elements)));
    return quantizedAt(await this.#buffer(quantizedBytes(size)), 0, size);
  }

  /** The lone word that int4_plain_mm takes for `quantized` where nobody reads it. */
  async nobody(): Promise<GPUBufferBinding> {
    return { buffer: await this.#buffer(4) };
  }

  dispose(): void {
    for (const buffer of this.#owned) buffer.destroy();
    this.#owned.length = 0;
    this.#buffers.clear();
  }

  #buffer(size: number): Promise<GPUBuffer> {
    let buffer = this.#buffers.get(size);
    if (buffer === undefined) {
      buffer = this.#create(size);
      this.#buffers.set(size, buffer);
      buffer.catch(() => this.#buffers.delete(size));
    }
    return buffer;
  }

  async #create(size: number): Promise<GPUBuffer> {
    const buffer = await this.guard.run('the workspace of quantized activations', () =>
      this.guard.device.createBuffer({ label: 'workspace', size, usage: BufferUsage.STORAGE }),
    );
    this.#owned.push(buffer);
    return buffer;
  }
}

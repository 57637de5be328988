// Device memory between the two kernels: codes, run terms and row exponents of quantized activations.
//
// All calls of a backend share it. That is safe because a queue carries out its dispatches in order, and every linear
// writes what it reads within one command buffer: no two calls are ever between their kernels at the same time.

import type { DeviceGuard } from './device_guard.js';
import { BufferUsage } from './gpu_flags.js';

/** The smallest workspace; keeps the parts of a buffer at multiples of 256 bytes, which suit every device. */
const MIN_ELEMENTS = 2048;

/** Room for a number of activations; parts of one buffer. */
export interface Workspace {
  /** int8[M, K] */
  readonly codes: GPUBufferBinding;
  /** {f32, f32}[M, nRuns], runs of 16 at the smallest */
  readonly runTerms: GPUBufferBinding;
  /** i32[M] */
  readonly rowExponent: GPUBufferBinding;
}

/** Workspaces in powers of two; a call takes the smallest that holds it. They live as long as the backend. */
export class Workspaces {
  readonly #bySize = new Map<number, Promise<Workspace>>();
  readonly #buffers: GPUBuffer[] = [];

  constructor(readonly guard: DeviceGuard) {}

  /**
   * A workspace for `elements` = M * K activations.
   * @throws SamebitsError DEVICE_OUT_OF_MEMORY
   */
  get(elements: number): Promise<Workspace> {
    const size = Math.max(MIN_ELEMENTS, 2 ** Math.ceil(Math.log2(elements)));
    let workspace = this.#bySize.get(size);
    if (workspace === undefined) {
      workspace = this.#create(size);
      this.#bySize.set(size, workspace);
      workspace.catch(() => this.#bySize.delete(size));
    }
    return workspace;
  }

  dispose(): void {
    for (const buffer of this.#buffers) buffer.destroy();
    this.#buffers.length = 0;
    this.#bySize.clear();
  }

  async #create(elements: number): Promise<Workspace> {
    const codesBytes = elements;
    const runTermsBytes = elements / 2;
    const rowExponentBytes = elements / 8;
    const buffer = await this.guard.run('the workspace of quantized activations', () =>
      this.guard.device.createBuffer({
        label: 'workspace',
        size: codesBytes + runTermsBytes + rowExponentBytes,
        usage: BufferUsage.STORAGE,
      }),
    );
    this.#buffers.push(buffer);
    return {
      codes: { buffer, offset: 0, size: codesBytes },
      runTerms: { buffer, offset: codesBytes, size: runTermsBytes },
      rowExponent: { buffer, offset: codesBytes + runTermsBytes, size: rowExponentBytes },
    };
  }
}

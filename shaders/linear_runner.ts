// Linears from arrays to arrays: x to the device, both kernels, y back; as many rows at a time as fit.

import { allocateOutput } from '../core/argument_checks.js';
import { stepSizeBytes } from '../core/backend.js';
import type { OutputType } from '../core/reference.js';
import { BufferPool, OPERAND_USAGE } from './buffer_pool.js';
import { readBack, wordAligned } from './device_buffer.js';
import type { DeviceGuard } from './device_guard.js';
import type { WebGPUWeight } from './device_weight.js';
import {
  type LinearOperands,
  linearKernels,
  MAX_ROWS,
  matmulDispatches,
  quantizeDispatch,
  recordDispatches,
} from './dispatches.js';
import type { Pipelines } from './pipelines.js';
import type { Workspaces } from './workspace.js';

/** Activations, or outputs, that one submission takes; more rows take several. */
const MAX_CHUNK_BYTES = 64 * 2 ** 20;

export class LinearRunner {
  readonly #pool: BufferPool;

  constructor(
    readonly guard: DeviceGuard,
    readonly pipelines: Pipelines,
    readonly workspaces: Workspaces,
    readonly staging: BufferPool,
    readonly maxBindingBytes: number,
  ) {
    this.#pool = new BufferPool(guard, OPERAND_USAGE);
  }

  /** y [M, N] of whole rows of x, bf16[M, K]. `x` must not change meanwhile. */
  async run(x: Uint16Array, weight: WebGPUWeight, outputType: OutputType): Promise<Float32Array | Uint16Array> {
    const { n, k } = weight;
    const m = x.length / k;
    const out = allocateOutput(m, n, outputType);
    const bytes = new Uint8Array(out.buffer);
    const chunk = this.#rowsPerChunk(weight);
    for (let first = 0; first < m; first += chunk) {
      const rows = x.subarray(first * k, Math.min(first + chunk, m) * k);
      bytes.set(await this.#runChunk(rows, weight, outputType), first * n * out.BYTES_PER_ELEMENT);
    }
    return out;
  }

  /** Compiles what a linear needs; the result records it, and must be called inside an error scope. */
  async recorder(operands: LinearOperands): Promise<(encoder: GPUCommandEncoder) => void> {
    const { m, weight } = operands;
    const [kernels, activations] = await Promise.all([
      linearKernels(this.pipelines, this.workspaces, [operands]),
      this.workspaces.get(m * weight.k),
    ]);
    const group = { linears: [operands], activations, quantizedY: null };
    return (encoder) => {
      const pass = encoder.beginComputePass({ label: 'linear' });
      recordDispatches(pass, [
        quantizeDispatch(this.pipelines, kernels, group),
        ...matmulDispatches(this.pipelines, kernels, group),
      ]);
      pass.end();
    };
  }

  dispose(): void {
    this.#pool.dispose();
  }

  async #runChunk(rows: Uint16Array, weight: WebGPUWeight, outputType: OutputType): Promise<Uint8Array> {
    const m = rows.length / weight.k;
    const { xBytes, yBytes } = stepSizeBytes(m, weight, outputType);
    const { value, accepted } = this.guard.scoped('the buffers of a linear', () => ({
      x: this.#pool.acquire(xBytes),
      y: this.#pool.acquire(wordAligned(yBytes)),
    }));
    const { x, y } = value;
    try {
      await accepted;
      const record = await this.recorder({
        x: { buffer: x, size: xBytes },
        weight,
        y: { buffer: y, size: wordAligned(yBytes) },
        m,
        outputType,
      });
      const withX = (encoder: GPUCommandEncoder) => {
        this.guard.device.queue.writeBuffer(x, 0, rows);
        record(encoder);
      };
      const bytes = await readBack(this.guard, 'a linear', y, yBytes, withX, this.staging);
      for (const buffer of [x, y]) this.#pool.release(buffer);
      return bytes;
    } catch (error) {
      for (const buffer of [x, y]) buffer.destroy();
      throw error;
    }
  }

  #rowsPerChunk({ n, k }: WebGPUWeight): number {
    const rowBytes = Math.max(k * 2, n * 4);
    const rows = Math.max(1, Math.floor(Math.min(MAX_CHUNK_BYTES, this.maxBindingBytes) / rowBytes));
    return rows < MAX_ROWS ? rows : rows - (rows % MAX_ROWS);
  }
}

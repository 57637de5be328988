// A fixed sequence of linears: bind groups made once, one compute pass a run.

import { disposedError, type Plan } from '../core/backend.js';
import type { WebGPUBuffer } from './device_buffer.js';
import type { DeviceGuard } from './device_guard.js';
import type { WebGPUWeight } from './device_weight.js';
import {
  type Dispatch,
  type LinearKernels,
  type LinearOperands,
  matmulDispatches,
  quantizeDispatch,
  recordDispatches,
} from './dispatches.js';
import type { Lifetime } from './lifetime.js';
import type { Pipelines } from './pipelines.js';

/** One step with everything that its recording needs. */
export interface PreparedStep {
  readonly operands: LinearOperands;
  readonly kernels: LinearKernels;
  readonly x: WebGPUBuffer;
  readonly y: WebGPUBuffer;
}

/** Holds its weights and buffers alive by reference, but does not own them. */
export class WebGPUPlan implements Plan {
  #disposed = false;

  constructor(
    readonly owner: object,
    readonly guard: DeviceGuard,
    readonly lifetime: Lifetime,
    readonly dispatches: readonly Dispatch[],
    readonly weights: readonly WebGPUWeight[],
    readonly buffers: readonly WebGPUBuffer[],
  ) {}

  run(): Promise<void> {
    return this.lifetime.track(async () => {
      this.requireUsable();
      const { device } = this.guard;
      const { value, accepted } = this.guard.scoped('a plan', () => {
        const encoder = device.createCommandEncoder({ label: 'plan' });
        const pass = encoder.beginComputePass({ label: 'plan' });
        this.record(pass);
        pass.end();
        device.queue.submit([encoder.finish()]);
        return this.guard.settle('a plan', device.queue.onSubmittedWorkDone());
      });
      await accepted;
      await value;
    });
  }

  record(pass: GPUComputePassEncoder): void {
    recordDispatches(pass, this.dispatches);
  }

  /** @throws SamebitsError DISPOSED when the plan, or anything that it uses, was disposed of */
  requireUsable(): void {
    if (this.#disposed) throw disposedError('plan');
    for (const weight of this.weights) if (weight.disposed) throw disposedError('weight');
    for (const buffer of this.buffers) if (buffer.disposed) throw disposedError('buffer');
  }

  dispose(): void {
    this.#disposed = true;
  }
}

/** The dispatches of a plan. Call inside an error scope. */
export function planDispatches(pipelines: Pipelines, steps: readonly PreparedStep[]): Dispatch[] {
  const dispatches: Dispatch[] = [];
  // The step whose quantized x is in its workspace, until something writes that x.
  let quantized: PreparedStep | null = null;
  for (const step of steps) {
    if (quantized === null || !sharesQuantizedX(quantized, step)) {
      dispatches.push(quantizeDispatch(pipelines, step.kernels, step.operands));
      quantized = step;
    }
    dispatches.push(...matmulDispatches(pipelines, step.kernels, step.operands));
    if (step.y === quantized.x) quantized = null;
  }
  return dispatches;
}

/** An equal x of equal M has an equal K; runs of 16 need other terms than runs of 32. */
function sharesQuantizedX(a: PreparedStep, b: PreparedStep): boolean {
  return (
    a.x === b.x &&
    a.operands.m === b.operands.m &&
    a.operands.weight.runSize === b.operands.weight.runSize &&
    a.kernels.workspace === b.kernels.workspace
  );
}

// A fixed sequence of linears: bind groups made once, one compute pass a run, linears on the same x side by side.

import { disposedError, type Plan } from '../core/backend.js';
import type { WebGPUBuffer } from './device_buffer.js';
import type { DeviceGuard } from './device_guard.js';
import type { WebGPUWeight } from './device_weight.js';
import { type Dispatch, type LinearOperands, recordDispatches } from './dispatches.js';
import type { Lifetime } from './lifetime.js';

/** One step of a plan. */
export interface PlannedStep {
  readonly operands: LinearOperands;
  readonly x: WebGPUBuffer;
  readonly y: WebGPUBuffer;
}

/** Consecutive steps that run side by side. */
export interface StepGroup {
  readonly steps: readonly PlannedStep[];
  /** Whether their x must be quantized first, or still is. */
  readonly quantizes: boolean;
}

/** Holds its weights and buffers alive by reference, but does not own them. */
export class WebGPUPlan implements Plan {
  #disposed = false;
  /** WebGPU submits a command buffer once; the next one is recorded while the device is busy with this one. */
  #next: GPUCommandBuffer | null = null;

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
      const { queue } = this.guard.device;
      const { value, accepted } = this.guard.scoped('a plan', () => {
        queue.submit([this.#next ?? this.#recorded()]);
        const done = this.guard.settle('a plan', queue.onSubmittedWorkDone());
        this.#next = this.#recorded();
        return done;
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
    this.#next = null;
  }

  #recorded(): GPUCommandBuffer {
    const encoder = this.guard.device.createCommandEncoder({ label: 'plan' });
    const pass = encoder.beginComputePass({ label: 'plan' });
    this.record(pass);
    pass.end();
    return encoder.finish();
  }
}

/**
 * Steps that follow each other, read the same quantized x and write to different y go side by side: dispatches of their
 * own would wait for each other.
 */
export function groupSteps(steps: readonly PlannedStep[]): StepGroup[] {
  const groups: { steps: PlannedStep[]; quantizes: boolean }[] = [];
  // The step whose quantized x is in its workspace, until something writes that x.
  let quantized: PlannedStep | null = null;
  for (const step of steps) {
    const group = groups.at(-1);
    const isQuantized = quantized !== null && sharesQuantizedX(quantized, step);
    if (group && isQuantized && fits(group.steps, step)) group.steps.push(step);
    else groups.push({ steps: [step], quantizes: !isQuantized });
    if (!isQuantized) quantized = step;
    if (step.y === step.x || step.y === quantized?.x) quantized = null;
  }
  return groups;
}

/** An equal x of equal M has an equal K, and so one workspace; runs of 16 need other terms than runs of 32. */
function sharesQuantizedX(a: PlannedStep, b: PlannedStep): boolean {
  const [first, second] = [a.operands, b.operands];
  return a.x === b.x && first.m === second.m && first.weight.runSize === second.weight.runSize;
}

/** One pipeline serves all of a group, and a buffer is written once. */
function fits(group: readonly PlannedStep[], step: PlannedStep): boolean {
  const { outputType, weight } = group[0]!.operands;
  const isAlike = step.operands.outputType === outputType && step.operands.weight.layout === weight.layout;
  return isAlike && group.every(({ y }) => y !== step.y);
}

// A fixed sequence of linears: bind groups made once, one compute pass a run.

import { disposedError, type Plan } from '../core/backend.js';
import type { WebGPUBuffer } from './device_buffer.js';
import type { DeviceGuard } from './device_guard.js';
import type { WebGPUWeight } from './device_weight.js';
import {
  type Dispatch,
  type LinearGroup,
  type LinearOperands,
  linearKernels,
  matmulDispatches,
  quantizeDispatch,
  recordDispatches,
} from './dispatches.js';
import { BufferUsage } from './gpu_flags.js';
import type { Lifetime } from './lifetime.js';
import type { Pipelines } from './pipelines.js';
import { groupSteps, type PlannedStep, type StepGroup } from './plan_groups.js';
import { type QuantizedActivations, quantizedAt, quantizedBytes, type Workspaces } from './workspace.js';

/** Holds its weights and buffers alive by reference, but does not own them; owns the codes that its steps hand on. */
export class WebGPUPlan implements Plan {
  #disposed = false;
  /** WebGPU submits a command buffer once; the next one is recorded while the device is busy with this one. */
  #next: GPUCommandBuffer | null = null;

  readonly owner: object;
  readonly weights: readonly WebGPUWeight[];
  readonly #guard: DeviceGuard;
  readonly #lifetime: Lifetime;
  readonly #onDispose: (plan: WebGPUPlan) => void;
  readonly #buffers: readonly WebGPUBuffer[];

  constructor(
    { owner, guard, lifetime, onDispose }: PlanParts,
    readonly dispatches: readonly Dispatch[],
    steps: readonly PlannedStep[],
    readonly handedOn: readonly GPUBuffer[],
  ) {
    this.owner = owner;
    this.#guard = guard;
    this.#lifetime = lifetime;
    this.#onDispose = onDispose;
    this.weights = steps.map(({ operands }) => operands.weight);
    this.#buffers = steps.flatMap(({ x, y }) => [x, y]);
  }

  run(): Promise<void> {
    return this.#lifetime.track(async () => {
      this.requireUsable();
      const { queue } = this.#guard.device;
      const { value, accepted } = this.#guard.scoped('a plan', () => {
        queue.submit([this.#next ?? this.#recorded()]);
        const done = this.#guard.settle('a plan', queue.onSubmittedWorkDone());
        this.#next = this.#recorded();
        return done;
      });
      await accepted;
      await value;
    });
  }

  /** Before the pass: the largest words of rows of codes that are handed on begin as 0. */
  prepare(encoder: GPUCommandEncoder): void {
    for (const buffer of this.handedOn) encoder.clearBuffer(buffer);
  }

  record(pass: GPUComputePassEncoder): void {
    recordDispatches(pass, this.dispatches);
  }

  /** @throws SamebitsError DISPOSED when the plan, or anything that it uses, was disposed of */
  requireUsable(): void {
    if (this.#disposed) throw disposedError('plan');
    for (const weight of this.weights) if (weight.disposed) throw disposedError('weight');
    for (const buffer of this.#buffers) if (buffer.disposed) throw disposedError('buffer');
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#next = null;
    this.#onDispose(this);
    for (const buffer of this.handedOn) buffer.destroy();
  }

  #recorded(): GPUCommandBuffer {
    const encoder = this.#guard.device.createCommandEncoder({ label: 'plan' });
    this.prepare(encoder);
    const pass = encoder.beginComputePass({ label: 'plan' });
    this.record(pass);
    pass.end();
    return encoder.finish();
  }
}

/** What a plan is made from. */
export interface PlanParts {
  readonly owner: object;
  readonly guard: DeviceGuard;
  readonly lifetime: Lifetime;
  readonly pipelines: Pipelines;
  readonly workspaces: Workspaces;
  readonly onDispose: (plan: WebGPUPlan) => void;
}

/**
 * Compiles what the steps need, and makes their bind groups.
 * @throws SamebitsError DEVICE_OUT_OF_MEMORY, with nothing left behind
 */
export async function preparePlan(parts: PlanParts, steps: readonly PlannedStep[]): Promise<WebGPUPlan> {
  const { guard, pipelines, workspaces } = parts;
  const groups = groupSteps(steps);
  const handed = await handOn(guard, groups);
  try {
    const linears = await Promise.all(
      groups.map(async (group) => {
        const { operands } = group.steps[0]!;
        const { producer } = group;
        const linearGroup: LinearGroup<LinearOperands> = {
          linears: group.steps.map((step) => step.operands),
          activations: (producer && handed.of.get(producer)) ?? (await workspaces.get(operands.m * operands.weight.k)),
          quantizedY: handed.of.get(group) ?? null,
        };
        const kernels = await linearKernels(pipelines, workspaces, linearGroup.linears, group.quantizesY);
        return { linearGroup, kernels, quantizesX: group.quantizesX };
      }),
    );
    const dispatches = await guard.run('a plan', () =>
      linears.flatMap(({ linearGroup, kernels, quantizesX }) => [
        ...(quantizesX ? [quantizeDispatch(pipelines, kernels, linearGroup)] : []),
        ...matmulDispatches(pipelines, kernels, linearGroup),
      ]),
    );
    return new WebGPUPlan(parts, dispatches, steps, handed.buffers);
  } catch (error) {
    for (const buffer of handed.buffers) buffer.destroy();
    throw error;
  }
}

/**
 * Memory for the codes that groups hand on to later ones. A dispatch cannot read and write one buffer, so there are two:
 * what comes out of one goes into the other.
 */
async function handOn(guard: DeviceGuard, groups: readonly StepGroup[]) {
  const sizes = [0, 0];
  const places = new Map<StepGroup, { readonly side: number; readonly offset: number; readonly elements: number }>();
  for (const group of groups) {
    if (!group.quantizesY) continue;
    const { m, weight } = group.steps[0]!.operands;
    const side = group.producer && places.get(group.producer)?.side === 0 ? 1 : 0;
    const elements = m * weight.n;
    places.set(group, { side, offset: sizes[side]!, elements });
    sizes[side]! += quantizedBytes(elements);
  }
  const usage = BufferUsage.STORAGE | BufferUsage.COPY_DST;
  const { value, accepted } = guard.scoped('the codes that a plan hands on', () =>
    sizes.map((size) => (size === 0 ? null : guard.device.createBuffer({ label: 'handed on', size, usage }))),
  );
  const buffers = value.filter((buffer) => buffer !== null);
  try {
    await accepted;
  } catch (error) {
    for (const buffer of buffers) buffer.destroy();
    throw error;
  }
  const of = new Map<StepGroup, QuantizedActivations>();
  for (const [group, { side, offset, elements }] of places) of.set(group, quantizedAt(value[side]!, offset, elements));
  return { buffers, of };
}

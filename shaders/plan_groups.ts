// Which steps of a plan run side by side, and where each finds its x as codes.

import type { WebGPUBuffer } from './device_buffer.js';
import { isTiled, type LinearOperands } from './dispatches.js';

/** One step of a plan. */
export interface PlannedStep {
  readonly operands: LinearOperands;
  readonly x: WebGPUBuffer;
  readonly y: WebGPUBuffer;
}

/** Consecutive steps that run side by side. */
export interface StepGroup {
  /** In any order but this: the one that quantizes its y stands first. */
  readonly steps: readonly PlannedStep[];
  /** The group whose first step made x, and left its codes. */
  readonly producer: StepGroup | null;
  /** Whether x must be quantized: nobody left its codes, and the workspace does not hold them from before. */
  readonly quantizesX: boolean;
  readonly quantizesY: boolean;
}

/** A group that more steps may join, and that may yet be asked for the codes of a y. */
class OpenGroup implements StepGroup {
  readonly steps: PlannedStep[] = [];
  quantizesY = false;

  constructor(
    readonly producer: OpenGroup | null,
    readonly quantizesX: boolean,
  ) {}

  /** Whether a step's x may come with its codes from `writer`, a step of this group; one of them can leave codes. */
  canProduce(writer: PlannedStep, { operands: read }: PlannedStep): boolean {
    const { outputType, m, weight } = writer.operands;
    const isAlike = outputType === 'bf16' && m === read.m && weight.runSize === read.weight.runSize;
    return isAlike && isTiled(weight) && (!this.quantizesY || this.steps[0] === writer);
  }

  /** Has a step of this group leave its y as codes too. */
  produce(writer: PlannedStep): void {
    this.steps.splice(this.steps.indexOf(writer), 1);
    this.steps.unshift(writer);
    this.quantizesY = true;
  }
}

/**
 * Steps that follow each other, read the same x and write to different y go side by side: dispatches of their own would
 * wait for each other. An x that is an earlier step's y comes with its codes, where that step's kernel can make them.
 */
export function groupSteps(steps: readonly PlannedStep[]): readonly StepGroup[] {
  const groups: OpenGroup[] = [];
  const lastWriter = new Map<WebGPUBuffer, { readonly step: PlannedStep; readonly group: OpenGroup }>();
  // The step whose x is in the workspace as codes, until something writes that x.
  let quantized: PlannedStep | null = null;
  for (const step of steps) {
    const writer = lastWriter.get(step.x);
    const producer = writer?.group.canProduce(writer.step, step) ? writer.group : null;
    if (writer && producer) producer.produce(writer.step);
    const isThere = producer !== null || (quantized !== null && sharesQuantizedX(quantized, step));
    const last = groups.at(-1);
    const joins = isThere && last?.producer === producer && fits(last.steps, step);
    const group = joins && last ? last : new OpenGroup(producer, !isThere);
    if (group !== last) groups.push(group);
    group.steps.push(step);
    lastWriter.set(step.y, { step, group });
    if (!isThere) quantized = step;
    if (step.y === quantized?.x) quantized = null;
  }
  return groups;
}

/** An equal x of equal M has an equal K, and so one workspace; runs of 16 need other terms than runs of 32. */
function sharesQuantizedX(a: PlannedStep, b: PlannedStep): boolean {
  const [first, second] = [a.operands, b.operands];
  return a.x === b.x && first.m === second.m && first.weight.runSize === second.weight.runSize;
}

/** One pipeline serves all of a group that are of one form; it has one x, and a buffer is written once. */
function fits(group: readonly PlannedStep[], step: PlannedStep): boolean {
  const { x, operands } = group[0]!;
  const { outputType, weight } = operands;
  const isAlike = step.operands.outputType === outputType && step.operands.weight.layout === weight.layout;
  return isAlike && step.x === x && group.every(({ y }) => y !== step.y);
}

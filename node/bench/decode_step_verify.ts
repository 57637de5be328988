// The bits of a decode step: the reference checks rows of every linear, and the kernels check each other on all of them.

import { type BitDifference, type DeviceBuffer, firstDifference, int4PlainMM, type Plan } from '../../core/index.js';
import type { KernelName, WeightInBoth } from './contenders.js';
import type { DecodeLinear } from './decode_step.js';
import { shapeKey } from './decode_step_resident.js';
import { sampleRows } from './synthetic_weight.js';

/** The plans of one kernel; those of all kernels share their buffers. */
export interface StepPlans {
  readonly kernel: KernelName;
  readonly step: Plan;
  readonly head: Plan;
}

/** What the plans work on. */
export interface StepBuffers {
  readonly linears: readonly DecodeLinear[];
  /** bf16[1, K], the embedding. */
  readonly input: Uint16Array;
  /** One a linear; none is written twice. */
  readonly outputs: readonly DeviceBuffer[];
}

export type StepOutput = Float32Array | Uint16Array;

/** The first wrong output, in launch order. */
export interface WrongBit extends BitDifference {
  readonly kernel: KernelName;
  readonly linear: string;
}

export interface Verification {
  /** Outputs that were compared with the reference. */
  readonly verifiedOutputs: number;
  /** Of every linear, the same for all kernels. */
  readonly outputs: readonly StepOutput[];
  readonly difference: WrongBit | null;
}

const SAMPLED_ROWS = 6;

/**
 * Runs the plans of every kernel once, over outputs that hold NaN. The reference checks sampled rows of every linear of the
 * last kernel, given the x that the device made for it; every other kernel must give all bits of that one.
 */
export async function verifyStep(
  plans: readonly StepPlans[],
  buffers: StepBuffers,
  tensors: ReadonlyMap<string, WeightInBoth>,
): Promise<Verification> {
  const [first, ...others] = [...plans].reverse();
  await poison(buffers);
  await first!.step.run();
  const outputs = await readOutputs(buffers);
  const { verifiedOutputs, difference } = compareWithReference(first!.kernel, outputs, buffers, tensors);
  if (difference) return { verifiedOutputs, outputs, difference };
  for (const { kernel, step } of others) {
    await poison(buffers);
    await step.run();
    const found = await compareOutputs(kernel, buffers, outputs);
    if (found) return { verifiedOutputs, outputs, difference: found };
  }
  for (const { kernel, head } of plans) {
    await poison({ outputs: buffers.outputs.slice(-1) });
    await head.run();
    const found = await compareOutputs(kernel, buffers, outputs);
    if (found) return { verifiedOutputs, outputs, difference: found };
  }
  return { verifiedOutputs, outputs, difference: null };
}

/** Whether the buffers hold the outputs that were verified, bit for bit. */
export async function compareOutputs(
  kernel: KernelName,
  buffers: StepBuffers,
  verified: readonly StepOutput[],
): Promise<WrongBit | null> {
  const outputs = await readOutputs(buffers);
  for (const [i, { name, n }] of buffers.linears.entries()) {
    const found = firstDifference(verified[i]!, outputs[i]!, n);
    if (found) return { ...found, kernel, linear: name };
  }
  return null;
}

async function poison({ outputs }: Pick<StepBuffers, 'outputs'>): Promise<void> {
  for (const y of outputs) await y.write(new Uint8Array(y.sizeBytes).fill(0xff));
}

async function readOutputs({ linears, outputs }: StepBuffers): Promise<StepOutput[]> {
  const contents: StepOutput[] = [];
  for (const [i, { outputType }] of linears.entries()) {
    const bytes = (await outputs[i]!.read()).slice().buffer;
    contents.push(outputType === 'f32' ? new Float32Array(bytes) : new Uint16Array(bytes));
  }
  return contents;
}

function compareWithReference(
  kernel: KernelName,
  outputs: readonly StepOutput[],
  { linears, input }: StepBuffers,
  tensors: ReadonlyMap<string, WeightInBoth>,
): { verifiedOutputs: number; difference: WrongBit | null } {
  const samples = new Map(
    [...tensors].map(([key, { coalesced }]) => [key, sampleRows(coalesced, SAMPLED_ROWS)] as const),
  );
  let verifiedOutputs = 0;
  for (const [i, linear] of linears.entries()) {
    const { name, xFrom, outputType } = linear;
    const { rows, sample } = samples.get(shapeKey(linear))!;
    const source = xFrom === null ? input : outputs[xFrom]!;
    const x = source instanceof Uint16Array ? source : new Uint16Array();
    const expected = int4PlainMM(x, sample, outputType);
    const actual = expected.map((_, j) => outputs[i]![rows[j]!]!);
    const found = firstDifference(expected, actual, rows.length);
    if (found) return { verifiedOutputs, difference: { ...found, n: rows[found.n]!, kernel, linear: name } };
    verifiedOutputs += rows.length;
  }
  return { verifiedOutputs, difference: null };
}

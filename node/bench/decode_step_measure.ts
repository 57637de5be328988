// A whole decode step on one backend: weights resident, every linear verified, then every kernel timed in turn.

import { freemem } from 'node:os';
import { type Backend, type DeviceBuffer, type Plan, type PlanStep, SamebitsError } from '../../core/index.js';
import { contendersOf, type KernelName } from './contenders.js';
import { type DecodeLinear, decodeInput, isChained } from './decode_step.js';
import {
  checkRoom,
  drawWeights,
  makeResident,
  type Own,
  type ResidentKernel,
  type SkippedKernel,
} from './decode_step_resident.js';
import { compareOutputs, type StepBuffers, type StepPlans, verifyStep, type WrongBit } from './decode_step_verify.js';
import { gpuStates, isNvidia } from './gpu_state.js';
import { type Spread, spreadOf } from './spread.js';

export interface DecodeStepOptions {
  /** In launch order; each x is an earlier y, or the embedding. */
  readonly linears: readonly DecodeLinear[];
  /** Of the step and of the head, by each clock, of each kernel; rounded up to whole rounds. */
  readonly replays: number;
  /** Free device memory; by default what nvidia-smi, or the host of a software device, says. */
  readonly freeBytes?: number | null;
  readonly onProgress?: (what: string) => void;
}

/** How long one kernel takes. */
export interface KernelTiming {
  readonly kernel: KernelName;
  /** The step, by the device's clock. */
  readonly step: Spread;
  /** By the host's clock, runs that wait for nothing but their turn: a sample is the mean of a round. */
  readonly wall: Spread;
  /** By the host's clock, one run from the call to its result: submission and waiting included. */
  readonly latency: Spread;
  /** The head alone, by the device's clock. */
  readonly head: Spread;
}

export interface DecodeStepMeasurement {
  /** Outputs, of sampled rows of every linear, that were compared with the reference. */
  readonly verifiedOutputs: number;
  /** Baselines first; empty when a bit was wrong. */
  readonly timings: readonly KernelTiming[];
  /** Baselines that this backend has, and its memory has not. */
  readonly skipped: readonly SkippedKernel[];
  /** Where the bits were wrong first. */
  readonly difference: WrongBit | null;
}

const WARM_UPS = 3;
/** Timed in rounds that take the kernels in turn, so that drift touches all of them. */
const ROUNDS = 4;
/** Runs that are under way at once while the wall clock is read. */
const IN_FLIGHT = 8;

/**
 * Verifies and times a decode step. With a wrong bit nothing is timed and `difference` says where.
 * @throws SamebitsError DEVICE_OUT_OF_MEMORY with the layers that would fit
 */
export async function measureDecodeStep(backend: Backend, options: DecodeStepOptions): Promise<DecodeStepMeasurement> {
  const { linears, replays } = options;
  const onProgress = (what: string) => options.onProgress?.(`${backend.name}: ${what}`);
  if (!isChained(linears)) throw notChained();
  const freeBytes = options.freeBytes === undefined ? await freeMemory(backend) : options.freeBytes;
  checkRoom(linears, freeBytes);
  const owned: { dispose(): void }[] = [];
  const own: Own = (resource) => {
    owned.push(resource);
    return resource;
  };
  try {
    const tensors = drawWeights(linears, onProgress);
    const contenders = contendersOf(backend, linears[0]?.form);
    const { resident, skipped } = await makeResident(contenders, linears, tensors, freeBytes, own, onProgress);

    const { plans, buffers } = await recordPlans(backend, linears, resident, own);

    onProgress('verifying every linear');
    const { verifiedOutputs, outputs: expected, difference } = await verifyStep(plans, buffers, tensors);
    if (difference) return { verifiedOutputs, timings: [], skipped, difference };
    const samples = plans.map(({ kernel }) => ({
      kernel,
      step: [] as number[],
      wall: [] as number[],
      latency: [] as number[],
      head: [] as number[],
    }));
    const perRound = Math.ceil(replays / ROUNDS);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [i, { kernel, step, head }] of plans.entries()) {
        onProgress(`timing ${kernel}, round ${round + 1} of ${ROUNDS}`);
        const into = samples[i]!;
        into.step.push(...(await timeWarm(backend, step, perRound)));
        into.wall.push(await wallClock(step, perRound));
        into.latency.push(...(await latencies(step, perRound)));
        into.head.push(...(await timeWarm(backend, head, perRound)));
        const found = await compareOutputs(kernel, buffers, expected);
        if (found) return { verifiedOutputs, timings: [], skipped, difference: found };
      }
    }
    const timings = samples.map(({ kernel, step, wall, latency, head }) => ({
      kernel,
      step: spreadOf(step),
      wall: spreadOf(wall),
      latency: spreadOf(latency),
      head: spreadOf(head),
    }));
    return { verifiedOutputs, timings, skipped, difference: null };
  } finally {
    for (const resource of owned.reverse()) resource.dispose();
  }
}

/** The plans of every kernel, on buffers that they share. */
async function recordPlans(
  backend: Backend,
  linears: readonly DecodeLinear[],
  resident: readonly ResidentKernel[],
  own: Own,
): Promise<{ plans: StepPlans[]; buffers: StepBuffers }> {
  const input = decodeInput(linears[0]!.k);
  const embedding = own(await backend.createBuffer(input.byteLength));
  await embedding.write(new Uint8Array(input.buffer));
  const outputs: DeviceBuffer[] = [];
  for (const { n, outputType } of linears) {
    outputs.push(own(await backend.createBuffer(n * (outputType === 'f32' ? 4 : 2))));
  }
  const plans: StepPlans[] = [];
  for (const { kernel, weights } of resident) {
    const steps = linears.map(
      ({ xFrom, outputType }, i): PlanStep => ({
        m: 1,
        x: xFrom === null ? embedding : outputs[xFrom]!,
        weight: weights[i]!,
        y: outputs[i]!,
        outputType,
      }),
    );
    const step = own(await backend.plan(steps));
    plans.push({ kernel, step, head: own(await backend.plan(steps.slice(-1))) });
  }
  return { plans, buffers: { linears, input, outputs } };
}

/** Bytes of device memory that are free; null where nobody says, or several GPUs do. */
async function freeMemory({ device }: Backend): Promise<number | null> {
  if (device.isSoftware) return freemem();
  if (!isNvidia(device)) return null;
  const states = await gpuStates();
  return states?.length === 1 ? states[0]!.freeMemoryBytes : null;
}

/** Device time of each replay, after some that are not counted: another plan ran just before. */
async function timeWarm(backend: Backend, plan: Plan, replays: number): Promise<readonly number[]> {
  await backend.benchmark.timePlan(plan, Math.min(WARM_UPS, replays));
  return backend.benchmark.timePlan(plan, replays);
}

/** Mean microseconds of runs that wait for nothing but their turn on the device. */
async function wallClock(plan: Plan, replays: number): Promise<number> {
  const start = performance.now();
  let started = 0;
  const runInTurn = async () => {
    while (started++ < replays) await plan.run();
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, runInTurn));
  return ((performance.now() - start) * 1000) / replays;
}

/** Microseconds of runs one after the other. */
async function latencies(plan: Plan, replays: number): Promise<number[]> {
  const elapsedUs: number[] = [];
  for (let i = 0; i < replays; i++) {
    const start = performance.now();
    await plan.run();
    elapsedUs.push((performance.now() - start) * 1000);
  }
  return elapsedUs;
}

function notChained(): SamebitsError {
  return new SamebitsError('ARGUMENT_INVALID', {
    rule: 'the linears of a decode step form a chain',
    expected: 'every x as long as the earlier y that it is, K in whole blocks',
    got: 'a list with a gap',
    fix: 'Pass what decodeLinears gives.',
  });
}

// A whole decode step on one backend: weights resident, every step verified, then device time and wall clock.

import { freemem } from 'node:os';
import {
  type Backend,
  type BitDifference,
  type CoalescedInt4Tensor,
  type DeviceBuffer,
  type DeviceWeight,
  firstDifference,
  int4PlainMM,
  type Plan,
  type PlanStep,
  SamebitsError,
} from '../../core/index.js';
import {
  DECODE_LAYERS,
  DECODE_SUITE,
  type DecodeLinear,
  decodeInput,
  decodeLinears,
  decodeWeight,
  decodeWeightBytes,
} from './decode_step.js';
import { sampleRows } from './synthetic_weight.js';

export interface DecodeStepOptions {
  /** Default 60, the whole model. */
  readonly layers?: number;
  readonly replays: number;
  /** GB/s that the backend read in this run. */
  readonly roofGBps: number;
  readonly onProgress?: (what: string) => void;
}

/** Microseconds of the replays of a plan. */
export interface StepTiming {
  readonly medianUs: number;
  readonly minUs: number;
  readonly maxUs: number;
  /** Bytes of weights over the median. */
  readonly bandwidthGBps: number;
  readonly percentOfRoof: number;
}

export interface DecodeStepReport {
  readonly suite: string;
  readonly backend: string;
  readonly layers: number;
  readonly linears: number;
  readonly weightBytes: number;
  readonly replays: number;
  /** Outputs of the step, of sampled rows of every weight, that were compared with the reference. */
  readonly verifiedOutputs: number;
  /** By the device's clock; null when the bits were wrong. */
  readonly device: StepTiming | null;
  /** By the host's clock, from the first submission to the last completion of replays that wait for nothing, each. */
  readonly wallUs: number | null;
  /** By the host's clock, one run from the call to its result: recording, submission and waiting included. */
  readonly latencyUs: number | null;
  /** The head alone. */
  readonly head: StepTiming | null;
  /** Where the bits were wrong first. */
  readonly difference: (BitDifference & { readonly linear: string }) | null;
}

const SAMPLED_ROWS = 6;
const WARM_UPS = 3;
/** Runs that are under way at once while the wall clock is read. */
const IN_FLIGHT = 8;

/**
 * Verifies and times a decode step. With wrong bits nothing is timed and `difference` says where.
 * @throws SamebitsError DEVICE_OUT_OF_MEMORY with the layers that would fit
 */
export async function measureDecodeStep(backend: Backend, options: DecodeStepOptions): Promise<DecodeStepReport> {
  const { layers = DECODE_LAYERS, replays, roofGBps, onProgress = () => {} } = options;
  const linears = decodeLinears(layers);
  const weightBytes = linears.reduce((sum, linear) => sum + decodeWeightBytes(linear), 0);
  if (backend.device.isSoftware && weightBytes > freemem())
    throw tooLarge(layers, weightBytes, 'the host has', freemem());
  const owned: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(resource: T): T => {
    owned.push(resource);
    return resource;
  };
  try {
    const tensors = new Map<string, CoalescedInt4Tensor>();
    const weights: DeviceWeight[] = [];
    let residentBytes = 0;
    for (const linear of linears) {
      const key = `${linear.n}x${linear.k}`;
      const tensor = tensors.get(key) ?? decodeWeight(linear.n, linear.k);
      tensors.set(key, tensor);
      onProgress(`${backend.name}: ${linear.name}, ${(residentBytes / 1e9).toFixed(1)} GB resident`);
      try {
        weights.push(own(await backend.upload(tensor)));
      } catch (error) {
        if (!(error instanceof SamebitsError) || error.code !== 'DEVICE_OUT_OF_MEMORY') throw error;
        throw tooLarge(layers, weightBytes, 'the device took', residentBytes, error);
      }
      residentBytes += decodeWeightBytes(linear);
    }
    const input = decodeInput();
    const first = own(await backend.createBuffer(input.byteLength));
    await first.write(new Uint8Array(input.buffer));
    const steps: PlanStep[] = [];
    for (const [i, { n, xFrom, outputType }] of linears.entries()) {
      const y = own(await backend.createBuffer(n * (outputType === 'f32' ? 4 : 2)));
      const x = xFrom === null ? first : steps[xFrom]!.y;
      steps.push({ m: 1, x, weight: weights[i]!, y, outputType });
    }
    const plan = own(await backend.plan(steps));
    const head = own(await backend.plan(steps.slice(-1)));

    onProgress(`${backend.name}: verifying`);
    await plan.run();
    const { verifiedOutputs, difference } = await verifySteps(linears, steps, tensors);
    const report = {
      suite: DECODE_SUITE,
      backend: backend.name,
      layers,
      linears: linears.length,
      weightBytes,
      replays,
    };
    if (difference) {
      const untimed = { device: null, wallUs: null, latencyUs: null, head: null };
      return { ...report, verifiedOutputs, ...untimed, difference };
    }
    onProgress(`${backend.name}: timing`);
    const time = async (timed: Plan, bytes: number) => {
      await backend.benchmark.timePlan(timed, WARM_UPS);
      return summarize(await backend.benchmark.timePlan(timed, replays), bytes, roofGBps);
    };
    return {
      ...report,
      verifiedOutputs,
      device: await time(plan, weightBytes),
      wallUs: await wallClock(plan, replays),
      latencyUs: await latency(plan, replays),
      head: await time(head, decodeWeightBytes(linears.at(-1)!)),
      difference: null,
    };
  } finally {
    for (const resource of owned.reverse()) resource.dispose();
  }
}

/** Every step against the reference on sampled rows, given the x that the device made for it. */
async function verifySteps(
  linears: readonly DecodeLinear[],
  steps: readonly PlanStep[],
  tensors: ReadonlyMap<string, CoalescedInt4Tensor>,
): Promise<{ verifiedOutputs: number; difference: DecodeStepReport['difference'] }> {
  const samples = new Map([...tensors].map(([key, tensor]) => [key, sampleRows(tensor, SAMPLED_ROWS)] as const));
  const contents = new Map<DeviceBuffer, ArrayBuffer>();
  const read = async (buffer: DeviceBuffer) => {
    const bytes = contents.get(buffer) ?? (await buffer.read()).slice().buffer;
    contents.set(buffer, bytes);
    return bytes;
  };
  let verifiedOutputs = 0;
  for (const [i, { x, y, outputType }] of steps.entries()) {
    const { name, n, k } = linears[i]!;
    const { rows, sample } = samples.get(`${n}x${k}`)!;
    const expected = int4PlainMM(new Uint16Array(await read(x)), sample, outputType);
    const bytes = await read(y);
    const output = outputType === 'f32' ? new Float32Array(bytes) : new Uint16Array(bytes);
    const actual = expected.map((_, j) => output[rows[j]!]!);
    const found = firstDifference(expected, actual, rows.length);
    if (found) return { verifiedOutputs, difference: { ...found, n: rows[found.n]!, linear: name } };
    verifiedOutputs += rows.length;
  }
  return { verifiedOutputs, difference: null };
}

/** Runs that wait for nothing but their turn on the device; microseconds each. */
async function wallClock(plan: Plan, replays: number): Promise<number> {
  await plan.run();
  const start = performance.now();
  const running: Promise<void>[] = [];
  for (let i = 0; i < replays; i++) {
    if (i >= IN_FLIGHT) await running[i - IN_FLIGHT];
    running.push(plan.run());
  }
  await Promise.all(running);
  return ((performance.now() - start) * 1000) / replays;
}

/** Runs one after the other; the median, in microseconds. */
async function latency(plan: Plan, replays: number): Promise<number> {
  const elapsedUs: number[] = [];
  for (let i = 0; i < replays; i++) {
    const start = performance.now();
    await plan.run();
    elapsedUs.push((performance.now() - start) * 1000);
  }
  return elapsedUs.sort((a, b) => a - b)[replays >> 1]!;
}

function summarize(elapsedUs: readonly number[], bytes: number, roofGBps: number): StepTiming {
  const sorted = [...elapsedUs].sort((a, b) => a - b);
  const medianUs = sorted[sorted.length >> 1]!;
  const bandwidthGBps = bytes / medianUs / 1000;
  const percentOfRoof = (100 * bandwidthGBps) / roofGBps;
  return { medianUs, minUs: sorted[0]!, maxUs: sorted.at(-1)!, bandwidthGBps, percentOfRoof };
}

function tooLarge(layers: number, neededBytes: number, who: string, bytes: number, cause?: unknown): SamebitsError {
  const headBytes = decodeWeightBytes(decodeLinears(0)[0]!);
  const layerBytes = (neededBytes - headBytes) / Math.max(layers, 1);
  const fitting = Math.max(0, Math.floor((bytes * 0.9 - headBytes) / layerBytes));
  const gigabytes = (size: number) => `${(size / 1e9).toFixed(1)} GB`;
  return new SamebitsError('DEVICE_OUT_OF_MEMORY', {
    rule: 'the weights of a decode step stay resident, as they do while decoding',
    expected: `${gigabytes(neededBytes)} of memory for ${layers} layers and the head`,
    got: `${who} ${gigabytes(bytes)}`,
    fix: `Use '--layers ${fitting}' or fewer, or a device with more memory.`,
    cause,
  });
}

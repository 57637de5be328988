// One shape on one backend: verified first, then timed, the kernels in turn.

import {
  type Backend,
  type BitDifference,
  type CoalescedInt4Tensor,
  type DeviceBuffer,
  type DeviceWeight,
  drawActivations,
  firstDifference,
  int4PlainMM,
  type Plan,
  type ScaleLayout,
} from '../../core/index.js';
import type { Contender, KernelName, WeightInBoth } from './contenders.js';
import { type Spread, spreadOf } from './spread.js';
import { sampleRows } from './synthetic_weight.js';

/** What is timed: y[M, N] = x[M, K] · wᵀ. */
export interface BenchShape {
  readonly label: string;
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly m: number;
}

/** Device time of one matvec, in a plan of as many as there are copies of the weight, with one x and a y each. */
export interface Timing extends Spread {
  readonly kernel: KernelName;
  readonly layout: ScaleLayout;
  /** Bytes that the matvec must move (weight, x, y) over the median. */
  readonly bandwidthGBps: number;
  readonly percentOfRoof: number;
}

export interface Measurement extends BenchShape {
  readonly backend: string;
  /** Copies of the weight that the replays rotate over, so that no cache serves them. */
  readonly copies: number;
  readonly replays: number;
  /** Rows of the weight whose outputs the reference checked before anything was timed. */
  readonly verifiedRows: number;
  /** Empty when the bits were wrong. */
  readonly timings: readonly Timing[];
  readonly difference: BitDifference | null;
}

/** Rows of a large weight that the reference checks; the kernels check each other on the rest. */
const SAMPLED_ROWS = 64;
/** Timed in rounds that take the kernels in turn, so that drift touches all of them. */
const ROUNDS = 4;
/** Read by rotation when the cache is not known. */
const DEFAULT_ROTATION_BYTES = 512e6;
const CACHE_MULTIPLE = 4;

/** What one shape is measured with. */
export interface ShapeOptions {
  readonly contenders: readonly Contender[];
  /** M of each measurement. */
  readonly rows: readonly number[];
  readonly roofGBps: number;
  /** Of each kernel, over all copies; rounded up to whole rounds. */
  readonly replays: number;
  readonly onProgress?: (m: number) => void;
}

/**
 * Verifies and times `weight` on `backend`, uploaded once for all M. With wrong bits nothing of that M is timed and
 * `difference` says where.
 */
export async function measureShape(
  backend: Backend,
  shape: Omit<BenchShape, 'm'>,
  weight: WeightInBoth,
  options: ShapeOptions,
): Promise<Measurement[]> {
  const { coalesced } = weight;
  const rotationBytes = Math.max(backend.benchmark.cacheSizeBytes * CACHE_MULTIPLE, DEFAULT_ROTATION_BYTES);
  const copies = backend.device.isSoftware ? 1 : Math.max(2, Math.ceil(rotationBytes / coalesced.sizeBytes));
  const sampled = sampleRows(coalesced, SAMPLED_ROWS);
  const owned: { dispose(): void }[] = [];
  try {
    const resident: ResidentContender[] = [];
    for (const { kernel, layout, upload } of options.contenders) {
      const weights: DeviceWeight[] = [];
      for (let i = 0; i < copies; i++) weights.push(own(owned, await upload(weight)));
      resident.push({ kernel, layout, weights });
    }
    const measurements: Measurement[] = [];
    for (const m of options.rows) {
      options.onProgress?.(m);
      measurements.push(await measureRows(backend, { ...shape, m }, coalesced, sampled, resident, options));
    }
    return measurements;
  } finally {
    for (const resource of owned.reverse()) resource.dispose();
  }
}

/** A kernel with all its copies of the weight. */
interface ResidentContender extends Pick<Contender, 'kernel' | 'layout'> {
  readonly weights: readonly DeviceWeight[];
}

async function measureRows(
  backend: Backend,
  shape: BenchShape,
  weight: CoalescedInt4Tensor,
  sampled: ReturnType<typeof sampleRows>,
  resident: readonly ResidentContender[],
  { roofGBps, replays }: ShapeOptions,
): Promise<Measurement> {
  const { n, k, m } = shape;
  const x = drawActivations({ name: `bench ${n}x${k} m${m}`, m, k, activations: 'plain' });
  const owned: { dispose(): void }[] = [];
  try {
    const xBuffer = own(owned, await backend.createBuffer(x.byteLength));
    await xBuffer.write(new Uint8Array(x.buffer));
    // A y of each copy's own: writes to one would have to wait for each other.
    const ys: DeviceBuffer[] = [];
    for (const _ of resident[0]!.weights) ys.push(own(owned, await backend.createBuffer(m * n * 4)));
    const plans: Plan[] = [];
    for (const { weights } of resident) {
      const steps = weights.map((w, i) => ({ m, x: xBuffer, weight: w, y: ys[i]!, outputType: 'f32' as const }));
      plans.push(own(owned, await backend.plan(steps)));
    }

    const difference = await verify(plans, weight, sampled, x, ys, m);
    const copies = resident[0]!.weights.length;
    const base = { ...shape, backend: backend.name, copies, replays, verifiedRows: sampled.rows.length };
    if (difference) return { ...base, timings: [], difference };

    const samples = plans.map((): number[] => []);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [i, plan] of plans.entries()) {
        const elapsedUs = await backend.benchmark.timePlan(plan, Math.ceil(replays / ROUNDS));
        samples[i]!.push(...elapsedUs.map((us) => us / copies));
      }
    }
    const neededBytes = weight.sizeBytes + m * k * 2 + m * n * 4;
    const timings = resident.map(({ kernel, layout }, i): Timing => {
      const spread = spreadOf(samples[i]!);
      const bandwidthGBps = neededBytes / spread.medianUs / 1000;
      return { kernel, layout, ...spread, bandwidthGBps, percentOfRoof: (100 * bandwidthGBps) / roofGBps };
    });
    return { ...base, timings, difference: null };
  } finally {
    for (const resource of owned.reverse()) resource.dispose();
  }
}

/** The plan of each kernel against the reference on sampled rows, and every copy of every kernel against each other on all. */
async function verify(
  plans: readonly Plan[],
  weight: CoalescedInt4Tensor,
  { rows, sample }: ReturnType<typeof sampleRows>,
  x: Uint16Array,
  ys: readonly DeviceBuffer[],
  m: number,
): Promise<BitDifference | null> {
  const expected = int4PlainMM(x, sample);
  let first: Float32Array | null = null;
  for (const plan of plans) {
    for (const y of ys) await y.write(new Uint8Array(y.sizeBytes).fill(0xff));
    await plan.run();
    for (const y of ys) {
      const output = new Float32Array((await y.read()).slice().buffer);
      const between = first && firstDifference(first, output, weight.n);
      if (between) return between;
      if (!first) {
        const sampled = new Float32Array(m * rows.length);
        for (let i = 0; i < m; i++) {
          rows.forEach((row, j) => {
            sampled[i * rows.length + j] = output[i * weight.n + row]!;
          });
        }
        const difference = firstDifference(expected, sampled, rows.length);
        if (difference) return { ...difference, n: rows[difference.n]! };
      }
      first ??= output;
    }
  }
  return null;
}

function own<T extends { dispose(): void }>(owned: { dispose(): void }[], resource: T): T {
  owned.push(resource);
  return resource;
}

// One shape on one backend: verified first, then timed, both layouts in turn.

import {
  type Backend,
  type BitDifference,
  CoalescedInt4Tensor,
  type DeviceBuffer,
  type DeviceWeight,
  drawActivations,
  firstDifference,
  type Int4Tensor,
  int4PlainMM,
  type Plan,
  type ScaleLayout,
} from '../../core/index.js';
import { sampleRows } from './synthetic_weight.js';

/** What is timed: y[M, N] = x[M, K] · wᵀ. */
export interface BenchShape {
  readonly label: string;
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly m: number;
}

export interface Timing {
  readonly layout: ScaleLayout;
  /** Device time of one matvec; activations are quantized once for all copies of the weight. */
  readonly medianUs: number;
  readonly minUs: number;
  readonly maxUs: number;
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

/** Rows of a large weight that the reference checks; the two layouts check each other on the rest. */
const SAMPLED_ROWS = 64;
/** Timed in rounds that alternate between the layouts, so that drift touches both. */
const ROUNDS = 4;
/** Read by rotation when the cache is not known. */
const DEFAULT_ROTATION_BYTES = 512e6;
const CACHE_MULTIPLE = 4;

/** Verifies and times `weight` on `backend`. With wrong bits nothing is timed and `difference` says where. */
export async function measureShape(
  backend: Backend,
  shape: BenchShape,
  weight: Int4Tensor,
  roofGBps: number,
  replays: number,
): Promise<Measurement> {
  const { n, k, groupSize, m } = shape;
  const coalesced = CoalescedInt4Tensor.fromInt4Tensor(weight);
  const x = drawActivations({ name: `bench ${n}x${k} m${m}`, m, k, activations: 'plain' });
  const uploads = [{ layout: 'coalesced' as ScaleLayout, upload: () => backend.upload(coalesced) }];
  const { uploadNative } = backend.benchmark;
  if (uploadNative) uploads.unshift({ layout: 'native', upload: () => uploadNative(weight) });

  const weightBytes = (n * k) / 2 + (n * k * 4) / groupSize;
  const rotationBytes = Math.max(backend.benchmark.cacheSizeBytes * CACHE_MULTIPLE, DEFAULT_ROTATION_BYTES);
  const copies = backend.device.isSoftware ? 1 : Math.max(2, Math.ceil(rotationBytes / weightBytes));
  const owned: { dispose(): void }[] = [];
  try {
    const candidates: { layout: ScaleLayout; plan: Plan; weights: DeviceWeight[] }[] = [];
    const xBuffer = own(owned, await backend.createBuffer(x.byteLength));
    await xBuffer.write(new Uint8Array(x.buffer));
    const yBuffer = own(owned, await backend.createBuffer(m * n * 4));
    for (const { layout, upload } of uploads) {
      const weights: DeviceWeight[] = [];
      for (let i = 0; i < copies; i++) weights.push(own(owned, await upload()));
      const steps = weights.map((w) => ({ m, x: xBuffer, weight: w, y: yBuffer, outputType: 'f32' as const }));
      candidates.push({ layout, weights, plan: own(owned, await backend.plan(steps)) });
    }

    const sampled = sampleRows(coalesced, SAMPLED_ROWS);
    const difference = await verify(candidates, coalesced, sampled, x, yBuffer, m);
    const base = { ...shape, backend: backend.name, copies, replays, verifiedRows: sampled.rows.length };
    if (difference) return { ...base, timings: [], difference };

    const samples = candidates.map((): number[] => []);
    for (let round = 0; round < ROUNDS; round++) {
      for (const [i, { plan }] of candidates.entries()) {
        const elapsedUs = await backend.benchmark.timePlan(plan, Math.ceil(replays / ROUNDS));
        samples[i]!.push(...elapsedUs.map((us) => us / copies));
      }
    }
    const neededBytes = weightBytes + m * k * 2 + m * n * 4;
    const timings = candidates.map(({ layout }, i) => summarize(layout, samples[i]!, neededBytes, roofGBps));
    return { ...base, timings, difference: null };
  } finally {
    for (const resource of owned.reverse()) resource.dispose();
  }
}

/** The plan of each layout against the reference on sampled rows, and against each other on all of them. */
async function verify(
  candidates: readonly { plan: Plan }[],
  weight: CoalescedInt4Tensor,
  { rows, sample }: ReturnType<typeof sampleRows>,
  x: Uint16Array,
  y: DeviceBuffer,
  m: number,
): Promise<BitDifference | null> {
  const expected = int4PlainMM(x, sample);
  let previous: Float32Array | null = null;
  for (const { plan } of candidates) {
    await y.write(new Uint8Array(y.sizeBytes).fill(0xff));
    await plan.run();
    const output = new Float32Array((await y.read()).slice().buffer);
    const sampled = new Float32Array(m * rows.length);
    for (let i = 0; i < m; i++) {
      rows.forEach((row, j) => {
        sampled[i * rows.length + j] = output[i * weight.n + row]!;
      });
    }
    const difference = firstDifference(expected, sampled, rows.length);
    if (difference) return { ...difference, n: rows[difference.n]! };
    const between = previous && firstDifference(previous, output, weight.n);
    if (between) return between;
    previous = output;
  }
  return null;
}

function summarize(layout: ScaleLayout, elapsedUs: readonly number[], bytes: number, roofGBps: number): Timing {
  const sorted = [...elapsedUs].sort((a, b) => a - b);
  const medianUs = sorted[Math.floor(sorted.length / 2)]!;
  const bandwidthGBps = bytes / medianUs / 1000;
  return {
    layout,
    medianUs,
    minUs: sorted[0]!,
    maxUs: sorted[sorted.length - 1]!,
    bandwidthGBps,
    percentOfRoof: (100 * bandwidthGBps) / roofGBps,
  };
}

function own<T extends { dispose(): void }>(owned: { dispose(): void }[], resource: T): T {
  owned.push(resource);
  return resource;
}

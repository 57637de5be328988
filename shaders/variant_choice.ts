// Which kernel variant a device runs: what it can compile, and of these the one that is fastest there. The bits are the
// same, so the choice is measured, once a device, on a small matvec.

import { SamebitsError } from '../core/errors.js';
import { BLOCK_SIZE } from '../core/limits.js';
import { describeDevice } from './adapter.js';
import type { DeviceGuard } from './device_guard.js';
import { SLOT_BYTES } from './device_weight.js';
import { bind } from './dispatches.js';
import { BufferUsage } from './gpu_flags.js';
import { type DotVariant, type KernelVariant, type ReductionVariant, TILES } from './kernel_sources.js';
import { type CompiledKernel, Pipelines } from './pipelines.js';

/** 'auto' (default) is measured; a name is taken as it is. */
export interface VariantOptions {
  readonly dot?: DotVariant | 'auto';
  readonly reduction?: ReductionVariant | 'auto';
}

export interface VariantChoice {
  readonly pipelines: Pipelines;
  /** Why it is this variant, for people. */
  readonly reason: string;
}

/** The weight that variants are tried on; its rows are handed out as the device turns out to be fast. */
const N = 4096;
const K = 2048;
const GROUP_SIZE = 32;
const FIRST_ROWS = 64;
const ROWS_PER_TILE = TILES.plain.teams * TILES.plain.weightRows;
const ROWS_FACTOR = 8;
/** Dispatches of a measurement grow with its rows: one of 64 rows, 16 of all. */
const ROWS_PER_REPEAT = 256;
/** A measurement of this length tells variants apart. */
const ENOUGH_MS = 2;
const BUDGET_MS = 50;
/** How much faster a variant must be than the one before it in the list. */
const MIN_GAIN = 1.15;

const chosen = new WeakMap<GPUDevice, Promise<VariantChoice>>();

/**
 * The variant of `options`, its pipelines, and why. What is not named is measured, once for each device.
 * @throws SamebitsError DEVICE_FAILURE when a named variant, or none, compiles; DEVICE_LIMIT when the device cannot run a named one
 */
export async function chooseVariant(guard: DeviceGuard, options: VariantOptions): Promise<VariantChoice> {
  guard.requirePresent();
  const { dot = 'auto', reduction = 'auto' } = options;
  if (reduction === 'subgroup' && !hasFixedSubgroups(guard.device)) throw noSubgroups(guard.device);
  if (dot !== 'auto' && reduction !== 'auto') return named(guard, { dot, reduction }, 'as asked for');
  if (dot !== 'auto' || reduction !== 'auto') return bestOf(guard, dot, reduction);
  let choice = chosen.get(guard.device);
  if (choice === undefined) {
    choice = bestOf(guard, dot, reduction);
    chosen.set(guard.device, choice);
    choice.catch(() => chosen.delete(guard.device));
  }
  const { pipelines, reason } = await choice;
  return pipelines.guard === guard ? { pipelines, reason } : named(guard, pipelines.variant, reason);
}

/** Whether every subgroup of the device has one size, which the subgroup variant is specialised to. */
export function hasFixedSubgroups(device: GPUDevice): boolean {
  // Absent in browsers older than the attribute, whatever its type says.
  const info: GPUAdapterInfo | undefined = device.adapterInfo;
  if (!info || !device.features.has('subgroups')) return false;
  const { subgroupMinSize, subgroupMaxSize } = info;
  return subgroupMinSize === subgroupMaxSize && subgroupMinSize >= 4 && subgroupMinSize <= 32;
}

/**
 * Sums in subgroups where the device has them and they compile, for they take no memory and no barrier; of the dot products
 * the faster one. What a CPU driver compiles takes it long, and its speed does not matter: there, the first that compiles.
 */
async function bestOf(
  guard: DeviceGuard,
  dot: DotVariant | 'auto',
  reduction: ReductionVariant | 'auto',
): Promise<VariantChoice> {
  const fitting: readonly ReductionVariant[] = hasFixedSubgroups(guard.device)
    ? ['subgroup', 'workgroup']
    : ['workgroup'];
  const reductions = reduction === 'auto' ? fitting : [reduction];
  const dots: readonly DotVariant[] = dot === 'auto' ? ['packed', 'unpacked'] : [dot];
  const { isSoftware, name } = describeDevice(guard.device);
  const refused: string[] = [];
  let cause: unknown;
  const compile = async (variant: KernelVariant): Promise<Entrant[]> => {
    const pipelines = new Pipelines(guard, variant);
    try {
      return [{ pipelines, kernel: await firstPipelines(pipelines) }];
    } catch (error) {
      guard.requirePresent();
      if (!(error instanceof SamebitsError)) throw error;
      refused.push(`${nameOf(variant)} does not compile: ${error.got}`);
      cause = error;
      return [];
    }
  };
  for (const r of reductions) {
    const entrants: Entrant[] = [];
    if (isSoftware) {
      for (const d of dots) if (entrants.length === 0) entrants.push(...(await compile({ reduction: r, dot: d })));
    } else {
      entrants.push(...(await Promise.all(dots.map((d) => compile({ reduction: r, dot: d })))).flat());
    }
    if (entrants.length === 0) continue;
    const { pipelines, why } = await faster(guard, entrants);
    const reason = isSoftware ? `the first that compiles: ${name} computes on the CPU` : why;
    return { pipelines, reason: [reason, ...refused].join('; ') };
  }
  throw cause;
}

/** Compiles what every call needs, so that what does not compile is known at once. */
async function named(guard: DeviceGuard, variant: KernelVariant, reason: string): Promise<VariantChoice> {
  const pipelines = new Pipelines(guard, variant);
  await firstPipelines(pipelines);
  return { pipelines, reason };
}

async function firstPipelines(pipelines: Pipelines) {
  const [, matmul] = await Promise.all([
    pipelines.quantize(BLOCK_SIZE),
    pipelines.matmul({
      linears: 1,
      rows: 1,
      runSize: BLOCK_SIZE,
      outputType: 'f32',
      layout: 'coalesced',
      quantizes: false,
    }),
  ]);
  return matmul;
}

async function faster(
  guard: DeviceGuard,
  entrants: readonly Entrant[],
): Promise<{ pipelines: Pipelines; why: string }> {
  if (entrants.length === 1) return { pipelines: entrants[0]!.pipelines, why: 'the only one here' };
  const elapsedMs = await race(guard, entrants);
  let best = 0;
  for (let i = 1; i < entrants.length; i++) if (elapsedMs[i]! * MIN_GAIN < elapsedMs[best]!) best = i;
  const times = entrants.map(({ pipelines }, i) => {
    const time = elapsedMs[i]!;
    return `${nameOf(pipelines.variant)} ${Number.isFinite(time) ? `${time.toPrecision(3)} ms` : 'not in time'}`;
  });
  return { pipelines: entrants[best]!.pipelines, why: `measured at the start: ${times.join(', ')}` };
}

interface Entrant {
  readonly pipelines: Pipelines;
  readonly kernel: CompiledKernel;
}

/** The time of each on as many rows as fit the budget. */
async function race(guard: DeviceGuard, entrants: readonly Entrant[]): Promise<number[]> {
  const { device } = guard;
  const buffers: GPUBuffer[] = [];
  const create = (size: number, usage: number) => {
    const buffer = device.createBuffer({ label: 'variant choice', size, usage });
    buffers.push(buffer);
    return { buffer };
  };
  try {
    const bindings = await guard.run('the choice of a kernel variant', () => {
      const storage = (size: number) => create(size, BufferUsage.STORAGE);
      const blocks = K / BLOCK_SIZE;
      const params = create(SLOT_BYTES, BufferUsage.UNIFORM | BufferUsage.COPY_DST);
      const words = [N, 0, N, blocks, Math.log2(GROUP_SIZE / BLOCK_SIZE), 0, 0, 0];
      device.queue.writeBuffer(params.buffer, 0, new Int32Array(words));
      const [codes, terms, nobody] = [storage(K), storage((1 + blocks) * 8), storage(4)];
      return [codes, terms, nobody, storage((N * K) / 2), storage(N * blocks * 4), storage(N * 4), params];
    });
    // The first use clears the buffers and ends what a driver has put off of a compilation.
    for (const entrant of entrants) await timeOnce(guard, entrant, bindings, ROWS_PER_TILE);
    const start = performance.now();
    let elapsedMs = entrants.map(() => 0);
    for (let rows = FIRST_ROWS; rows <= N; rows *= ROWS_FACTOR) {
      const round: number[] = [];
      for (const entrant of entrants) {
        if (round.length === 0 || performance.now() - start < BUDGET_MS) {
          round.push(await timeOnce(guard, entrant, bindings, rows));
        }
      }
      // A round that ran out of time compares nothing; the first one is always finished by what was cheap enough.
      if (round.length === entrants.length) elapsedMs = round;
      else if (rows === FIRST_ROWS) elapsedMs = entrants.map((_, i) => round[i] ?? Number.POSITIVE_INFINITY);
      const spent = performance.now() - start;
      if (Math.max(...round) > ENOUGH_MS || spent * ROWS_FACTOR > BUDGET_MS) break;
    }
    return elapsedMs;
  } finally {
    for (const buffer of buffers) buffer.destroy();
  }
}

async function timeOnce(
  guard: DeviceGuard,
  { kernel: { pipeline, bindGroupLayout } }: Entrant,
  bindings: readonly GPUBufferBinding[],
  rows: number,
): Promise<number> {
  const { device } = guard;
  const start = performance.now();
  const { value, accepted } = guard.scoped('the choice of a kernel variant', () => {
    const encoder = device.createCommandEncoder({ label: 'variant choice' });
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bind(device, bindGroupLayout, bindings));
    const workgroups = rows / ROWS_PER_TILE;
    for (let done = 0; done < rows; done += ROWS_PER_REPEAT) pass.dispatchWorkgroups(workgroups);
    pass.end();
    device.queue.submit([encoder.finish()]);
    return guard.settle('the choice of a kernel variant', device.queue.onSubmittedWorkDone());
  });
  await accepted;
  await value;
  return performance.now() - start;
}

function nameOf({ reduction, dot }: KernelVariant): string {
  return `${reduction} + ${dot}`;
}

function noSubgroups(device: GPUDevice): SamebitsError {
  const info: GPUAdapterInfo | undefined = device.adapterInfo;
  return new SamebitsError('DEVICE_LIMIT', {
    rule: 'sums in subgroups need a device with subgroups of one fixed size',
    expected: "the feature 'subgroups' and one size in 4..32",
    got: device.features.has('subgroups')
      ? `sizes ${info?.subgroupMinSize}..${info?.subgroupMaxSize}`
      : "a device without the feature 'subgroups'",
    fix: "Leave the reduction to 'auto', or request the device with the feature.",
  });
}

// Which of several kernel variants is faster on a device: measured on a small matvec, within a bound of time.

import { BLOCK_SIZE } from '../core/limits.js';
import type { DeviceGuard } from './device_guard.js';
import { SLOT_BYTES } from './device_weight.js';
import { bind } from './dispatches.js';
import { BufferUsage } from './gpu_flags.js';
import { type KernelVariant, TILES } from './kernel_sources.js';
import type { CompiledKernel, Pipelines } from './pipelines.js';

/** The weight that variants are tried on; its rows are handed out as the device turns out to be fast. */
const N = 4096;
const K = 2048;
const GROUP_SIZE = 32;
const ROWS_PER_TILE = TILES.plain.teams * TILES.plain.weightRows;
interface Round {
  readonly rows: number;
  readonly dispatches: number;
}
/** How much more a round does than the one before it: the slowest device ends the first, and the fastest needs the last. */
const ROUND_FACTOR = 8;
const ROUNDS: readonly Round[] = [
  { rows: 64, dispatches: 1 },
  { rows: 512, dispatches: 1 },
  { rows: N, dispatches: 1 },
  { rows: N, dispatches: 8 },
  { rows: N, dispatches: 64 },
  { rows: N, dispatches: 512 },
];
/** A measurement of this length tells variants apart; what takes less is the time of a submission. */
const ENOUGH_MS = 2;
export const BUDGET_MS = 50;
/** How much faster a variant must be than the one before it in the list. */
const MIN_GAIN = 1.15;

type Clock = () => number;

/** A variant that compiles, and its kernel for one row of x and one linear. */
export interface Entrant {
  readonly pipelines: Pipelines;
  readonly kernel: CompiledKernel;
}

/**
 * The fastest of `entrants`, which stand in the order of preference, and what was measured. Stops after BUDGET_MS by the clock
 * `now`, in milliseconds: what was not measured by then is not chosen.
 */
export async function fasterOf(
  guard: DeviceGuard,
  entrants: readonly Entrant[],
  now: Clock = () => performance.now(),
): Promise<{ pipelines: Pipelines; why: string }> {
  if (entrants.length === 1) return { pipelines: entrants[0]!.pipelines, why: 'the only one here' };
  const elapsedMs = await race(guard, entrants, now);
  let best = 0;
  if (Math.max(...elapsedMs) >= ENOUGH_MS) {
    for (let i = 1; i < entrants.length; i++) if (elapsedMs[i]! * MIN_GAIN < elapsedMs[best]!) best = i;
  }
  const times = entrants.map(({ pipelines }, i) => {
    const time = elapsedMs[i]!;
    return `${nameOf(pipelines.variant)} ${Number.isFinite(time) ? `${time.toPrecision(3)} ms` : 'not in time'}`;
  });
  return { pipelines: entrants[best]!.pipelines, why: `measured at the start: ${times.join(', ')}` };
}

/** The time of each on as much work as fits the budget. */
async function race(guard: DeviceGuard, entrants: readonly Entrant[], now: Clock): Promise<number[]> {
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
      const words = [N, 0, N, blocks, Math.log2(GROUP_SIZE / BLOCK_SIZE), 0, 0, 0, 0, 0];
      device.queue.writeBuffer(params.buffer, 0, new Int32Array(words));
      const [codes, terms, nobody] = [storage(K), storage((1 + blocks) * 8), storage(4)];
      return [codes, terms, nobody, storage((N * K) / 2), storage(N * blocks * 4), storage(N * 4), params];
    });
    // The first use clears the buffers and ends what a driver has put off of a compilation.
    for (const entrant of entrants)
      await timeOnce(guard, entrant, bindings, { rows: ROWS_PER_TILE, dispatches: 1 }, now);
    const start = now();
    let elapsedMs = entrants.map(() => 0);
    for (const work of ROUNDS) {
      const round: number[] = [];
      for (const entrant of entrants) {
        if (round.length === 0 || now() - start < BUDGET_MS) {
          round.push(await timeOnce(guard, entrant, bindings, work, now));
        }
      }
      // A round that ran out of time compares nothing; the first one is always finished by what was cheap enough.
      if (round.length === entrants.length) elapsedMs = round;
      else if (work === ROUNDS[0]) elapsedMs = entrants.map((_, i) => round[i] ?? Number.POSITIVE_INFINITY);
      const spent = now() - start;
      if (Math.max(...round) >= ENOUGH_MS || spent * ROUND_FACTOR > BUDGET_MS) break;
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
  { rows, dispatches }: Round,
  now: Clock,
): Promise<number> {
  const { device } = guard;
  const start = now();
  const { value, accepted } = guard.scoped('the choice of a kernel variant', () => {
    const encoder = device.createCommandEncoder({ label: 'variant choice' });
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    pass.setBindGroup(0, bind(device, bindGroupLayout, bindings));
    for (let i = 0; i < dispatches; i++) pass.dispatchWorkgroups(rows / ROWS_PER_TILE);
    pass.end();
    device.queue.submit([encoder.finish()]);
    return guard.settle('the choice of a kernel variant', device.queue.onSubmittedWorkDone());
  });
  await accepted;
  await value;
  return now() - start;
}

export function nameOf({ reduction, dot }: KernelVariant): string {
  return `${reduction} + ${dot}`;
}

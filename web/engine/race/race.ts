// The race: every shape, both layouts and the f32 way; each contender is checked before it is timed.

import { SamebitsError } from '../../../core/index.js';
import type { OpenDevice } from '../device_holder.js';
import { failureOf, type JobContext } from '../job.js';
import { CONTENDERS, type Contender, type RaceShape, type RaceTiming } from '../messages.js';
import { prepare } from './contenders.js';
import { raceWeight, TILE_ROWS } from './tiled_weight.js';

/** How much is moved and how often, so that a race takes seconds on what it runs on. */
interface Effort {
  /** Packed bytes of the largest weight; taller ones are cut. */
  readonly maxWeightBytes: number;
  /** Read in rotation, to be more than the caches hold. */
  readonly rotationBytes: number;
  readonly passes: number;
  /** Browsers round timestamps to 100 µs, so that a pass must take much longer than that. */
  readonly passUs: number;
}

const HARDWARE: Effort = { maxWeightBytes: 192 * 2 ** 20, rotationBytes: 256 * 2 ** 20, passes: 12, passUs: 20_000 };
const SOFTWARE: Effort = { maxWeightBytes: 2 ** 20, rotationBytes: 0, passes: 3, passUs: 0 };
const MAX_COPIES = 32;
const MAX_MATVECS = 512;

export async function race(shapes: readonly RaceShape[], context: JobContext<'race'>): Promise<null> {
  const device = await context.device.get();
  if (device === null) throw new Error('There is no GPU to race on.');
  const effort = device.backend.device.isSoftware ? SOFTWARE : HARDWARE;
  for (const [index, asked] of shapes.entries()) {
    const shape = { ...asked, n: cappedRows(asked, effort.maxWeightBytes) };
    context.emit({ kind: 'shape', index, n: shape.n });
    await context.step();
    const weight = raceWeight(shape);
    for (const contender of CONTENDERS) {
      try {
        const timing = await runOne(contender, device, weight, effort, index, context);
        context.emit({ kind: 'timing', index, timing });
      } catch (error) {
        // One contender may not fit; a lost device or a cancelled job ends them all.
        const mayGoOn = error instanceof SamebitsError && error.code !== 'DEVICE_LOST' && !context.signal.aborted;
        if (!mayGoOn) throw error;
        context.emit({ kind: 'refused', index, contender, failure: failureOf(error) });
      }
    }
  }
  return null;
}

/** N, or as many rows as the packed weight may take, in whole tiles. */
export function cappedRows({ n, k, groupSize }: RaceShape, maxWeightBytes: number): number {
  const rowBytes = k / 2 + (4 * k) / groupSize;
  const rows = Math.floor(maxWeightBytes / rowBytes / TILE_ROWS) * TILE_ROWS;
  return Math.min(n, Math.max(TILE_ROWS, rows));
}

async function runOne(
  contender: Contender,
  device: OpenDevice,
  weight: ReturnType<typeof raceWeight>,
  { rotationBytes, passes, passUs }: Effort,
  index: number,
  { emit, step, signal }: JobContext<'race'>,
): Promise<RaceTiming> {
  const weightBytes = weight.coalesced.sizeBytes;
  const copies = Math.min(MAX_COPIES, Math.max(1, Math.ceil(rotationBytes / weightBytes)));
  emit({ kind: 'stage', index, contender, stage: 'upload' });
  await step();
  const prepared = await prepare(contender, device, weight, copies, signal);
  try {
    emit({ kind: 'stage', index, contender, stage: 'check' });
    await step();
    const fault = await prepared.check();
    if (fault !== null) throw wrongOutput(contender, fault);
    emit({ kind: 'stage', index, contender, stage: 'time' });
    // The first pass warms up, and says how many matvecs make one that can be timed.
    const firstUs = await prepared.timeUs(1);
    await step();
    const matvecs = Math.min(MAX_MATVECS, Math.max(1, Math.ceil(passUs / Math.max(firstUs, 1))));
    const elapsedUs: number[] = [];
    for (let i = 0; i < passes; i++) {
      elapsedUs.push(await prepared.timeUs(matvecs));
      await step();
    }
    elapsedUs.sort((a, b) => a - b);
    const medianUs = elapsedUs[Math.floor(passes / 2)]!;
    const { movedBytes } = prepared;
    const [minUs, maxUs] = [elapsedUs[0]!, elapsedUs[passes - 1]!];
    return { contender, medianUs, minUs, maxUs, movedBytes, bandwidthGBps: movedBytes / medianUs / 1000 };
  } finally {
    prepared.dispose();
  }
}

function wrongOutput(contender: Contender, fault: string): SamebitsError {
  return new SamebitsError('DEVICE_FAILURE', {
    rule: `the ${contender} contender must give the right output before it is timed`,
    expected: contender === 'dequantized' ? 'the product, to f32 accuracy' : 'the bits of the reference',
    got: fault,
    fix: 'Please report it with the report of "Prove it".',
  });
}

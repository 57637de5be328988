// The three ways to multiply by a 4-bit weight, each ready to be checked and timed.

import {
  type DeviceWeight,
  dequantizeAndMultiply,
  firstDifference,
  formatDifference,
  int4PlainMM,
  numberFromBf16,
} from '../../../core/index.js';
import type { OpenDevice } from '../device_holder.js';
import type { Contender } from '../messages.js';
import { relativeError } from '../relative_error.js';
import { prepareDequantized } from './dequantized.js';
import { type RaceWeight, repeated } from './tiled_weight.js';

/** One contender on one shape, on the device. */
export interface Prepared {
  /** Bytes that one matvec reads and writes. */
  readonly movedBytes: number;
  /** What is wrong with the output, all of which is looked at; null when nothing is. */
  check(): Promise<string | null>;
  /** Device time of one matvec, the mean of a pass of `matvecs` of them. */
  timeUs(matvecs: number): Promise<number>;
  dispose(): void;
}

/** Copies `copies` weights to the device, so that the timed passes read more than a cache holds. */
export function prepare(
  contender: Contender,
  device: OpenDevice,
  weight: RaceWeight,
  copies: number,
  signal: AbortSignal,
): Promise<Prepared> {
  return contender === 'dequantized'
    ? prepareDequantized(device, weight, (y) => plainFault(y, weight))
    : prepareSamebits(contender, device, weight, copies, signal);
}

async function prepareSamebits(
  layout: 'native' | 'coalesced',
  { backend }: OpenDevice,
  weight: RaceWeight,
  copies: number,
  signal: AbortSignal,
): Promise<Prepared> {
  const { n } = weight.coalesced;
  const owned: { dispose(): void }[] = [];
  const own = <T extends { dispose(): void }>(resource: T): T => {
    owned.push(resource);
    return resource;
  };
  const dispose = () => {
    for (const resource of owned.splice(0).reverse()) resource.dispose();
  };
  try {
    const x = own(await backend.createBuffer(weight.x.byteLength));
    await x.write(new Uint8Array(weight.x.buffer, weight.x.byteOffset, weight.x.byteLength));
    const y = own(await backend.createBuffer(n * 4));
    const weights: DeviceWeight[] = [];
    for (let i = 0; i < copies; i++) {
      signal.throwIfAborted();
      weights.push(own(await (layout === 'native' ? uploadNative(backend, weight) : backend.upload(weight.coalesced))));
    }
    const stepsOf = (matvecs: number) =>
      Array.from({ length: matvecs }, (_, i) => ({
        m: 1,
        x,
        y,
        weight: weights[i % copies]!,
        outputType: 'f32' as const,
      }));
    return {
      movedBytes: weight.coalesced.sizeBytes + weight.x.byteLength + n * 4,
      check: async () => {
        const expected = repeated(int4PlainMM(weight.x, weight.tile), n);
        const plan = await backend.plan(stepsOf(1));
        try {
          await y.write(new Uint8Array(n * 4).fill(0xff));
          await plan.run();
        } finally {
          plan.dispose();
        }
        const difference = firstDifference(expected, new Float32Array((await y.read()).slice().buffer), n);
        return difference && formatDifference(difference);
      },
      timeUs: async (matvecs) => {
        const plan = await backend.plan(stepsOf(matvecs));
        try {
          const [elapsedUs = Number.NaN] = await backend.benchmark.timePlan(plan, 1);
          return elapsedUs / matvecs;
        } finally {
          plan.dispose();
        }
      },
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

function uploadNative({ benchmark }: OpenDevice['backend'], { native }: RaceWeight): Promise<DeviceWeight> {
  if (!benchmark.uploadNative) throw new Error('this backend has no kernel for the old layout');
  return benchmark.uploadNative(native);
}

/** The f32 way has no defined bits; it must come as close to the exact product as f32 sums do. */
const MAX_RELATIVE_ERROR = 1e-4;

function plainFault(y: Float32Array, { x, tile, coalesced }: RaceWeight): string | null {
  const exact = repeated(dequantizeAndMultiply(Float32Array.from(x, numberFromBf16), tile), coalesced.n);
  const error = relativeError(y, exact);
  return error <= MAX_RELATIVE_ERROR ? null : `its output is off by ${error.toPrecision(2)} of the norm`;
}

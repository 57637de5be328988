// The weights of a whole decode step, resident for one kernel after the other, and what to say when they do not fit.

import { type DeviceWeight, SamebitsError } from '../../core/index.js';
import { type Contender, inBoth, type KernelName, type WeightInBoth } from './contenders.js';
import { DECODE_GROUP_SIZE, type DecodeLinear, decodeWeight, decodeWeightBytes, fittingLayers } from './decode_step.js';
import { formWeight } from './form_weight.js';

/** A kernel with every weight of the step. */
export interface ResidentKernel {
  readonly kernel: KernelName;
  readonly weights: readonly DeviceWeight[];
}

/** A baseline that found no room. */
export interface SkippedKernel {
  readonly kernel: KernelName;
  readonly reason: string;
}

export interface Residency {
  /** In the order of the contenders. */
  readonly resident: readonly ResidentKernel[];
  readonly skipped: readonly SkippedKernel[];
}

/** Takes a resource over, to dispose of it in the end. */
export type Own = <T extends { dispose(): void }>(resource: T) => T;

/** Of the memory that is free, what activations, scratch and the driver leave to weights. */
const USABLE = 0.95;

export function weightBytesOf(linears: readonly DecodeLinear[]): number {
  return linears.reduce((sum, linear) => sum + decodeWeightBytes(linear), 0);
}

/** The distinct weights of a step, by shape; linears of one shape have equal weights, each in memory of its own. */
export function drawWeights(
  linears: readonly DecodeLinear[],
  onProgress: (what: string) => void,
): ReadonlyMap<string, WeightInBoth> {
  const weights = new Map<string, WeightInBoth>();
  for (const linear of linears) {
    const key = shapeKey(linear);
    if (weights.has(key)) continue;
    onProgress(`drawing ${key}`);
    const { n, k, form } = linear;
    const drawn = form
      ? { native: null, coalesced: formWeight(form, n, k, DECODE_GROUP_SIZE) }
      : inBoth(decodeWeight(n, k));
    weights.set(key, drawn);
  }
  return weights;
}

export function shapeKey({ n, k }: { readonly n: number; readonly k: number }): string {
  return `${n}x${k}`;
}

/**
 * Uploads every linear for every contender: the kernel in use first, because without it there is nothing to measure; a
 * baseline that does not fit beside it is skipped, with the reason. `own` gets every weight that stays.
 * @param freeBytes of device memory, when it is known
 * @throws SamebitsError DEVICE_OUT_OF_MEMORY with the layers that would fit, when the kernel in use does not
 */
export async function makeResident(
  contenders: readonly Contender[],
  linears: readonly DecodeLinear[],
  tensors: ReadonlyMap<string, WeightInBoth>,
  freeBytes: number | null,
  own: Own,
  onProgress: (what: string) => void,
): Promise<Residency> {
  const needed = weightBytesOf(linears);
  const weightsOf = new Map<KernelName, readonly DeviceWeight[]>();
  const skipped: SkippedKernel[] = [];
  for (const contender of [...contenders].reverse()) {
    const { kernel } = contender;
    try {
      checkRoom(linears, freeBytes, weightsOf.size);
      weightsOf.set(kernel, await uploadAll(contender, linears, tensors, onProgress));
      for (const weight of weightsOf.get(kernel)!) own(weight);
    } catch (error) {
      if (!(error instanceof SamebitsError) || error.code !== 'DEVICE_OUT_OF_MEMORY' || weightsOf.size === 0)
        throw error;
      skipped.push({ kernel, reason: `no room for ${inGigabytes(needed)} more: ${error.got}` });
    }
  }
  const resident = contenders.flatMap(({ kernel }) => {
    const weights = weightsOf.get(kernel);
    return weights ? [{ kernel, weights }] : [];
  });
  return { resident, skipped };
}

async function uploadAll(
  contender: Contender,
  linears: readonly DecodeLinear[],
  tensors: ReadonlyMap<string, WeightInBoth>,
  onProgress: (what: string) => void,
): Promise<DeviceWeight[]> {
  const weights: DeviceWeight[] = [];
  let residentBytes = 0;
  try {
    for (const linear of linears) {
      onProgress(`${contender.kernel}: ${linear.name}, ${inGigabytes(residentBytes)} resident`);
      weights.push(await contender.upload(tensors.get(shapeKey(linear))!));
      residentBytes += decodeWeightBytes(linear);
    }
    return weights;
  } catch (error) {
    for (const weight of weights) weight.dispose();
    if (!(error instanceof SamebitsError) || error.code !== 'DEVICE_OUT_OF_MEMORY') throw error;
    throw tooLarge(linears, `a device that took ${inGigabytes(residentBytes)}`, residentBytes, error);
  }
}

/** @throws SamebitsError DEVICE_OUT_OF_MEMORY before anything is uploaded, where the free memory is known */
export function checkRoom(linears: readonly DecodeLinear[], freeBytes: number | null, residentKernels = 0): void {
  if (freeBytes === null) return;
  const left = freeBytes - residentKernels * weightBytesOf(linears);
  if (weightBytesOf(linears) > left * USABLE) throw tooLarge(linears, `${inGigabytes(left)} free`, left);
}

function tooLarge(linears: readonly DecodeLinear[], got: string, roomBytes: number, cause?: unknown): SamebitsError {
  const layers = new Set(linears.flatMap(({ layer }) => layer ?? [])).size;
  const fitting = fittingLayers(linears, roomBytes * USABLE);
  return new SamebitsError('DEVICE_OUT_OF_MEMORY', {
    rule: 'the weights of a decode step stay resident, as they do while decoding',
    expected: `${inGigabytes(weightBytesOf(linears))} of memory for ${layers} layers and the head`,
    got,
    fix: `Use '--layers ${fitting}' or fewer, or a device with more memory.`,
    cause,
  });
}

function inGigabytes(sizeBytes: number): string {
  return `${(sizeBytes / 1e9).toPrecision(3)} GB`;
}

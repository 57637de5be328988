// Which kernel variant a device runs: what it can compile, and of these the one that is fastest there. The bits are the
// same, so the choice is measured, once a device, on a small matvec.

import { SamebitsError } from '../core/errors.js';
import { DEFAULT_FORM } from '../core/forms.js';
import { BLOCK_SIZE } from '../core/limits.js';
import { describeDevice } from './adapter.js';
import type { DeviceGuard } from './device_guard.js';
import type { DotVariant, KernelVariant, ReductionVariant } from './kernel_sources.js';
import { Pipelines } from './pipelines.js';
import { type Entrant, fasterOf, nameOf } from './variant_race.js';

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
    const { pipelines, why } = await fasterOf(guard, entrants);
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
      form: DEFAULT_FORM,
      quantizes: false,
    }),
  ]);
  return matmul;
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

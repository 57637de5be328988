// The kernel variants that a device can run, for tests that must hold of every one.

import type { KernelVariant } from '../../shaders/index.js';
import { hasFixedSubgroups } from '../../shaders/variant_choice.js';

export const VARIANTS: readonly (KernelVariant & { readonly name: string })[] = [
  { name: 'subgroup sums, packed dot products', reduction: 'subgroup', dot: 'packed' },
  { name: 'subgroup sums, unpacked dot products', reduction: 'subgroup', dot: 'unpacked' },
  { name: 'workgroup sums, packed dot products', reduction: 'workgroup', dot: 'packed' },
  { name: 'workgroup sums, unpacked dot products', reduction: 'workgroup', dot: 'unpacked' },
];

/** Why a device cannot run a variant; null when it can. */
export function missingFor(device: GPUDevice, { reduction }: KernelVariant): string | null {
  return reduction === 'workgroup' || hasFixedSubgroups(device) ? null : 'no subgroups of one fixed size';
}

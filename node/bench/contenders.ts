// The kernels that are timed against each other: two baselines, where a backend keeps them, and the one in use.

import type { WeightForm } from '../../core/forms.js';
import {
  type Backend,
  CoalescedInt4Tensor,
  type DeviceWeight,
  type Int4Tensor,
  type ScaleLayout,
} from '../../core/index.js';

/** `native` reads scales in [nGroups, N]; `plain` is the pull request's kernel on [N, nGroups]; `samebits` is in use. */
export type KernelName = 'native' | 'plain' | 'samebits';

/** One weight in both layouts, which share their codes. */
export interface WeightInBoth {
  /** Null where the form is not the default one, which alone has that layout. */
  readonly native: Int4Tensor | null;
  readonly coalesced: CoalescedInt4Tensor;
}

export function inBoth(native: Int4Tensor): WeightInBoth {
  return { native, coalesced: CoalescedInt4Tensor.fromInt4Tensor(native) };
}

export interface Contender {
  readonly kernel: KernelName;
  readonly layout: ScaleLayout;
  upload(weight: WeightInBoth): Promise<DeviceWeight>;
}

/** How tables name them. */
export const KERNEL_TITLES: Readonly<Record<KernelName, string>> = {
  native: '(a) [nGroups, N]',
  plain: '(b) [N, nGroups], plain',
  samebits: '(c) samebits',
};

/**
 * Everything that this backend can run, the baselines first.
 * @param form where it is not the default one, which alone the baselines take
 */
export function contendersOf(backend: Backend, form?: WeightForm): readonly Contender[] {
  const { uploadNative, uploadPlain } = backend.benchmark;
  const contenders: Contender[] = [];
  if (uploadNative && !form)
    contenders.push({ kernel: 'native', layout: 'native', upload: ({ native }) => uploadNative(native!) });
  if (uploadPlain && !form) {
    contenders.push({ kernel: 'plain', layout: 'coalesced', upload: ({ coalesced }) => uploadPlain(coalesced) });
  }
  contenders.push({ kernel: 'samebits', layout: 'coalesced', upload: ({ coalesced }) => backend.upload(coalesced) });
  return contenders;
}

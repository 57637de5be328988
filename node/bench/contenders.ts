// The kernels that are timed against each other: two baselines, where a backend keeps them, and the one in use.

import type { Backend, CoalescedInt4Tensor, DeviceWeight, Int4Tensor, ScaleLayout } from '../../core/index.js';

/** `native` reads scales in [nGroups, N]; `plain` is the pull request's kernel on [N, nGroups]; `samebits` is in use. */
export type KernelName = 'native' | 'plain' | 'samebits';

/** One weight in both layouts, which share their codes. */
export interface WeightInBoth {
  readonly native: Int4Tensor;
  readonly coalesced: CoalescedInt4Tensor;
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

/** Everything that this backend can run, the baselines first. */
export function contendersOf(backend: Backend): readonly Contender[] {
  const { uploadNative, uploadPlain } = backend.benchmark;
  const contenders: Contender[] = [];
  if (uploadNative)
    contenders.push({ kernel: 'native', layout: 'native', upload: ({ native }) => uploadNative(native) });
  if (uploadPlain) {
    contenders.push({ kernel: 'plain', layout: 'coalesced', upload: ({ coalesced }) => uploadPlain(coalesced) });
  }
  contenders.push({ kernel: 'samebits', layout: 'coalesced', upload: ({ coalesced }) => backend.upload(coalesced) });
  return contenders;
}

// Sending a packed weight to a CUDA device in pieces, so that the event loop never waits for gigabytes to be copied.

import type { DeviceWeight } from '../core/backend.js';
import { type CoalescedInt4Tensor, requireCoalesced } from '../core/coalesced_int4_tensor.js';
import type { CoalescedInt4Parts } from '../core/coalesced_parts.js';
import { type Groups, groupsPerStep } from '../core/forms.js';
import type { Int4Tensor } from '../core/int4_tensor.js';
import type { Operand, ScaleLayout } from '../core/validate.js';
import type { NativeAddon, NativeOperand, NativeWeight, NativeWeightDescription } from './cuda_addon.js';
import { CudaResource, type CudaSession } from './cuda_session.js';

/** The tag under which the benchmark uploads the layout before; the coalesced border refuses it. */
const NATIVE_LAYOUT = 'native-int4';
/** Bytes of host memory that one native call copies at the most. */
const PIECE_BYTES = 16 * 1024 * 1024;

export class CudaWeight extends CudaResource<NativeWeight> implements DeviceWeight {
  protected override readonly what = 'weight';

  constructor(
    session: CudaSession,
    handle: NativeWeight,
    readonly layout: ScaleLayout,
    readonly n: number,
    readonly k: number,
    readonly groupSize: number,
    readonly nGroups: number,
    readonly sizeBytes: number,
  ) {
    super(session, handle);
  }
}

/** Which kernel a weight is uploaded for: ours, or the benchmark's baseline. */
export type WeightKernel = 'ours' | 'baseline';

/** A weight's description and its arrays. */
interface Upload {
  readonly description: NativeWeightDescription;
  readonly layout: ScaleLayout;
  readonly kernel: WeightKernel;
  readonly qdata: Uint8Array;
  readonly groups: Groups;
  readonly groupSize: number;
}

/**
 * Uploads a weight of any form. The native side validates all of it again. A failure frees what was taken.
 * @throws SamebitsError LAYOUT_WRONG_TYPE; FORM_UNSUPPORTED for the baseline, which has the default form only
 */
export async function uploadWeight(
  session: CudaSession,
  weight: CoalescedInt4Tensor,
  kernel: WeightKernel,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<CudaWeight> {
  const { qdata, groups, groupSize } = requireCoalesced(weight);
  const description = describeParts(weight.parts());
  return send(session, { description, layout: 'coalesced', kernel, qdata, groups, groupSize }, onProgress);
}

/** Uploads a weight in the layout before, for the benchmark's baseline. */
export async function uploadNativeWeight(session: CudaSession, weight: Int4Tensor): Promise<CudaWeight> {
  const { qdata, scale, zeroPoint, groupSize } = weight.parts();
  const description = {
    layout: NATIVE_LAYOUT,
    groupSize,
    qdata: describe(qdata),
    scale: describe(scale),
    zeroPoint: describe(zeroPoint),
  };
  const groups = { scale: scale.data, second: zeroPoint.data, steps: null };
  const upload = { description, layout: 'native', kernel: 'baseline', qdata: qdata.data, groups, groupSize } as const;
  return send(session, upload, () => {});
}

async function send(
  session: CudaSession,
  { description, layout, kernel, qdata, groups, groupSize }: Upload,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<CudaWeight> {
  const { native, info } = session;
  const begun = await session.inOrder(() =>
    native.beginUpload(info.handle, description, layout === 'native', kernel === 'baseline'),
  );
  const { handle, n, k, nGroups, sizeBytes } = begun;
  const weight = new CudaWeight(session, handle, layout, n, k, begun.groupSize, nGroups, sizeBytes);
  try {
    for (const [from, to] of pieces(qdata.length, PIECE_BYTES)) {
      await session.call(() => native.appendQdata(handle, qdata.subarray(from, to)));
      onProgress(to, sizeBytes);
    }
    for (const [from, to] of pieces(groups.scale.length, PIECE_BYTES / 4)) {
      await session.call(() => appendGroups(native, handle, groups, groupSize, from, to));
      const doneBytes = qdata.length + ((sizeBytes - qdata.length) * to) / groups.scale.length;
      onProgress(Math.floor(doneBytes), sizeBytes);
    }
    await session.call(() => native.finishUpload(handle));
    return weight;
  } catch (error) {
    weight.dispose();
    throw error;
  }
}

/** Pieces begin and end with whole steps: both are powers of two. */
function appendGroups(
  native: NativeAddon,
  handle: NativeWeight,
  groups: Groups,
  groupSize: number,
  from: number,
  to: number,
): Promise<void> {
  if (groups.steps === null) {
    return native.appendScales(handle, groups.scale.subarray(from, to), groups.second.subarray(from, to));
  }
  const perStep = groupsPerStep({ groupSize });
  const [first, last] = [from / perStep, to / perStep];
  return native.appendNestedScales(
    handle,
    groups.scale.subarray(from, to),
    groups.second.subarray(from, to),
    groups.steps.scale.subarray(first, last),
    groups.steps.second.subarray(first, last),
  );
}

function describe({ dtype, shape, data }: Operand<'u8' | 'bf16' | 'f16', Uint8Array | Uint16Array>): NativeOperand {
  return { dtype, shape, sizeBytes: data.byteLength };
}

/** What the native border checks of parts. */
export function describeParts(parts: CoalescedInt4Parts): NativeWeightDescription {
  const { layout, groupSize } = parts;
  const base = { layout, groupSize, qdata: describe(parts.qdata), scale: describe(parts.scale) };
  switch (parts.form) {
    case 'offset':
      return { ...base, form: parts.form, center: parts.center, offset: describe(parts.offset) };
    case 'nested-zero':
      return {
        ...base,
        form: parts.form,
        scaleStep: describe(parts.scaleStep),
        zeroPoint: describe(parts.zeroPoint),
        zeroPointStep: describe(parts.zeroPointStep),
      };
    case 'nested-offset':
      return {
        ...base,
        form: parts.form,
        center: parts.center,
        scaleStep: describe(parts.scaleStep),
        offset: describe(parts.offset),
        offsetStep: describe(parts.offsetStep),
      };
    default:
      return { ...base, form: 'zero', zeroPoint: describe(parts.zeroPoint) };
  }
}

function* pieces(length: number, pieceLength: number): Generator<readonly [from: number, to: number]> {
  for (let from = 0; from < length; from += pieceLength) yield [from, Math.min(from + pieceLength, length)];
}

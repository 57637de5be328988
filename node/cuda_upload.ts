// Sending a packed weight to a CUDA device in pieces, so that the event loop never waits for gigabytes to be copied.

import type { DeviceWeight } from '../core/backend.js';
import { type CoalescedInt4Tensor, requireCoalesced } from '../core/coalesced_int4_tensor.js';
import { type DefaultParts, defaultParts } from '../core/coalesced_parts.js';
import type { Int4Parts, ScaleLayout } from '../core/validate.js';
import type { NativeWeight, NativeWeightDescription } from './cuda_addon.js';
import { CudaResource, type CudaSession } from './cuda_session.js';

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

/** What the native side takes of a weight. @throws SamebitsError LAYOUT_WRONG_TYPE, FORM_UNSUPPORTED */
export function cudaParts(weight: CoalescedInt4Tensor): DefaultParts {
  return defaultParts(requireCoalesced(weight), 'the cuda backend');
}

/** Which kernel a weight is uploaded for: ours, or the benchmark's baseline. */
export type WeightKernel = 'ours' | 'baseline';

/** Uploads parts whose tag is `layout`; the native side validates all of them again. A failure frees what was taken. */
export async function uploadWeight(
  session: CudaSession,
  parts: Int4Parts & { readonly layout: string },
  layout: ScaleLayout,
  kernel: WeightKernel,
  onProgress: (doneBytes: number, totalBytes: number) => void,
): Promise<CudaWeight> {
  const { native, info } = session;
  const qdata = parts.qdata.data;
  const scale = parts.scale.data;
  const zeroPoint = parts.zeroPoint.data;
  const description = descriptionOf(parts);
  const begun = await session.inOrder(() =>
    native.beginUpload(info.handle, description, layout === 'native', kernel === 'baseline'),
  );
  const { handle, n, k, groupSize, nGroups, sizeBytes } = begun;
  const weight = new CudaWeight(session, handle, layout, n, k, groupSize, nGroups, sizeBytes);
  try {
    for (const [from, to] of pieces(qdata.length, PIECE_BYTES)) {
      await session.call(() => native.appendQdata(handle, qdata.subarray(from, to)));
      onProgress(to, sizeBytes);
    }
    for (const [from, to] of pieces(scale.length, PIECE_BYTES / 4)) {
      await session.call(() => native.appendScales(handle, scale.subarray(from, to), zeroPoint.subarray(from, to)));
      onProgress(qdata.length + to * 4, sizeBytes);
    }
    await session.call(() => native.finishUpload(handle));
    return weight;
  } catch (error) {
    weight.dispose();
    throw error;
  }
}

function descriptionOf(parts: Int4Parts & { readonly layout: string }): NativeWeightDescription {
  const operand = ({ dtype, shape, data }: Int4Parts['qdata'] | Int4Parts['scale']) => ({
    dtype,
    shape,
    sizeBytes: data.byteLength,
  });
  return {
    layout: parts.layout,
    groupSize: parts.groupSize,
    qdata: operand(parts.qdata),
    scale: operand(parts.scale),
    zeroPoint: operand(parts.zeroPoint),
  };
}

function* pieces(length: number, pieceLength: number): Generator<readonly [from: number, to: number]> {
  for (let from = 0; from < length; from += pieceLength) yield [from, Math.min(from + pieceLength, length)];
}

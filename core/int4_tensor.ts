// Int4Tensor: the interchange contract of torchao and ExecuTorch checkpoints. Kernels never read it.

import { type Int4Parts, validateParts } from './validate.js';

/**
 * A 4-bit weight as checkpoints hold it: `w[n, k] = (q[n, k] - zeroPoint[g, n]) * scale[g, n]`, g = floor(k / groupSize),
 * q unsigned 0..15. Holds views of the arrays it was given; do not write to them afterwards.
 */
export class Int4Tensor {
  readonly layout = 'native';
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly nGroups: number;
  /** u8[N, K/2]; even k in the low nibble. */
  readonly qdata: Uint8Array;
  /** bf16[nGroups, N] bit patterns. */
  readonly scale: Uint16Array;
  /** bf16[nGroups, N] bit patterns. */
  readonly zeroPoint: Uint16Array;
  // Makes the type nominal: no structurally equal object, and no CoalescedInt4Tensor, is an Int4Tensor.
  readonly #nativeLayout = true;

  /** @throws SamebitsError for the first rule that `parts` breaks */
  constructor(parts: Int4Parts) {
    const { n, k, groupSize, nGroups } = validateParts(parts, 'native');
    this.n = n;
    this.k = k;
    this.groupSize = groupSize;
    this.nGroups = nGroups;
    this.qdata = parts.qdata.data;
    this.scale = parts.scale.data;
    this.zeroPoint = parts.zeroPoint.data;
  }

  /** Whether `value` was made by this class's constructor; a look-alike is refused. */
  static is(value: unknown): value is Int4Tensor {
    return typeof value === 'object' && value !== null && #nativeLayout in value;
  }

  /** The arrays with their dtypes and shapes, as the constructor takes them. */
  parts(): Int4Parts {
    const shape = [this.nGroups, this.n];
    return {
      qdata: { dtype: 'u8', shape: [this.n, this.k / 2], data: this.qdata },
      scale: { dtype: 'bf16', shape, data: this.scale },
      zeroPoint: { dtype: 'bf16', shape, data: this.zeroPoint },
      groupSize: this.groupSize,
    };
  }
}

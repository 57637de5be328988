// The shape in which a 4-bit weight of another format is packed.

import { DEFAULT_FORM } from '../forms.js';
import { weightShape } from '../limits.js';
import type { PackedShape } from './packed_parts.js';
import { inTensor } from './tensor_error.js';

/** A weight as its source has it; any group size that divides K. */
export interface UnpackedShape {
  readonly name: string;
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
}

/**
 * A group size that is no power of two is split into the largest one that divides it, which changes nothing: the parts share
 * scale and zero point.
 * @throws SamebitsError N_, K_, GROUP_SIZE_UNSUPPORTED, naming the weight
 */
export function packedShape({ name, n, k, groupSize }: UnpackedShape): PackedShape {
  try {
    const isWhole = Number.isInteger(groupSize) && groupSize > 0 && k % groupSize === 0;
    return { ...weightShape(n, k, isWhole ? groupSize & -groupSize : groupSize), form: DEFAULT_FORM };
  } catch (error) {
    throw inTensor(name, error);
  }
}

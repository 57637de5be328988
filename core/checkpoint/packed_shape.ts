// The shape in which a 4-bit weight of another format is packed.

import { checkFormShape } from '../coalesced_parts.js';
import { DEFAULT_FORM, type WeightForm } from '../forms.js';
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
export function packedShape({ name, n, k, groupSize }: UnpackedShape, form: WeightForm = DEFAULT_FORM): PackedShape {
  try {
    const isWhole = Number.isInteger(groupSize) && groupSize > 0 && k % groupSize === 0;
    const shape = weightShape(n, k, isWhole ? groupSize & -groupSize : groupSize);
    checkFormShape(form, shape);
    return { ...shape, form };
  } catch (error) {
    throw inTensor(name, error);
  }
}

// What packs a weight that has 4 bits in its source, whatever the form.

import type { PackedRows } from './samebits_writer.js';
import type { WeightChange } from './weight_change.js';

/** Packs one weight, once. */
export interface Packer {
  /**
   * All rows, in order; some of them are good until the next come.
   * @throws SamebitsError SCALE_NOT_FINITE, ZERO_POINT_NOT_FINITE, OFFSET_NOT_FINITE, ZERO_POINT_OUT_OF_RANGE,
   * WEIGHT_EXPONENT_OUT_OF_RANGE, naming the weight; what the source throws
   */
  rows(): AsyncGenerator<PackedRows & { readonly readBytes: number }>;
  /** Of all rows, once they came. */
  readonly change: WeightChange;
}

/** Every value `times` times in a row: groups of a size that is no power of two are split into equal ones. */
export function repeatEach(values: Uint16Array, times: number): Uint16Array {
  if (times === 1) return values;
  const out = new Uint16Array(values.length * times);
  for (let i = 0; i < values.length; i++) out.fill(values[i]!, i * times, (i + 1) * times);
  return out;
}

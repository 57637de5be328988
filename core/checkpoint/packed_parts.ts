// The tensors that a packed weight is in a file: their names, dtypes and shapes follow from its form.

import { type Groups, hasOffset, isNested, STEP_SIZE, type WeightForm } from '../forms.js';
import type { WeightShape } from '../limits.js';
import { u16View } from './views.js';

/** The shape of a packed weight, and what its codes stand for. */
export interface PackedShape extends WeightShape {
  readonly form: WeightForm;
}

/** One of the tensors; its name is the weight's and the suffix. */
export interface PackedPart {
  readonly suffix: string;
  readonly dtype: 'U8' | 'BF16' | 'F16';
  /** Elements of a row; every part has N rows. */
  readonly columns: number;
  /** For messages: `BF16 [N, K/group_size]`. */
  readonly words: string;
}

/** The packed codes: even k in the low nibble, odd k in the high nibble. */
export const QDATA_SUFFIX = '.qdata';

/** In the order of `packedArrays`. */
export function packedParts({ form, k, nGroups }: PackedShape): readonly PackedPart[] {
  const second = hasOffset(form) ? 'offset' : 'zero_point';
  const half = form.dtype === 'f16' ? 'F16' : 'BF16';
  const part = (suffix: string, dtype: PackedPart['dtype'], columns: number, span: string): PackedPart => ({
    suffix,
    dtype,
    columns,
    words: `${dtype} [N, K/${span}]`,
  });
  const ofGroups = isNested(form) ? 'U8' : half;
  const parts = [
    part(QDATA_SUFFIX, 'U8', k / 2, '2'),
    part('.scale', ofGroups, nGroups, 'group_size'),
    part(`.${second}`, ofGroups, nGroups, 'group_size'),
  ];
  if (!isNested(form)) return parts;
  const step = (name: string) => part(`.${name}_step`, 'F16', k / STEP_SIZE, String(STEP_SIZE));
  return [...parts, step('scale'), step(second)];
}

/** The arrays of a packed weight, or of some of its rows. */
export function packedArrays(qdata: Uint8Array, groups: Groups): readonly (Uint8Array | Uint16Array)[] {
  const { scale, second, steps } = groups;
  return [qdata, scale, second, ...(steps ? [steps.scale, steps.second] : [])];
}

/** The same arrays from the bytes of the tensors. */
export function arraysOf(
  form: WeightForm,
  [qdata, scale, second, scaleStep, secondStep]: readonly Uint8Array<ArrayBuffer>[],
): { readonly qdata: Uint8Array; readonly groups: Groups } {
  const nested = isNested(form);
  const groups: Groups = nested
    ? { scale: scale!, second: second!, steps: { scale: u16View(scaleStep!), second: u16View(secondStep!) } }
    : { scale: u16View(scale!), second: u16View(second!), steps: null };
  return { qdata: qdata!, groups };
}

/** Bytes of all the tensors. */
export function packedSizeBytes(shape: PackedShape): number {
  const bytesOf = ({ dtype, columns }: PackedPart) => shape.n * columns * (dtype === 'U8' ? 1 : 2);
  return packedParts(shape).reduce((sum, part) => sum + bytesOf(part), 0);
}

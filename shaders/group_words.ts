// What int4_plain_mm reads of a weight's groups beside its codes, as words: the layouts that its header names.

import { DEFAULT_FORM, type Groups, groupsPerStep, isNested, STEP_SIZE, type WeightForm } from '../core/forms.js';
import type { Int4Tensor } from '../core/int4_tensor.js';
import type { WeightShape } from '../core/limits.js';
import type { ScaleLayout } from '../core/validate.js';

/** The arrays of a validated weight; only the default form has the native layout. */
export interface WeightData extends WeightShape {
  readonly layout: ScaleLayout;
  readonly form: WeightForm;
  readonly qdata: Uint8Array;
  readonly groups: Groups;
}

export function nativeData({ n, k, groupSize, nGroups, layout, qdata, scale, zeroPoint }: Int4Tensor): WeightData {
  const groups = { scale, second: zeroPoint, steps: null };
  return { n, k, groupSize, nGroups, layout, form: DEFAULT_FORM, qdata, groups };
}

/** Rows nFirst .. nFirst + n - 1 of a weight. */
interface Rows {
  readonly nFirst: number;
  readonly n: number;
}

/** Words of a row. */
export function groupWordsPerRow(shape: WeightShape & { readonly form: WeightForm }): number {
  return isNested(shape.form) ? (shape.k / STEP_SIZE) * stepWords(shape) : shape.nGroups;
}

/** Words of what shares a step: the steps, and two groups a word. */
export function stepWords(shape: Pick<WeightShape, 'groupSize'>): number {
  return 1 + Math.ceil(groupsPerStep(shape) / 2);
}

/** Words first .. end of those of some rows. */
export function groupWords(
  weight: WeightData,
  weightExponent: number,
  rows: Rows,
  first: number,
  end: number,
): Uint32Array<ArrayBuffer> {
  const wordAt = wordReader(weight, weightExponent, rows);
  const words = new Uint32Array(end - first);
  for (let i = first; i < end; i++) words[i - first] = wordAt(i);
  return words;
}

function wordReader(weight: WeightData, weightExponent: number, { nFirst, n }: Rows): (i: number) => number {
  const { form, groups, nGroups } = weight;
  const { scale, second, steps } = groups;
  if (steps) {
    const perStep = groupsPerStep(weight);
    const words = stepWords(weight);
    const firstStep = (nFirst * weight.k) / STEP_SIZE;
    const codesAt = (group: number) => scale[group]! | (second[group]! << 8);
    return (i) => {
      const step = firstStep + Math.floor(i / words);
      const word = i % words;
      if (word === 0) return steps.scale[step]! | (steps.second[step]! << 16);
      const group = step * perStep + 2 * (word - 1);
      return perStep === 1 ? codesAt(group) : codesAt(group) | (codesAt(group + 1) << 16);
    };
  }
  if (form.dtype === 'f16') {
    const first = nFirst * nGroups;
    return (i) => scale[first + i]! | (second[first + i]! << 16);
  }
  const secondExponent = form.kind === 'offset' ? -weightExponent : 0;
  const wordOf = (group: number) =>
    scaled(scale[group]!, -weightExponent) | (scaled(second[group]!, secondExponent) << 16);
  return weight.layout === 'coalesced'
    ? (i) => wordOf(nFirst * nGroups + i)
    : (i) => wordOf(Math.floor(i / n) * weight.n + nFirst + (i % n));
}

/**
 * bf16 bits times 2^exponent; subnormals, before or after, as zeros: the kernel need not look. Nothing grows to infinity, since
 * scales and offsets are less than 2^E_w.
 */
function scaled(bits: number, exponent: number): number {
  const biased = (bits >> 7) & 0xff;
  return biased === 0 || biased + exponent < 1 ? bits & 0x8000 : bits + exponent * 0x80;
}

// The forms of a packed weight: what it keeps of every group beside the codes, and what weight a code then stands for.

import { kindOf } from './argument_checks.js';
import { flushedNumberFromBf16 } from './bf16.js';
import { SamebitsError } from './errors.js';
import { numberFromF16 } from './f16.js';
import type { WeightShape } from './limits.js';

/**
 * What a code q stands for.
 *
 * - `zero`: `(q - zeroPoint) * scale`
 * - `offset`: `(q - center) * scale + offset`
 * - `nested-zero`, `nested-offset`: the same, but scale and zero point or offset are themselves codes, u8 of every group,
 *   times a step, f16 of every 256 weights of a row.
 */
export type FormKind = 'zero' | 'offset' | 'nested-zero' | 'nested-offset';

/** bf16, whose subnormals count as 0; or f16, whose subnormals are values. */
export type HalfDtype = 'bf16' | 'f16';

/** A form with what else a reader of its arrays must know. */
export interface WeightForm {
  readonly kind: FormKind;
  /** Of scale and zero point or offset; of the steps of a nested form, f16. */
  readonly dtype: HalfDtype;
  /** Of a form with an offset; 0 of one with a zero point. */
  readonly center: 0 | 8;
}

/** Weights of a row that share the steps of a nested form. */
export const STEP_SIZE = 256;

/** What ExecuTorch packs, and what `quantizeInt4` makes. */
export const DEFAULT_FORM: WeightForm = { kind: 'zero', dtype: 'bf16', center: 0 };

/** `second` is the zero point or the offset of a group, whichever the form has. */
export interface PlainGroups {
  /** bf16 or f16 [N, nGroups], bit patterns. */
  readonly scale: Uint16Array;
  /** bf16 or f16 [N, nGroups], bit patterns. */
  readonly second: Uint16Array;
  readonly steps: null;
}

export interface NestedGroups {
  /** u8[N, nGroups] */
  readonly scale: Uint8Array;
  /** u8[N, nGroups] */
  readonly second: Uint8Array;
  /** f16[N, K/256] each, bit patterns. */
  readonly steps: { readonly scale: Uint16Array; readonly second: Uint16Array };
}

/** The arrays of all groups of a weight, one row's after the other. */
export type Groups = PlainGroups | NestedGroups;

export const hasOffset = ({ kind }: WeightForm): boolean => kind === 'offset' || kind === 'nested-offset';
export const isNested = ({ kind }: WeightForm): boolean => kind === 'nested-zero' || kind === 'nested-offset';

/** `zero, bf16`; `offset, f16, codes from 8`; `nested-offset`. */
export function describeForm(form: WeightForm): string {
  const { kind, dtype, center } = form;
  return [kind, ...(isNested(form) ? [] : [dtype]), ...(center === 0 ? [] : [`codes from ${center}`])].join(', ');
}

/** Whether both say the same. */
export function areSameForm(a: WeightForm, b: WeightForm): boolean {
  return a.kind === b.kind && a.dtype === b.dtype && a.center === b.center;
}

/**
 * A form from what its parts or its file say.
 * @throws SamebitsError FORM_UNKNOWN
 */
export function weightForm(kind: unknown, dtype: unknown, center: unknown): WeightForm {
  const isKind = kind === 'zero' || kind === 'offset' || kind === 'nested-zero' || kind === 'nested-offset';
  const isDtype = dtype === 'f16' || dtype === 'bf16';
  const isCenter = center === 0 || center === 8;
  if (isKind && isDtype && isCenter) {
    const form: WeightForm = { kind, dtype, center };
    if ((!isNested(form) || dtype === 'f16') && (hasOffset(form) || center === 0)) return form;
  }
  throw new SamebitsError('FORM_UNKNOWN', {
    rule: 'the form of a packed weight must be a known one',
    expected:
      "'zero' or 'offset' of bf16 or f16, 'nested-zero' or 'nested-offset' of f16; a center of 0, or 8 with an offset",
    got: `${kindOf(kind)} of ${kindOf(dtype)}, center ${kindOf(center)}`,
    fix: 'Leave the form out for a zero point and a scale; update samebits if a file names another.',
  });
}

/** How many groups share a step; 1 where nothing is nested. */
export function groupsPerStep({ groupSize }: Pick<WeightShape, 'groupSize'>): number {
  return Math.max(1, STEP_SIZE / groupSize);
}

/** The numbers that groups stand for, exactly. Indices are those of the arrays: row * nGroups + group. */
export class GroupNumbers {
  readonly #decode: (bits: number) => number;
  readonly #perStep: number;

  constructor(
    readonly form: WeightForm,
    readonly groups: Groups,
    shape: Pick<WeightShape, 'groupSize'>,
  ) {
    this.#decode = form.dtype === 'f16' ? numberFromF16 : flushedNumberFromBf16;
    this.#perStep = groupsPerStep(shape);
  }

  /** What the scale of a group is a multiple of: its step, or where nothing is nested the scale itself. */
  scaleStep(group: number): number {
    const { scale, steps } = this.groups;
    return this.#decode(steps ? steps.scale[Math.floor(group / this.#perStep)]! : scale[group]!);
  }

  secondStep(group: number): number {
    const { second, steps } = this.groups;
    return this.#decode(steps ? steps.second[Math.floor(group / this.#perStep)]! : second[group]!);
  }

  /** How many steps the scale of a group is. */
  scaleCode(group: number): number {
    return this.groups.steps ? this.groups.scale[group]! : 1;
  }

  secondCode(group: number): number {
    return this.groups.steps ? this.groups.second[group]! : 1;
  }

  /** At most 19 significant bits. */
  scale(group: number): number {
    return this.scaleCode(group) * this.scaleStep(group);
  }

  /** The zero point or the offset, at most 19 significant bits. */
  second(group: number): number {
    return this.secondCode(group) * this.secondStep(group);
  }
}

/** The bits that Inf and NaN of a type have all set. */
export const EXPONENT_BITS: Readonly<Record<HalfDtype, number>> = { bf16: 0x7f80, f16: 0x7c00 };

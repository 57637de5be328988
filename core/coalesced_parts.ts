// The operands of a CoalescedInt4Tensor by the names that its form has for them, and those names' meaning.

import { SamebitsError } from './errors.js';
import {
  DEFAULT_FORM,
  describeForm,
  type Groups,
  type HalfDtype,
  hasOffset,
  isNested,
  STEP_SIZE,
  type WeightForm,
  weightForm,
} from './forms.js';
import type { WeightShape } from './limits.js';
import type { GroupOperand, Int4Parts, Operand } from './validate.js';

/** The layout tag of coalesced operands, in files and at the native border. */
export const COALESCED_LAYOUT = 'coalesced-int4';

type Halves = Operand<HalfDtype, Uint16Array>;
type Codes = Operand<'u8', Uint8Array>;
type Steps = Operand<'f16', Uint16Array>;

/** `w = (q - zeroPoint) * scale`; both [N, nGroups] and of one type. */
export interface ZeroParts {
  readonly form?: 'zero';
  readonly scale: Halves;
  readonly zeroPoint: Halves;
}

/** `w = (q - center) * scale + offset`; both [N, nGroups] and of one type. */
export interface OffsetParts {
  readonly form: 'offset';
  readonly center: 0 | 8;
  readonly scale: Halves;
  readonly offset: Halves;
}

/** As `zero`, scale and zero point being codes [N, nGroups] times steps [N, K/256]. */
export interface NestedZeroParts {
  readonly form: 'nested-zero';
  readonly scale: Codes;
  readonly scaleStep: Steps;
  readonly zeroPoint: Codes;
  readonly zeroPointStep: Steps;
}

/** As `offset`, scale and offset being codes [N, nGroups] times steps [N, K/256]. */
export interface NestedOffsetParts {
  readonly form: 'nested-offset';
  readonly center: 0 | 8;
  readonly scale: Codes;
  readonly scaleStep: Steps;
  readonly offset: Codes;
  readonly offsetStep: Steps;
}

export type FormParts = ZeroParts | OffsetParts | NestedZeroParts | NestedOffsetParts;

/** Operands that say which layout they claim to be in; a square scale could not tell. */
export type CoalescedInt4Parts = {
  readonly layout: typeof COALESCED_LAYOUT;
  /** u8[N, K/2]; even k in the low nibble, odd k in the high nibble. */
  readonly qdata: Codes;
  readonly groupSize: number;
} & FormParts;

/** What `partsOf` puts back together. */
interface CoalescedArrays extends WeightShape {
  readonly form: WeightForm;
  readonly qdata: Uint8Array;
  readonly groups: Groups;
}

/**
 * The form of parts that were not checked yet.
 * @throws SamebitsError FORM_UNKNOWN; K_UNSUPPORTED, GROUP_SIZE_UNSUPPORTED for a shape that a nested form cannot have
 */
export function partsForm(parts: CoalescedInt4Parts, shape: WeightShape): WeightForm {
  const kind = parts.form ?? 'zero';
  const dtype = kind === 'nested-zero' || kind === 'nested-offset' || parts.scale?.dtype === 'f16' ? 'f16' : 'bf16';
  const form = weightForm(kind, dtype, 'center' in parts ? parts.center : 0);
  checkFormShape(form, shape);
  return form;
}

/** @throws SamebitsError K_UNSUPPORTED, GROUP_SIZE_UNSUPPORTED */
export function checkFormShape(form: WeightForm, { k, groupSize }: WeightShape): void {
  if (!isNested(form)) return;
  if (k % STEP_SIZE !== 0) {
    throw new SamebitsError('K_UNSUPPORTED', {
      rule: 'K of a nested form must be whole steps',
      expected: `a multiple of ${STEP_SIZE}`,
      got: String(k),
      fix: 'Pack this weight with scales of their own.',
    });
  }
  if (groupSize > STEP_SIZE) {
    throw new SamebitsError('GROUP_SIZE_UNSUPPORTED', {
      rule: 'a step of a nested form is shared by whole groups',
      expected: `a groupSize of at most ${STEP_SIZE}`,
      got: String(groupSize),
      fix: 'Pack this weight with scales of their own.',
    });
  }
}

/** The operands of all groups, as they must be checked. */
export function groupOperands(
  parts: CoalescedInt4Parts,
  { dtype }: WeightForm,
  { groupSize }: WeightShape,
): readonly GroupOperand[] {
  const ofGroup = (name: string, operand: GroupOperand['operand'], type: 'u8' | HalfDtype): GroupOperand => ({
    name,
    operand,
    dtype: type,
    span: groupSize,
  });
  const ofStep = (name: string, operand: Steps): GroupOperand => ({ name, operand, dtype: 'f16', span: STEP_SIZE });
  switch (parts.form) {
    case 'offset':
      return [ofGroup('scale', parts.scale, dtype), ofGroup('offset', parts.offset, dtype)];
    case 'nested-zero':
      return [
        ofGroup('scale', parts.scale, 'u8'),
        ofStep('scaleStep', parts.scaleStep),
        ofGroup('zeroPoint', parts.zeroPoint, 'u8'),
        ofStep('zeroPointStep', parts.zeroPointStep),
      ];
    case 'nested-offset':
      return [
        ofGroup('scale', parts.scale, 'u8'),
        ofStep('scaleStep', parts.scaleStep),
        ofGroup('offset', parts.offset, 'u8'),
        ofStep('offsetStep', parts.offsetStep),
      ];
    default:
      return [ofGroup('scale', parts.scale, dtype), ofGroup('zeroPoint', parts.zeroPoint, dtype)];
  }
}

/** The arrays of parts that were checked. */
export function groupsOf(parts: CoalescedInt4Parts): Groups {
  switch (parts.form) {
    case 'offset':
      return { scale: parts.scale.data, second: parts.offset.data, steps: null };
    case 'nested-zero':
      return {
        scale: parts.scale.data,
        second: parts.zeroPoint.data,
        steps: { scale: parts.scaleStep.data, second: parts.zeroPointStep.data },
      };
    case 'nested-offset':
      return {
        scale: parts.scale.data,
        second: parts.offset.data,
        steps: { scale: parts.scaleStep.data, second: parts.offsetStep.data },
      };
    default:
      return { scale: parts.scale.data, second: parts.zeroPoint.data, steps: null };
  }
}

/** The parts that arrays came from, or would. */
export function partsOf({ n, k, groupSize, nGroups, form, qdata, groups }: CoalescedArrays): CoalescedInt4Parts {
  const base = {
    layout: COALESCED_LAYOUT,
    qdata: { dtype: 'u8', shape: [n, k / 2], data: qdata },
    groupSize,
  } as const;
  const { center } = form;
  if (groups.steps === null) {
    const half = (data: Uint16Array): Halves => ({ dtype: form.dtype, shape: [n, nGroups], data });
    const [scale, second] = [half(groups.scale), half(groups.second)];
    return hasOffset(form)
      ? { ...base, form: 'offset', center, scale, offset: second }
      : { ...base, form: 'zero', scale, zeroPoint: second };
  }
  const codes = (data: Uint8Array): Codes => ({ dtype: 'u8', shape: [n, nGroups], data });
  const step = (data: Uint16Array): Steps => ({ dtype: 'f16', shape: [n, k / STEP_SIZE], data });
  const [scale, second] = [codes(groups.scale), codes(groups.second)];
  const [scaleStep, secondStep] = [step(groups.steps.scale), step(groups.steps.second)];
  return hasOffset(form)
    ? { ...base, form: 'nested-offset', center, scale, scaleStep, offset: second, offsetStep: secondStep }
    : { ...base, form: 'nested-zero', scale, scaleStep, zeroPoint: second, zeroPointStep: secondStep };
}

/** What a weight with a zero point in bf16 is made of. */
export type DefaultParts = Int4Parts & { readonly layout: typeof COALESCED_LAYOUT };

/**
 * The parts of a weight with a zero point in bf16, for those who take no other form.
 * @throws SamebitsError FORM_UNSUPPORTED, naming `taker`
 */
export function defaultParts(weight: CoalescedArrays, taker: string): DefaultParts {
  const parts = partsOf(weight);
  if ((parts.form ?? 'zero') === 'zero' && 'zeroPoint' in parts && isBf16(parts.scale) && isBf16(parts.zeroPoint)) {
    const { layout, qdata, scale, zeroPoint, groupSize } = parts;
    return { layout, qdata, scale, zeroPoint, groupSize };
  }
  throw new SamebitsError('FORM_UNSUPPORTED', {
    rule: `${taker} takes weights with a scale and a zero point in bf16`,
    expected: describeForm(DEFAULT_FORM),
    got: describeForm(weight.form),
    fix: 'Convert the source again without --exact.',
  });
}

function isBf16(operand: Halves | Codes): operand is Operand<'bf16', Uint16Array> {
  return operand.dtype === 'bf16';
}

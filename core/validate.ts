// What must hold of a packed weight's operands, in either layout and any form. Shared by the constructors and every upload.

import { kindOf } from './argument_checks.js';
import { SamebitsError } from './errors.js';
import {
  DEFAULT_FORM,
  EXPONENT_BITS,
  GroupNumbers,
  type Groups,
  type HalfDtype,
  hasOffset,
  STEP_SIZE,
  type WeightForm,
} from './forms.js';
import { MAX_ZERO_POINT, type WeightShape, weightShape } from './limits.js';

type OperandDtype = 'u8' | HalfDtype;

/** One array with the dtype and the row-major shape that its producer declares for it. */
export interface Operand<Dtype extends OperandDtype, Data> {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: Data;
}

/** The operands of a packed weight in bf16, with a zero point. The shape of scale and zeroPoint depends on the layout. */
export interface Int4Parts {
  /** u8[N, K/2]; even k in the low nibble, odd k in the high nibble. */
  readonly qdata: Operand<'u8', Uint8Array>;
  /** bf16 bits: [N, nGroups] when coalesced, [nGroups, N] when native. */
  readonly scale: Operand<'bf16', Uint16Array>;
  /** bf16 bits, shaped as scale. */
  readonly zeroPoint: Operand<'bf16', Uint16Array>;
  readonly groupSize: number;
}

/** Where scale and zeroPoint keep a row's groups: `coalesced` [N, nGroups], `native` [nGroups, N] (torchao). */
export type ScaleLayout = 'coalesced' | 'native';

/** An array of a form, as a message calls it. */
export interface GroupOperand {
  readonly name: string;
  readonly operand: Operand<OperandDtype, Uint8Array | Uint16Array>;
  readonly dtype: OperandDtype;
  /** One value for every so many weights of a row: the group size, or 256 of a step. */
  readonly span: number;
}

const REPACK = "Repack with CoalescedInt4Tensor.fromInt4Tensor or 'samebits convert'.";

/**
 * Checks dtypes, ranks, shapes, byte lengths and values of a packed weight with a zero point in bf16.
 * @throws SamebitsError naming the operand and the rule that it breaks
 */
export function validateParts(parts: Int4Parts, layout: ScaleLayout): WeightShape {
  const shape = codesShape(parts);
  for (const name of ['scale', 'zeroPoint'] as const) {
    checkGroupOperand({ name, operand: parts[name], dtype: 'bf16', span: shape.groupSize }, shape, layout);
  }
  checkScaleValues(DEFAULT_FORM, shape, { scale: parts.scale.data, second: parts.zeroPoint.data, steps: null });
  return shape;
}

/**
 * N, K and groupSize, from the codes.
 * @throws SamebitsError DTYPE_MISMATCH, SHAPE_MISMATCH, BYTE_LENGTH_MISMATCH; N_, K_, GROUP_SIZE_UNSUPPORTED
 */
export function codesShape(parts: Pick<Int4Parts, 'qdata' | 'groupSize'>): WeightShape {
  checkOperand('qdata', parts?.qdata, 'u8');
  const [n, kHalf] = parts.qdata.shape as readonly [number, number];
  const shape = weightShape(n, kHalf * 2, parts.groupSize);
  checkByteLength('qdata', parts.qdata.data, [n, kHalf]);
  return shape;
}

/** @throws SamebitsError DTYPE_MISMATCH, LAYOUT_NATIVE_SCALE, SHAPE_MISMATCH, BYTE_LENGTH_MISMATCH */
export function checkGroupOperand(
  { name, operand, dtype, span }: GroupOperand,
  shape: WeightShape,
  layout: ScaleLayout,
): void {
  checkOperand(name, operand, dtype);
  checkScaleShape(name, operand, shape.n, shape.k / span, span === STEP_SIZE ? '256' : 'groupSize', layout);
  checkByteLength(name, operand.data, operand.shape);
}

function checkOperand(
  name: string,
  operand: Operand<OperandDtype, Uint8Array | Uint16Array>,
  dtype: OperandDtype,
): void {
  const arrayType = dtype === 'u8' ? Uint8Array : Uint16Array;
  if (operand?.dtype !== dtype || !(operand.data instanceof arrayType)) {
    throw new SamebitsError('DTYPE_MISMATCH', {
      rule: `${name} must be ${dtype}`,
      expected: `dtype '${dtype}' in a ${arrayType.name}`,
      got: `dtype '${String(operand?.dtype)}' in ${kindOf(operand?.data)}`,
      fix: FIXES[dtype],
    });
  }
  const { shape } = operand;
  if (!Array.isArray(shape) || shape.length !== 2 || !shape.every((d) => typeof d === 'number')) {
    throw new SamebitsError('SHAPE_MISMATCH', {
      rule: `${name} must be a matrix`,
      expected: 'a shape of two numbers',
      got: Array.isArray(shape) ? `[${shape.map(kindOf)}]` : kindOf(shape),
      fix: 'Pack each expert or batch entry as a weight of its own.',
    });
  }
}

const FIXES: Readonly<Record<OperandDtype, string>> = {
  u8: 'Pass packed codes.',
  bf16: 'Pass bf16 bit patterns; bf16FromF32Array rounds f32 values.',
  f16: 'Pass f16 bit patterns; scale and zero point or offset have one type.',
};

function checkScaleShape(
  name: string,
  { dtype, shape: got }: Operand<OperandDtype, unknown>,
  n: number,
  columns: number,
  span: string,
  layout: ScaleLayout,
): void {
  const coalesced = [n, columns];
  const native = [columns, n];
  const expected = layout === 'coalesced' ? coalesced : native;
  if (sameShape(got, expected)) return;
  const rule = `${name} must be ${dtype}${layout === 'coalesced' ? `[N, K/${span}]` : `[K/${span}, N]`}`;
  if (layout === 'coalesced' && sameShape(got, native)) {
    throw new SamebitsError('LAYOUT_NATIVE_SCALE', {
      rule,
      expected: `[${expected}]`,
      got: `[${got}], torchao's native layout`,
      fix: REPACK,
    });
  }
  throw new SamebitsError('SHAPE_MISMATCH', {
    rule,
    expected: `[${expected}]`,
    got: `[${got}]`,
    fix: 'Check groupSize and the order of the dimensions.',
  });
}

function checkByteLength(name: string, data: Uint8Array | Uint16Array, shape: readonly number[]): void {
  const expected = shape.reduce((product, d) => product * d, data.BYTES_PER_ELEMENT);
  if (data.byteLength === expected) return;
  throw new SamebitsError('BYTE_LENGTH_MISMATCH', {
    rule: `${name} must hold exactly its shape [${shape}]`,
    expected: `${expected} bytes`,
    got: `${data.byteLength} bytes`,
    fix: 'Pass a view of exactly this tensor; the array may be truncated, detached or a view of a larger buffer.',
  });
}

/**
 * Scales and zero points or offsets must be finite, and zero points not too large.
 * @throws SamebitsError SCALE_NOT_FINITE, ZERO_POINT_NOT_FINITE, OFFSET_NOT_FINITE, ZERO_POINT_OUT_OF_RANGE
 */
export function checkScaleValues(form: WeightForm, shape: Pick<WeightShape, 'groupSize'>, groups: Groups): void {
  const name = hasOffset(form) ? 'offset' : 'zeroPoint';
  const { scale, second } = groups.steps ?? groups;
  requireFinite(form.dtype, scale, 'SCALE_NOT_FINITE', groups.steps ? 'scaleStep' : 'scale');
  const code = hasOffset(form) ? 'OFFSET_NOT_FINITE' : 'ZERO_POINT_NOT_FINITE';
  requireFinite(form.dtype, second, code, groups.steps ? `${name}Step` : name);
  if (hasOffset(form)) return;
  const numbers = new GroupNumbers(form, groups, shape);
  const isNear = groups.steps
    ? (i: number) => Math.abs(numbers.second(i)) <= MAX_ZERO_POINT
    : (i: number) => (groups.second[i]! & 0x7fff) <= MAX_ZERO_BITS[form.dtype];
  for (let i = 0; i < groups.second.length; i++) {
    if (isNear(i)) continue;
    throw new SamebitsError('ZERO_POINT_OUT_OF_RANGE', {
      rule: 'zeroPoint must not exceed 65536 in magnitude',
      expected: `at most ${MAX_ZERO_POINT}`,
      got: `${numbers.second(i)} at element ${i}`,
      fix: 'Requantize this group: such a zero point leaves no precision for its weights.',
    });
  }
}

/** Bits of 65536 in bf16 and of the largest f16: magnitudes compare as integers. */
const MAX_ZERO_BITS: Readonly<Record<HalfDtype, number>> = { bf16: 0x4780, f16: 0x7bff };

function requireFinite(
  dtype: HalfDtype,
  values: Uint8Array | Uint16Array,
  code: 'SCALE_NOT_FINITE' | 'ZERO_POINT_NOT_FINITE' | 'OFFSET_NOT_FINITE',
  name: string,
): void {
  const exponent = EXPONENT_BITS[dtype];
  for (let i = 0; i < values.length; i++) {
    if ((values[i]! & exponent) !== exponent) continue;
    throw new SamebitsError(code, {
      rule: `${name} must be finite`,
      expected: `finite ${dtype} values`,
      got: `bits 0x${values[i]!.toString(16).padStart(4, '0')} at element ${i}`,
      fix: 'The checkpoint is damaged or was quantized from non-finite weights; quantize it again.',
    });
  }
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

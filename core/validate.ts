// What must hold of a packed weight's three operands, in either layout. Shared by the constructors and every upload.

import { kindOf } from './argument_checks.js';
import { flushedNumberFromBf16, isFiniteBf16 } from './bf16.js';
import { SamebitsError } from './errors.js';
import { ceilLog2 } from './exact.js';
import { MAX_WEIGHT_EXPONENT, MAX_ZERO_POINT, type WeightShape, weightShape } from './limits.js';

/** One array with the dtype and the row-major shape that its producer declares for it. */
export interface Operand<Dtype extends 'u8' | 'bf16', Data> {
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly data: Data;
}

/** The operands of a packed weight. The shape of scale and zeroPoint depends on the layout. */
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

const REPACK = "Repack with CoalescedInt4Tensor.fromInt4Tensor or 'samebits convert'.";

/**
 * Checks dtypes, ranks, shapes, byte lengths and values of a packed weight.
 * @throws SamebitsError naming the operand and the rule that it breaks
 */
export function validateParts(parts: Int4Parts, layout: ScaleLayout): WeightShape {
  checkOperand('qdata', parts?.qdata, 'u8', Uint8Array);
  const [n, kHalf] = parts.qdata.shape as readonly [number, number];
  const shape = weightShape(n, kHalf * 2, parts.groupSize);
  checkByteLength('qdata', parts.qdata.data, [n, kHalf]);
  for (const name of ['scale', 'zeroPoint'] as const) {
    const operand = parts[name];
    checkOperand(name, operand, 'bf16', Uint16Array);
    checkScaleShape(name, operand.shape, shape, layout);
    checkByteLength(name, operand.data, operand.shape);
  }
  checkScaleValues(parts.scale.data, parts.zeroPoint.data);
  return shape;
}

function checkOperand<Data extends Uint8Array | Uint16Array>(
  name: string,
  operand: Operand<'u8' | 'bf16', Data>,
  dtype: 'u8' | 'bf16',
  arrayType: Uint8ArrayConstructor | Uint16ArrayConstructor,
): void {
  if (operand?.dtype !== dtype || !(operand.data instanceof arrayType)) {
    throw new SamebitsError('DTYPE_MISMATCH', {
      rule: `${name} must be ${dtype}`,
      expected: `dtype '${dtype}' in a ${arrayType.name}`,
      got: `dtype '${String(operand?.dtype)}' in ${kindOf(operand?.data)}`,
      fix: dtype === 'bf16' ? 'Pass bf16 bit patterns; bf16FromF32Array rounds f32 values.' : 'Pass packed codes.',
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

function checkScaleShape(name: string, got: readonly number[], shape: WeightShape, layout: ScaleLayout): void {
  const { n, nGroups } = shape;
  const coalesced = [n, nGroups];
  const native = [nGroups, n];
  const expected = layout === 'coalesced' ? coalesced : native;
  if (sameShape(got, expected)) return;
  const words = layout === 'coalesced' ? '[N, K/groupSize]' : '[K/groupSize, N]';
  if (layout === 'coalesced' && sameShape(got, native)) {
    throw new SamebitsError('LAYOUT_NATIVE_SCALE', {
      rule: `${name} must be bf16${words}`,
      expected: `[${expected}]`,
      got: `[${got}], torchao's native layout`,
      fix: REPACK,
    });
  }
  throw new SamebitsError('SHAPE_MISMATCH', {
    rule: `${name} must be bf16${words}`,
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

/** @throws SamebitsError SCALE_NOT_FINITE, ZERO_POINT_NOT_FINITE, ZERO_POINT_OUT_OF_RANGE */
export function checkScaleValues(scale: Uint16Array, zeroPoint: Uint16Array): void {
  for (let i = 0; i < scale.length; i++) {
    if (!isFiniteBf16(scale[i]!)) throw notFinite('SCALE_NOT_FINITE', 'scale', i, scale[i]!);
  }
  // bf16 65536 is 0x4780: magnitudes compare as integers.
  for (let i = 0; i < zeroPoint.length; i++) {
    const magnitude = zeroPoint[i]! & 0x7fff;
    if (magnitude <= 0x4780) continue;
    if (magnitude >= 0x7f80) throw notFinite('ZERO_POINT_NOT_FINITE', 'zeroPoint', i, zeroPoint[i]!);
    throw new SamebitsError('ZERO_POINT_OUT_OF_RANGE', {
      rule: 'zeroPoint must not exceed 65536 in magnitude',
      expected: `at most ${MAX_ZERO_POINT}`,
      got: `${flushedNumberFromBf16(zeroPoint[i]!)} at element ${i}`,
      fix: 'Requantize this group: such a zero point leaves no precision for its weights.',
    });
  }
}

function notFinite(code: 'SCALE_NOT_FINITE' | 'ZERO_POINT_NOT_FINITE', name: string, index: number, bits: number) {
  return new SamebitsError(code, {
    rule: `${name} must be finite`,
    expected: 'finite bf16 values',
    got: `bits 0x${bits.toString(16).padStart(4, '0')} at element ${index}`,
    fix: 'The checkpoint is damaged or was quantized from non-finite weights; quantize it again.',
  });
}

function sameShape(a: readonly number[], b: readonly number[]): boolean {
  return a.length === b.length && a.every((d, i) => d === b[i]);
}

/**
 * E_w of NUMERICS.md section 2: the smallest integer with 2^E_w >= R, R = max |s| * max(|z|, |15 - z|); 0 when R is 0.
 * @throws SamebitsError WEIGHT_EXPONENT_OUT_OF_RANGE
 */
export function weightExponent(scale: Uint16Array, zeroPoint: Uint16Array): number {
  let reach = 0;
  for (let i = 0; i < scale.length; i++) {
    const s = Math.abs(flushedNumberFromBf16(scale[i]!));
    const z = flushedNumberFromBf16(zeroPoint[i]!);
    reach = Math.max(reach, s * Math.max(Math.abs(z), Math.abs(15 - z)));
  }
  if (reach === 0) return 0;
  const exponent = ceilLog2(reach);
  if (Math.abs(exponent) <= MAX_WEIGHT_EXPONENT) return exponent;
  throw new SamebitsError('WEIGHT_EXPONENT_OUT_OF_RANGE', {
    rule: 'the largest weight that scale and zeroPoint can reach must lie between 2^-100 and 2^100',
    expected: `E_w in -${MAX_WEIGHT_EXPONENT}..${MAX_WEIGHT_EXPONENT}`,
    got: `E_w = ${exponent} (largest reachable weight ${reach})`,
    fix: 'The scales are nonsense for a trained weight; check how they were read.',
  });
}

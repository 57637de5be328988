// Min/max quantization of plain weights to 4 bits, one scale and zero point per group of consecutive k.

import { kindOf, requireBf16, requireObject } from './argument_checks.js';
import { bf16FromNumber, numberFromBf16 } from './bf16.js';
import { SamebitsError } from './errors.js';
import { Int4Tensor } from './int4_tensor.js';
import { weightShape } from './limits.js';

export interface QuantizeOptions {
  readonly n: number;
  readonly k: number;
  /** 16, or a power of two >= 32, that divides k. */
  readonly groupSize: number;
  /** true: zeroPoint 8 everywhere and q = signed + 8. false (default): the zero point follows each group's range. */
  readonly symmetric?: boolean;
}

const MAX_CODE = 15;
const SYMMETRIC_ZERO_POINT = 8;
/** Adding and taking it away rounds to the nearest integer, ties to even, for magnitudes below 2^51. */
const ROUND = 1.5 * 2 ** 52;
const EXPONENT_MASK = 0x7f800000;
const MAGNITUDE_MASK = 0x7fffffff;

/**
 * Quantizes a weight [n, k], row-major: bf16 bits in a Uint16Array, or f32.
 *
 * Asymmetric: the group's range, widened to include 0, is cut into 15 steps; the zero point is an integer 0..15, so that
 * 0 stays exactly 0. Symmetric: 7.5 steps to the largest magnitude. Codes are chosen against the scale as stored (bf16).
 * @throws SamebitsError DTYPE_MISMATCH for any other array; one for an unsupported shape, a wrong length, or a weight that
 * is Inf or NaN
 */
export function quantizeInt4(weights: Uint16Array | Float32Array, options: QuantizeOptions): Int4Tensor {
  const { symmetric = false, ...asked } = requireObject(options, 'how to quantize');
  const { n, k, groupSize, nGroups } = weightShape(asked.n, asked.k, asked.groupSize);
  if (!(weights instanceof Float32Array)) requireBf16(weights, 'weights');
  if (typeof symmetric !== 'boolean') throw notBoolean(symmetric);
  if (weights.length !== n * k) {
    throw new SamebitsError('INPUT_LENGTH_MISMATCH', {
      rule: 'weights must hold exactly [N, K]',
      expected: `${n * k} elements for [${n}, ${k}]`,
      got: `${weights.length} elements`,
      fix: 'Pass the whole matrix, row-major.',
    });
  }
  const qdata = new Uint8Array((n * k) / 2);
  const scale = new Uint16Array(nGroups * n);
  const zeroPoint = new Uint16Array(nGroups * n);
  const quantizer = new RowQuantizer(k, groupSize, symmetric);
  for (let row = 0; row < n; row++)
    quantizer.quantize(weights, row, { qdata, scale, zeroPoint, first: row, stride: n });
  return new Int4Tensor({
    qdata: { dtype: 'u8', shape: [n, k / 2], data: qdata },
    scale: { dtype: 'bf16', shape: [nGroups, n], data: scale },
    zeroPoint: { dtype: 'bf16', shape: [nGroups, n], data: zeroPoint },
    groupSize,
  });
}

/** Where a quantized row goes. */
export interface QuantizedRows {
  /** u8[N, K/2] */
  readonly qdata: Uint8Array;
  /** bf16 bits; the row's are at `first`, `first + stride`, ... */
  readonly scale: Uint16Array;
  readonly zeroPoint: Uint16Array;
  readonly first: number;
  readonly stride: number;
}

/** Quantizes rows of K weights. Rows are short calls of short loops, which engines optimize better than one long one. */
export class RowQuantizer {
  /** The memory of `values` as bits. */
  readonly #bits: Int32Array<ArrayBuffer>;

  /** @param values f32[k], where the row lies that is quantized */
  constructor(
    k: number,
    private readonly groupSize: number,
    private readonly symmetric: boolean,
    readonly values = new Float32Array(k),
  ) {
    this.#bits = new Int32Array(values.buffer, values.byteOffset, k);
  }

  /**
   * @param weights bf16 bits or f32, row-major
   * @throws SamebitsError WEIGHT_NOT_FINITE
   */
  quantize(weights: Uint16Array | Float32Array, row: number, out: QuantizedRows): void {
    const k = this.values.length;
    const start = row * k;
    if (weights instanceof Float32Array) this.values.set(weights.subarray(start, start + k));
    else widen(weights, start, this.#bits);
    this.quantizeValues(row, out);
  }

  /**
   * The same for weights that are in `values` already.
   * @throws SamebitsError WEIGHT_NOT_FINITE
   */
  quantizeValues(row: number, out: QuantizedRows): void {
    const firstByte = (row * this.values.length) / 2;
    const bad = quantizeRow(this.values, this.#bits, this.groupSize, this.symmetric, out, firstByte);
    if (bad >= 0) throw weightNotFinite(this.values[bad]!, row, bad);
  }
}

function widen(weights: Uint16Array, start: number, bits: Int32Array): void {
  for (let i = 0; i < bits.length; i++) bits[i] = weights[start + i]! << 16;
}

/** @returns the first column that is not finite, or -1 */
function quantizeRow(
  values: Float32Array,
  bits: Int32Array,
  groupSize: number,
  symmetric: boolean,
  { qdata, scale, zeroPoint, first, stride }: QuantizedRows,
  firstByte: number,
): number {
  for (let start = 0, at = first; start < values.length; start += groupSize, at += stride) {
    const end = start + groupSize;
    findEnds(bits, start, end);
    const max = ends[0]!;
    const min = 0 - ends[1]!;
    if (!Number.isFinite(max) || !Number.isFinite(min)) return firstNotFinite(bits, start);
    const range = symmetric ? 2 * Math.max(max, -min) : max - min;
    const scaleBits = flushSubnormal(bf16FromNumber(range / MAX_CODE));
    const s = numberFromBf16(scaleBits);
    const z = symmetric ? SYMMETRIC_ZERO_POINT : s === 0 ? 0 : clampCode(Math.round(-min / s));
    // Division by 1 leaves values that a scale of 0 stands for so close to 0 that they round to the zero point.
    const divisor = s === 0 ? 1 : s;
    scale[at] = scaleBits;
    zeroPoint[at] = bf16FromNumber(z);
    encodeGroup(values, start, end, divisor, z, qdata, firstByte + start / 2);
  }
  return -1;
}

// The largest weight above 0 and the largest magnitude below, or 0; and their bits. Magnitudes compare as integers do.
const ends = new Float32Array(2);
const endBits = new Int32Array(ends.buffer);

/** Without branches: nothing foretells the next weight's sign. */
function findEnds(bits: Int32Array, start: number, end: number): void {
  let above = 0;
  let below = 0;
  for (let i = start; i < end; i++) {
    const magnitude = bits[i]! & MAGNITUDE_MASK;
    const negative = magnitude & (bits[i]! >> 31);
    // max(a, b) = a - min(a - b, 0)
    const aboveLead = above - (magnitude ^ negative);
    const belowLead = below - negative;
    above -= aboveLead & (aboveLead >> 31);
    below -= belowLead & (belowLead >> 31);
  }
  endBits[0] = above;
  endBits[1] = below;
}

function firstNotFinite(bits: Int32Array, start: number): number {
  let i = start;
  while ((bits[i]! & EXPONENT_MASK) !== EXPONENT_MASK) i++;
  return i;
}

function encodeGroup(
  values: Float32Array,
  start: number,
  end: number,
  scale: number,
  zeroPoint: number,
  qdata: Uint8Array,
  at: number,
): void {
  for (let i = start, to = at; i < end; i += 2, to++) {
    const even = (values[i]! / scale + zeroPoint + ROUND - ROUND) | 0;
    const odd = (values[i + 1]! / scale + zeroPoint + ROUND - ROUND) | 0;
    qdata[to] = clampCode(even) | (clampCode(odd) << 4);
  }
}

/** A subnormal scale counts as 0 in the operator, so it is stored as 0 and the group's codes agree with it. */
function flushSubnormal(bits: number): number {
  return (bits & 0x7f80) === 0 ? 0 : bits;
}

function clampCode(value: number): number {
  return value < 0 ? 0 : value > MAX_CODE ? MAX_CODE : value;
}

function notBoolean(symmetric: unknown): SamebitsError {
  return new SamebitsError('ARGUMENT_INVALID', {
    rule: 'symmetric says how zero points are chosen',
    expected: 'true or false',
    got: kindOf(symmetric),
    fix: 'Leave it out for zero points that follow the range of each group.',
  });
}

function weightNotFinite(value: number, row: number, column: number): SamebitsError {
  return new SamebitsError('WEIGHT_NOT_FINITE', {
    rule: 'a weight that is quantized must be finite',
    expected: 'finite values',
    got: `${value} at [${row}, ${column}]`,
    fix: 'The checkpoint is damaged; quantization cannot represent it.',
  });
}

// The CPU reference of int4_plain_mm: NUMERICS.md in code, section by section. Every backend must return these bits.

import { allocateOutput, checkedOutputType, requireBf16 } from './argument_checks.js';
import { bf16FromF32Bits } from './bf16.js';
import { type CoalescedInt4Tensor, requireCoalesced } from './coalesced_int4_tensor.js';
import { powerOfTwo, roundTiesToEven } from './exact.js';
import { GroupNumbers, hasOffset } from './forms.js';
import { activationRows, BLOCK_SIZE } from './limits.js';

/** f32 results, or the same rounded to bf16 (as bit patterns). */
export type OutputType = 'f32' | 'bf16';

/** One row of activations as the operator sees it (NUMERICS.md section 1). */
export interface QuantizedRow {
  /** int8 codes a, [K]. */
  readonly codes: Int8Array;
  /** d_b, the block's scale relative to the row, [K / 32]. */
  readonly blockScale: Float32Array;
  /** Sum of the codes of each run, [K / runSize]. */
  readonly runSum: Int32Array;
  /** E_x. */
  readonly exponent: number;
  /** Some activation is Inf or NaN, so every output of the row is NaN. */
  readonly isNaN: boolean;
}

const INV_127 = Math.fround(1 / 127);
/** A block this far below the row's largest contributes nothing that could be seen. */
const MIN_RELATIVE_EXPONENT = -100;
/** C is an integer in units of 2^-32 of the row's and tensor's scale. */
const FRACTION_BITS = 32;
const MIN_NORMAL = 2 ** -126;

/** Activations that share a run: one scale, one zero point and one block scale serve them all. */
export function runSize(groupSize: number): number {
  return Math.min(BLOCK_SIZE, groupSize);
}

/** Section 1: bf16 bits x[K] to int8, a block of 32 at a time. */
export function quantizeActivations(x: Uint16Array, groupSize: number): QuantizedRow {
  const k = x.length;
  const run = runSize(groupSize);
  const codes = new Int8Array(k);
  const blockScale = new Float32Array(k / BLOCK_SIZE);
  const runSum = new Int32Array(k / run);

  // With 8-bit significands m = 128..255 and exponents e, magnitudes of bf16 compare as integers.
  const blockMax = new Uint16Array(k / BLOCK_SIZE);
  for (let i = 0; i < k; i++) {
    const magnitude = x[i]! & 0x7fff;
    if (magnitude >= 0x7f80) return { codes, blockScale, runSum, exponent: 0, isNaN: true };
    const b = Math.floor(i / BLOCK_SIZE);
    if (magnitude > blockMax[b]!) blockMax[b] = magnitude;
  }
  const rowMax = blockMax.reduce((a, b) => Math.max(a, b), 0);
  const exponent = isZero(rowMax) ? 0 : exponentOf(rowMax);

  for (let b = 0; b < blockMax.length; b++) {
    const max = blockMax[b]!;
    const relative = exponentOf(max) - exponent;
    if (isZero(max) || relative < MIN_RELATIVE_EXPONENT) continue;
    blockScale[b] = Math.fround((significandOf(max) / 128) * INV_127) * powerOfTwo(relative);
    for (let i = b * BLOCK_SIZE; i < (b + 1) * BLOCK_SIZE; i++) {
      const code = quantizeOne(x[i]! & 0x7fff, max);
      codes[i] = x[i]! & 0x8000 ? -code : code;
    }
  }
  for (let i = 0; i < k; i++) runSum[Math.floor(i / run)]! += codes[i]!;
  return { codes, blockScale, runSum, exponent, isNaN: false };
}

/** RNE(127 * |x| / max) as an exact rational rounding of two bf16 magnitudes, |x| <= max. */
function quantizeOne(magnitude: number, max: number): number {
  const shift = exponentOf(max) - exponentOf(magnitude);
  if (isZero(magnitude) || shift > 16) return 0;
  const numerator = 127 * significandOf(magnitude);
  const denominator = significandOf(max) * 2 ** shift;
  const floor = Math.floor(numerator / denominator);
  const twiceRest = 2 * (numerator - floor * denominator);
  const roundsUp = twiceRest > denominator || (twiceRest === denominator && floor % 2 === 1);
  return roundsUp ? floor + 1 : floor;
}

const isZero = (magnitude: number) => magnitude < 0x80;
const exponentOf = (magnitude: number) => (magnitude >> 7) - 127;
const significandOf = (magnitude: number) => 128 + (magnitude & 127);

/**
 * y = x · wᵀ, exactly as NUMERICS.md defines it.
 * @param x bf16[M, K] bit patterns, row-major; M follows from the length
 * @param outputType f32 (default) gives f32[M, N]; bf16 gives bit patterns bf16[M, N]
 * @throws SamebitsError DTYPE_MISMATCH, LAYOUT_WRONG_TYPE, INPUT_LENGTH_MISMATCH, M_UNSUPPORTED, ARGUMENT_INVALID,
 * HOST_OUT_OF_MEMORY
 */
export function int4PlainMM(x: Uint16Array, w: CoalescedInt4Tensor, outputType?: 'f32'): Float32Array;
export function int4PlainMM(x: Uint16Array, w: CoalescedInt4Tensor, outputType: 'bf16'): Uint16Array;
export function int4PlainMM(x: Uint16Array, w: CoalescedInt4Tensor, outputType: OutputType): Float32Array | Uint16Array;
export function int4PlainMM(
  x: Uint16Array,
  w: CoalescedInt4Tensor,
  outputType: OutputType = 'f32',
): Float32Array | Uint16Array {
  const m = activationRows(requireBf16(x).length, requireCoalesced(w).k);
  const isBf16 = checkedOutputType(outputType) === 'bf16';
  const bits = new Uint32Array(allocateOutput(m, w.n, 'f32').buffer);
  for (let row = 0; row < m; row++) {
    const quantized = quantizeActivations(x.subarray(row * w.k, (row + 1) * w.k), w.groupSize);
    for (let n = 0; n < w.n; n++) {
      bits[row * w.n + n] = quantized.isNaN ? NAN_BITS : outputBits(rowSum(quantized, w, n), w, quantized);
    }
  }
  return isBf16 ? Uint16Array.from(bits, bf16FromF32Bits) : new Float32Array(bits.buffer);
}

const NAN_BITS = 0x7fc00000;

/** Sections 3 and 4: T, the exact integer sum of the contributions of all runs of weight row n. */
function rowSum(row: QuantizedRow, w: CoalescedInt4Tensor, n: number): number {
  const { k, groupSize, nGroups, qdata, form } = w;
  const run = runSize(groupSize);
  const weightScale = powerOfTwo(-w.weightExponent);
  const numbers = new GroupNumbers(form, w.groups, w);
  const contribution = hasOffset(form) ? offsetContribution : zeroContribution;
  let sum = 0;
  for (let r = 0; r < k / run; r++) {
    const first = r * run;
    let dp = 0;
    for (let i = first; i < first + run; i += 2) {
      const byte = qdata[(n * k + i) / 2]!;
      dp += (byte & 15) * row.codes[i]! + (byte >> 4) * row.codes[i + 1]!;
    }
    const d = weightScale * row.blockScale[Math.floor(first / BLOCK_SIZE)]!;
    sum += contribution(numbers, n * nGroups + Math.floor(first / groupSize), d, dp, row.runSum[r]!);
  }
  return sum;
}

/** C of a run of a form with a zero point; `d` is d_b * 2^-E_w. What a zero point of at most 11 bits times asum is, is exact. */
function zeroContribution(numbers: GroupNumbers, group: number, d: number, dp: number, asum: number): number {
  const t = Math.fround(dp - Math.fround(numbers.second(group) * asum));
  return inUnits(Math.fround(Math.fround(numbers.scale(group) * d) * t));
}

/** C of a run of a form with an offset. Codes of scales and offsets multiply the integers, which stay below 2^24. */
function offsetContribution(numbers: GroupNumbers, group: number, d: number, dp: number, asum: number): number {
  const centered = numbers.scaleCode(group) * (dp - numbers.form.center * asum);
  const scaled = Math.fround(Math.fround(numbers.scaleStep(group) * d) * centered);
  const offset = Math.fround(Math.fround(numbers.secondStep(group) * d) * (numbers.secondCode(group) * asum));
  return inUnits(scaled) + inUnits(offset);
}

const inUnits = (c: number) => roundTiesToEven(c * 2 ** FRACTION_BITS);

/** Section 4: T * 2^(E_w + E_x - 32), rounded once to 24 bits; too small is a signed zero, too large infinity. */
function outputBits(sum: number, w: CoalescedInt4Tensor, row: QuantizedRow): number {
  const y = Math.fround(sum) * powerOfTwo(w.weightExponent + row.exponent - FRACTION_BITS);
  const flushed = Math.abs(y) >= MIN_NORMAL ? y : y < 0 ? -0 : 0;
  scratch.setFloat32(0, flushed);
  return scratch.getUint32(0);
}

const scratch = new DataView(new ArrayBuffer(4));

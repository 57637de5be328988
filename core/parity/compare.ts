// Bits against bits. No tolerance: NaN equals NaN only when the patterns do, and -0 is not +0.

import { kindOf, requireObject } from '../argument_checks.js';
import { SamebitsError } from '../errors.js';

/** The first element at which two outputs [M, N] differ. */
export interface BitDifference {
  readonly m: number;
  readonly n: number;
  /** Bit patterns in hexadecimal; `missing` when the output is too short. */
  readonly expected: string;
  readonly actual: string;
  /** Elements that differ in all. */
  readonly count: number;
}

/**
 * Compares two outputs of n columns; null when every bit is equal.
 * @throws SamebitsError DTYPE_MISMATCH for what is no output, ARGUMENT_INVALID for an n that is no number of columns
 */
export function firstDifference(
  expected: Float32Array | Uint16Array,
  actual: Float32Array | Uint16Array,
  n: number,
): BitDifference | null {
  if (!Number.isInteger(n) || n < 1) throw notColumns(n);
  const want = bitsOf(expected);
  const got = bitsOf(actual);
  const digits = expected.BYTES_PER_ELEMENT * 2;
  let first = -1;
  let count = 0;
  for (let i = 0; i < Math.max(want.length, got.length); i++) {
    if (want[i] === got[i] && expected.BYTES_PER_ELEMENT === actual.BYTES_PER_ELEMENT) continue;
    if (first < 0) first = i;
    count++;
  }
  if (first < 0) return null;
  return {
    m: Math.floor(first / n),
    n: first % n,
    expected: hex(want[first], digits),
    actual: hex(got[first], digits),
    count,
  };
}

/** `y[m=0, n=3]: expected 0x3f800000, got 0x3f800001 (12 elements differ)` */
export function formatDifference(difference: BitDifference): string {
  const { m, n, expected, actual, count } = requireObject(difference, 'a difference');
  return `y[m=${m}, n=${n}]: expected ${expected}, got ${actual} (${count} ${count === 1 ? 'element differs' : 'elements differ'})`;
}

function bitsOf(values: Float32Array | Uint16Array): Uint32Array | Uint16Array {
  if (values instanceof Uint16Array) return values;
  if (!(values instanceof Float32Array)) {
    throw new SamebitsError('DTYPE_MISMATCH', {
      rule: 'outputs are compared as f32 or bf16',
      expected: 'a Float32Array or a Uint16Array',
      got: kindOf(values),
      fix: 'Pass what linear gave.',
    });
  }
  // A detached array has no elements, and no view can be made of its buffer.
  return values.length === 0 ? new Uint32Array() : new Uint32Array(values.buffer, values.byteOffset, values.length);
}

function hex(bits: number | undefined, digits: number): string {
  return bits === undefined ? 'missing' : `0x${bits.toString(16).padStart(digits, '0')}`;
}

function notColumns(n: unknown): SamebitsError {
  return new SamebitsError('ARGUMENT_INVALID', {
    rule: 'an output has N columns',
    expected: 'a positive integer',
    got: kindOf(n),
    fix: "Pass the weight's n.",
  });
}

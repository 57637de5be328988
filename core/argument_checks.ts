// What callers may pass to a backend, checked in one place so that every backend refuses the same with the same words.

import { SamebitsError } from './errors.js';
import type { OutputType } from './reference.js';

/** What a value is, for a message: `a Uint8Array`, `null`, `the string "f16"`. */
export function kindOf(value: unknown): string {
  if (typeof value === 'object' && value !== null) return `a ${value.constructor?.name ?? 'bare object'}`;
  if (typeof value === 'string') return `the string ${JSON.stringify(value)}`;
  return typeof value === 'function' ? 'a function' : String(value);
}

/**
 * Values as bf16 bit patterns.
 * @throws SamebitsError DTYPE_MISMATCH for any other array, whose elements could only be misread
 */
export function requireBf16(x: Uint16Array, name: 'x' | 'weights' = 'x'): Uint16Array {
  if (x instanceof Uint16Array) return x;
  throw new SamebitsError('DTYPE_MISMATCH', {
    rule: `${name} must be bf16 bit patterns or f32 values`,
    expected: 'a Uint16Array or a Float32Array',
    got: kindOf(x),
    fix: 'bf16FromF32Array rounds f32 values; Float32Array.from takes others.',
  });
}

/**
 * The output type that was asked for, f32 when none was.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export function checkedOutputType(outputType: OutputType = 'f32'): OutputType {
  if (outputType === 'f32' || outputType === 'bf16') return outputType;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'outputType must be one that the operator has',
    expected: "'f32' or 'bf16'",
    got: kindOf(outputType),
    fix: 'Leave it out for f32.',
  });
}

/**
 * A size of device memory in bytes.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export function checkedSizeBytes(sizeBytes: number): number {
  if (Number.isSafeInteger(sizeBytes) && sizeBytes > 0) return sizeBytes;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'the size of a buffer must be a positive integer',
    expected: 'a number of bytes',
    got: kindOf(sizeBytes),
    fix: 'Pass M * K * 2 for activations, M * N * 4 or * 2 for outputs.',
  });
}

const MAX_REPLAYS = 100_000;

/**
 * How often something is timed.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export function checkedReplays(replays: number): number {
  if (Number.isInteger(replays) && replays >= 1 && replays <= MAX_REPLAYS) return replays;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'replays must be a positive integer',
    expected: `1..${MAX_REPLAYS}`,
    got: kindOf(replays),
    fix: 'Time fewer runs at once.',
  });
}

/**
 * What is to fill a buffer of `sizeBytes`.
 * @throws SamebitsError DTYPE_MISMATCH, BYTE_LENGTH_MISMATCH
 */
export function checkedContents(bytes: Uint8Array, sizeBytes: number): Uint8Array {
  if (!(bytes instanceof Uint8Array)) {
    throw new SamebitsError('DTYPE_MISMATCH', {
      rule: 'a write takes bytes',
      expected: 'a Uint8Array',
      got: kindOf(bytes),
      fix: 'Pass new Uint8Array(values.buffer, values.byteOffset, values.byteLength).',
    });
  }
  if (bytes.byteLength === sizeBytes) return bytes;
  throw new SamebitsError('BYTE_LENGTH_MISMATCH', {
    rule: 'a write fills the whole buffer',
    expected: `${sizeBytes} bytes`,
    got: `${bytes.byteLength} bytes`,
    fix: 'Create the buffer with the size of what it holds.',
  });
}

/**
 * A list of plan steps, each an object; what is in them is for the backend to check.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export function checkedSteps<Step>(steps: readonly Step[]): readonly Step[] {
  const list: readonly unknown[] | null = Array.isArray(steps) ? [...steps] : null;
  if (list?.every((step) => typeof step === 'object' && step !== null)) return steps;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'a plan is made of steps',
    expected: 'an array of { m, x, weight, y, outputType }',
    got: list ? 'an array with something else in it' : kindOf(steps),
    fix: 'Pass one object for each linear.',
  });
}

/**
 * Host memory for y [M, N].
 * @throws SamebitsError HOST_OUT_OF_MEMORY
 */
export function allocateOutput(m: number, n: number, outputType: OutputType): Float32Array | Uint16Array {
  try {
    return outputType === 'f32' ? new Float32Array(m * n) : new Uint16Array(m * n);
  } catch (cause) {
    throw new SamebitsError('HOST_OUT_OF_MEMORY', {
      rule: 'an output must fit into one array of this JavaScript engine',
      expected: `memory for [${m}, ${n}] in ${outputType}`,
      got: cause instanceof Error ? cause.message : String(cause),
      fix: 'Pass fewer rows of activations at a time.',
      cause,
    });
  }
}

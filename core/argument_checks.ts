// What callers may pass to a backend, checked in one place so that every backend refuses the same with the same words.

import type { LinearOptions, UploadOptions } from './backend.js';
import { SamebitsError } from './errors.js';
import type { OutputType } from './reference.js';

/** What a value is, for a message: `a Uint8Array`, `null`, `the string "f16"`. */
export function kindOf(value: unknown): string {
  if (typeof value === 'object' && value !== null) return `a ${value.constructor?.name ?? 'bare object'}`;
  if (typeof value === 'string') return `the string ${JSON.stringify(value)}`;
  return typeof value === 'function' ? 'a function' : String(value);
}

/**
 * An argument with fields.
 * @throws SamebitsError ARGUMENT_INVALID for what has none
 */
export function requireObject<T>(value: T, what: string): T {
  if (typeof value === 'object' && value !== null) return value;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: `${what} must be given as an object`,
    expected: 'an object with the fields of its type',
    got: kindOf(value),
    fix: 'Pass all arguments, in the order of the declaration.',
  });
}

/**
 * An object that has what will be asked of it.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export function requireFields<T extends object>(value: T, what: string, fields: readonly (keyof T & string)[]): T {
  const missing = fields.filter((field) => (requireObject(value, what)[field] ?? undefined) === undefined);
  if (missing.length === 0) return value;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: `${what} must be one`,
    expected: `an object with ${fields.join(', ')}`,
    got: `${kindOf(value)} without ${missing.join(', ')}`,
    fix: 'Pass what the function of samebits that makes one gave.',
  });
}

/**
 * The callback of an upload, or one that does nothing.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export function checkedProgress(options: UploadOptions): (doneBytes: number, totalBytes: number) => void {
  const { onProgress = () => {} } = requireObject(options, 'the options of an upload');
  if (typeof onProgress === 'function') return onProgress;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'onProgress is called as pieces reach the device',
    expected: 'a function',
    got: kindOf(onProgress),
    fix: 'Leave it out when nobody watches.',
  });
}

/**
 * A list of arguments.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export function requireList<T>(value: readonly T[], what: string): readonly T[] {
  if (Array.isArray(value)) return value;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: `${what} must be given as a list`,
    expected: 'an array',
    got: kindOf(value),
    fix: 'Pass an array, if only of one.',
  });
}

/**
 * Bytes.
 * @throws SamebitsError DTYPE_MISMATCH
 */
export function requireBytes<Bytes extends Uint8Array>(bytes: Bytes, what: string): Bytes {
  if (bytes instanceof Uint8Array) return bytes;
  throw new SamebitsError('DTYPE_MISMATCH', {
    rule: `${what} must be bytes`,
    expected: 'a Uint8Array',
    got: kindOf(bytes),
    fix: 'Pass new Uint8Array(values.buffer, values.byteOffset, values.byteLength).',
  });
}

/**
 * Values as f32.
 * @throws SamebitsError DTYPE_MISMATCH for any other array
 */
export function requireF32(values: Float32Array, name: string): Float32Array {
  if (values instanceof Float32Array) return values;
  throw new SamebitsError('DTYPE_MISMATCH', {
    rule: `${name} must be f32`,
    expected: 'a Float32Array',
    got: kindOf(values),
    fix: 'Float32Array.from takes other values.',
  });
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
 * The output type that a linear's options ask for.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export function outputTypeOf(options: LinearOptions): OutputType {
  return checkedOutputType(requireObject(options, 'the options of a linear').outputType);
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
  requireBytes(bytes, 'what is written');
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
export function allocateOutput(m: number, n: number, outputType: 'f32'): Float32Array<ArrayBuffer>;
export function allocateOutput(m: number, n: number, outputType: OutputType): Float32Array | Uint16Array;
export function allocateOutput(m: number, n: number, outputType: OutputType): Float32Array | Uint16Array {
  try {
    return outputType === 'f32' ? new Float32Array(m * n) : new Uint16Array(m * n);
  } catch (cause) {
    throw new SamebitsError('HOST_OUT_OF_MEMORY', {
      rule: 'an output must fit into one array of this JavaScript engine',
      expected: `memory for [${m}, ${n}] in ${outputType}`,
      got: cause instanceof Error ? cause.message : String(cause),
      fix: 'Ask for fewer rows at a time.',
      cause,
    });
  }
}

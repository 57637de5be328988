// Where a checkpoint is written to: any offset, in any order, so that one pass over the source is enough.

import { kindOf, requireBytes } from '../argument_checks.js';
import { SamebitsError } from '../errors.js';

/** Bytes that can be written at any offset. */
export interface RandomAccessSink {
  /** Writes all of `bytes`; the array may be reused when this resolves. */
  writeAt(offset: number, bytes: Uint8Array): Promise<void>;
}

/** A sink in memory; it grows as it is written to. Refuses with DTYPE_MISMATCH, ARGUMENT_INVALID, HOST_OUT_OF_MEMORY. */
export class MemorySink implements RandomAccessSink {
  #buffer = new Uint8Array(1024);
  #sizeBytes = 0;

  /** What was written; bytes that were skipped are 0. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(0, this.#sizeBytes);
  }

  async writeAt(offset: number, bytes: Uint8Array): Promise<void> {
    checkOffset(offset);
    const end = offset + requireBytes(bytes, 'what is written').byteLength;
    if (end > this.#buffer.byteLength) {
      const grown = allocate(Math.max(end, 2 * this.#buffer.byteLength));
      grown.set(this.bytes);
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, offset);
    this.#sizeBytes = Math.max(this.#sizeBytes, end);
  }
}

/** Takes everything and keeps nothing: a dry run. */
export const discardingSink: RandomAccessSink = { writeAt: async () => {} };

function checkOffset(offset: number): void {
  if (Number.isSafeInteger(offset) && offset >= 0) return;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'bytes are written at an offset',
    expected: 'an integer, 0 or more',
    got: kindOf(offset),
    fix: 'Pass the offset that the plan of the file gives.',
  });
}

function allocate(sizeBytes: number): Uint8Array<ArrayBuffer> {
  try {
    return new Uint8Array(sizeBytes);
  } catch (cause) {
    throw new SamebitsError('HOST_OUT_OF_MEMORY', {
      rule: 'a file in memory must fit into one array of this JavaScript engine',
      expected: `memory for ${sizeBytes} bytes`,
      got: cause instanceof Error ? cause.message : String(cause),
      fix: 'Write it to a file instead.',
      cause,
    });
  }
}

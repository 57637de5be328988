// Reads a source from front to back through a window, so that a header of any length costs a constant of memory.

import { SamebitsError } from '../errors.js';
import type { RandomAccessSource } from './source.js';

const WINDOW_BYTES = 1 << 20;

/** A cursor over a source. Check `has` before reading a field and `load` what is not there; fields then read in step. */
export class ForwardReader {
  #bytes = new Uint8Array(0);
  #view = new DataView(this.#bytes.buffer);
  /** Where the window starts in the file. */
  #base = 0;
  #at = 0;

  constructor(private readonly source: RandomAccessSource) {}

  /** Of the next byte, from the start of the file. */
  get offset(): number {
    return this.#base + this.#at;
  }

  /** Bytes of the file that are still to come. */
  get remaining(): number {
    return this.source.sizeBytes - this.offset;
  }

  has(length: number): boolean {
    return this.#at + length <= this.#bytes.length;
  }

  /**
   * Makes the next `length` bytes readable.
   * @param what is being read, for the message
   * @throws SamebitsError FILE_TRUNCATED
   */
  async load(length: number, what: string): Promise<void> {
    if (length > this.remaining) throw this.truncated(length, what);
    const offset = this.offset;
    this.#bytes = await this.source.read(offset, Math.min(this.remaining, Math.max(length, WINDOW_BYTES)));
    this.#view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.byteLength);
    this.#base = offset;
    this.#at = 0;
  }

  /** @throws SamebitsError FILE_TRUNCATED */
  skip(length: number, what: string): void {
    if (length > this.remaining) throw this.truncated(length, what);
    this.#at += length;
  }

  u32(): number {
    this.#at += 4;
    return this.#view.getUint32(this.#at - 4, true);
  }

  u64(): bigint {
    this.#at += 8;
    return this.#view.getBigUint64(this.#at - 8, true);
  }

  bytes(length: number): Uint8Array {
    this.#at += length;
    return this.#bytes.subarray(this.#at - length, this.#at);
  }

  truncated(length: number | bigint, what: string): SamebitsError {
    return new SamebitsError('FILE_TRUNCATED', {
      rule: `${what} must lie in ${this.source.name}`,
      expected: `${length} bytes from offset ${this.offset}`,
      got: `a file that ends at ${this.source.sizeBytes}`,
      fix: 'The file was cut short or its header is damaged; fetch it again.',
    });
  }
}

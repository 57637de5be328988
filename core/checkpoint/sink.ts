// Where a checkpoint is written to: any offset, in any order, so that one pass over the source is enough.

/** Bytes that can be written at any offset. */
export interface RandomAccessSink {
  /** Writes all of `bytes`; the array may be reused when this resolves. */
  writeAt(offset: number, bytes: Uint8Array): Promise<void>;
}

/** A sink in memory; it grows as it is written to. */
export class MemorySink implements RandomAccessSink {
  #buffer = new Uint8Array(1024);
  #sizeBytes = 0;

  /** What was written; bytes that were skipped are 0. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.#buffer.subarray(0, this.#sizeBytes);
  }

  async writeAt(offset: number, bytes: Uint8Array): Promise<void> {
    const end = offset + bytes.byteLength;
    if (end > this.#buffer.byteLength) {
      const grown = new Uint8Array(Math.max(end, 2 * this.#buffer.byteLength));
      grown.set(this.bytes);
      this.#buffer = grown;
    }
    this.#buffer.set(bytes, offset);
    this.#sizeBytes = Math.max(this.#sizeBytes, end);
  }
}

/** Takes everything and keeps nothing: a dry run. */
export const discardingSink: RandomAccessSink = { writeAt: async () => {} };

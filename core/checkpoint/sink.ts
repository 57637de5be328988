// Where a checkpoint is written to: any offset, in any order, so that one pass over the source is enough.

/** Bytes that can be written at any offset. */
export interface RandomAccessSink {
  /** Writes all of `bytes`; the array may be reused when this resolves. */
  writeAt(offset: number, bytes: Uint8Array): Promise<void>;
}

/** A sink in memory. */
export class MemorySink implements RandomAccessSink {
  readonly bytes: Uint8Array<ArrayBuffer>;

  constructor(sizeBytes: number) {
    this.bytes = new Uint8Array(sizeBytes);
  }

  async writeAt(offset: number, bytes: Uint8Array): Promise<void> {
    this.bytes.set(bytes, offset);
  }
}

/** Takes everything and keeps nothing: a dry run. */
export const discardingSink: RandomAccessSink = { writeAt: async () => {} };

// Where checkpoint bytes come from: a file, a Blob, an HTTP range or memory, read a piece at a time.

import { SamebitsError } from '../errors.js';

/** Bytes that can be read at any offset. Whoever opened it closes it. */
export interface RandomAccessSource {
  /** For messages: a path, a file name, a URL. */
  readonly name: string;
  readonly sizeBytes: number;
  /**
   * Exactly `length` bytes from `offset`, in memory that belongs to the caller: that of `into`, where it is given and the
   * source can fill it, else new.
   * @throws SamebitsError FILE_TRUNCATED past the end, FILE_UNREADABLE when the medium fails
   */
  read(offset: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** The files of one model, by name. */
export interface SourceFolder {
  readonly name: string;
  /** The file of that name in this folder, or undefined when there is none. `fileName` holds no path separator. */
  open(fileName: string): Promise<RandomAccessSource | undefined>;
}

/** Bytes in memory as a source. `bytes` must not be written to while it is in use. */
export function memorySource(bytes: Uint8Array, name = 'memory'): RandomAccessSource {
  return {
    name,
    sizeBytes: bytes.byteLength,
    read: async (offset, length, into) => {
      checkRange(name, bytes.byteLength, offset, length);
      if (!into) return new Uint8Array(bytes.subarray(offset, offset + length));
      into.set(bytes.subarray(offset, offset + length));
      return into.subarray(0, length);
    },
    close: async () => {},
  };
}

/** Named byte arrays as a folder. */
export function memoryFolder(files: ReadonlyMap<string, Uint8Array>, name = 'memory'): SourceFolder {
  return {
    name,
    open: async (fileName) => {
      const bytes = files.get(fileName);
      return bytes && memorySource(bytes, fileName);
    },
  };
}

/**
 * What every source checks before it reads.
 * @throws SamebitsError FILE_TRUNCATED
 */
export function checkRange(name: string, sizeBytes: number, offset: number, length: number): void {
  if (offset >= 0 && length >= 0 && offset + length <= sizeBytes) return;
  throw new SamebitsError('FILE_TRUNCATED', {
    rule: `what is read from ${name} must lie in the file`,
    expected: `a range in 0..${sizeBytes}`,
    got: `${length} bytes from ${offset}`,
    fix: 'The file was cut short; fetch it again.',
  });
}

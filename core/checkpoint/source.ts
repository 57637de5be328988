// Where checkpoint bytes come from: a file, a Blob, an HTTP range or memory, read a piece at a time.

import { requireBytes, requireFields } from '../argument_checks.js';
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

/**
 * Bytes in memory as a source. `bytes` must not be written to while it is in use.
 * @throws SamebitsError DTYPE_MISMATCH for anything but a Uint8Array
 */
export function memorySource(bytes: Uint8Array, name = 'memory'): RandomAccessSource {
  requireBytes(bytes, 'the bytes of a source');
  return {
    name,
    sizeBytes: bytes.byteLength,
    read: async (offset, length, into) => {
      checkRange(name, bytes.byteLength, offset, length);
      if (!into) return new Uint8Array(bytes.subarray(offset, offset + length));
      requireBytes(into, 'what is read into').set(bytes.subarray(offset, offset + length));
      return into.subarray(0, length);
    },
    close: async () => {},
  };
}

/** Named byte arrays as a folder. */
export function memoryFolder(files: ReadonlyMap<string, Uint8Array>, name = 'memory'): SourceFolder {
  requireFields(files, 'the files of a folder', ['get']);
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
  const isRange = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
  if (isRange && offset + length <= sizeBytes) return;
  throw new SamebitsError('FILE_TRUNCATED', {
    rule: `what is read from ${name} must lie in the file`,
    expected: `a range in 0..${String(sizeBytes)}`,
    got: `${String(length)} bytes from ${String(offset)}`,
    fix: 'Ask for bytes that are there; a file that was cut short must be fetched again.',
  });
}

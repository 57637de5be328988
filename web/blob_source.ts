// A File or Blob of the browser as a source of checkpoint bytes.

import { checkRange, type RandomAccessSource, SamebitsError } from '../core/index.js';

/**
 * A Blob as a source; its reads throw FILE_UNREADABLE when the file behind it was moved or changed.
 * @param name for messages
 */
export function blobSource(blob: Blob, name: string): RandomAccessSource {
  return {
    name,
    sizeBytes: blob.size,
    read: async (offset, length) => {
      checkRange(name, blob.size, offset, length);
      try {
        return new Uint8Array(await blob.slice(offset, offset + length).arrayBuffer());
      } catch (cause) {
        throw new SamebitsError('FILE_UNREADABLE', {
          rule: `${name} must be readable`,
          expected: `${length} bytes from ${offset}`,
          got: cause instanceof Error ? cause.message : String(cause),
          fix: 'The file may have been moved or changed since it was chosen; choose it again.',
          cause,
        });
      }
    },
    close: async () => {},
  };
}

// A samebits checkpoint on disk, open for as long as one verb needs it.

import { openSamebitsFile, type SamebitsFile } from '../core/index.js';
import { openFileSource } from './file_source.js';

/**
 * Opens `path`, lets `use` work on it and closes it, whatever happens.
 * @throws SamebitsError FILE_UNREADABLE and whatever the strict reader refuses
 */
export async function withSamebitsFile<T>(path: string, use: (file: SamebitsFile) => Promise<T>): Promise<T> {
  const source = await openFileSource(path);
  try {
    return await use(await openSamebitsFile(source));
  } finally {
    await source.close();
  }
}

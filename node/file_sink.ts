// A file that appears under its name only when it is whole.

import { type FileHandle, lstat, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { type RandomAccessSink, SamebitsError } from '../core/index.js';

/** An open file that is written to at any offset; `path` is what messages call it. */
class FileWriter implements RandomAccessSink {
  constructor(
    readonly path: string,
    protected readonly handle: FileHandle,
  ) {}

  async writeAt(offset: number, bytes: Uint8Array): Promise<void> {
    try {
      for (let done = 0; done < bytes.byteLength; ) {
        const { bytesWritten } = await this.handle.write(bytes, done, bytes.byteLength - done, offset + done);
        done += bytesWritten;
      }
    } catch (error) {
      throw unwritable(this.path, error);
    }
  }
}

/**
 * Opens the temporary file of an AtomicFile once more, in another thread that writes parts of it.
 * @throws SamebitsError FILE_UNWRITABLE
 */
export async function openShared({ path, temporaryPath }: AtomicFilePaths): Promise<RandomAccessSink> {
  const handle = await open(temporaryPath, 'r+').catch((error: unknown) => {
    throw unwritable(path, error);
  });
  return new FileWriter(path, handle);
}

/** Where a file will be, and where it is until then. */
export interface AtomicFilePaths {
  readonly path: string;
  readonly temporaryPath: string;
}

/** Written under a temporary name beside `path`. Ends with commit or discard. */
export class AtomicFile extends FileWriter implements AtomicFilePaths {
  private constructor(
    path: string,
    readonly temporaryPath: string,
    handle: FileHandle,
    private readonly overwrite: boolean,
  ) {
    super(path, handle);
  }

  /**
   * @param overwrite replace a file that is already at `path`
   * @throws SamebitsError FILE_EXISTS, FILE_UNWRITABLE
   */
  static async create(path: string, overwrite: boolean): Promise<AtomicFile> {
    await refuseExisting(path, overwrite);
    const temporaryPath = join(dirname(path), `.${basename(path)}.${process.pid}.partial`);
    const handle = await open(temporaryPath, 'wx').catch((error: unknown) => {
      throw unwritable(path, error);
    });
    return new AtomicFile(path, temporaryPath, handle, overwrite);
  }

  /**
   * Makes the bytes durable and gives the file its name. On an error nothing is left.
   * @throws SamebitsError FILE_EXISTS, FILE_UNWRITABLE
   */
  async commit(): Promise<void> {
    try {
      await this.handle.sync();
      await this.handle.close();
      await refuseExisting(this.path, this.overwrite);
      await rename(this.temporaryPath, this.path);
      await syncFolder(dirname(this.path));
    } catch (error) {
      await rm(this.temporaryPath, { force: true });
      throw error instanceof SamebitsError ? error : unwritable(this.path, error);
    }
  }

  /** Removes what was written. */
  async discard(): Promise<void> {
    await this.handle.close();
    await rm(this.temporaryPath, { force: true });
  }
}

async function refuseExisting(path: string, overwrite: boolean): Promise<void> {
  const existing = await lstat(path).catch(() => undefined);
  if (existing === undefined || (overwrite && !existing.isDirectory())) return;
  throw new SamebitsError('FILE_EXISTS', {
    rule: 'a file that is there is not overwritten unasked',
    expected: `a new name, or one that may be replaced`,
    got: `${path}, ${existing.isDirectory() ? 'a directory' : 'which exists'}`,
    fix: existing.isDirectory() ? 'Name a file in it.' : 'Choose another name, or pass --force.',
  });
}

/** A rename survives a crash only when its folder is written too; not every platform opens folders. */
async function syncFolder(path: string): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

function unwritable(path: string, cause: unknown): SamebitsError {
  return new SamebitsError('FILE_UNWRITABLE', {
    rule: 'the output must be writable',
    expected: `a folder with enough room for ${path}`,
    got: cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause),
    fix: 'Check the path, its permissions and the free space.',
    cause,
  });
}

/**
 * Writes a file whole or not at all, in the place of one that is already there.
 * @throws SamebitsError FILE_UNWRITABLE
 */
export async function writeFileWhole(path: string, bytes: Uint8Array): Promise<void> {
  const file = await AtomicFile.create(path, true);
  try {
    await file.writeAt(0, bytes);
    await file.commit();
  } catch (error) {
    await file.discard();
    throw error;
  }
}

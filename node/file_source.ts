// Files and folders as checkpoint sources.

import type { Stats } from 'node:fs';
import { type FileHandle, open, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { checkRange, httpFolder, type RandomAccessSource, SamebitsError, type SourceFolder } from '../core/index.js';
import { fileUnreadableError } from './file_errors.js';

/** The most that one read call takes on every platform. */
const MAX_READ_BYTES = 2 ** 30;

class FileSource implements RandomAccessSource {
  constructor(
    readonly name: string,
    readonly sizeBytes: number,
    private readonly handle: FileHandle,
  ) {}

  async read(offset: number, length: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    checkRange(this.name, this.sizeBytes, offset, length);
    const bytes = into ? into.subarray(0, length) : new Uint8Array(length);
    for (let done = 0; done < length; ) {
      const count = Math.min(MAX_READ_BYTES, length - done);
      const { bytesRead } = await this.handle.read(bytes, done, count, offset + done).catch((error: unknown) => {
        throw fileUnreadableError(this.name, error);
      });
      if (bytesRead === 0) throw shrunk(this.name, this.sizeBytes, offset + done);
      done += bytesRead;
    }
    return bytes;
  }

  close(): Promise<void> {
    return this.handle.close();
  }
}

/**
 * Opens a regular file; close it when done.
 * @throws SamebitsError FILE_UNREADABLE
 */
export async function openFileSource(path: string): Promise<RandomAccessSource> {
  // Asked before opening, for opening a pipe waits for its writer.
  if (!(await statOf(path)).isFile()) throw notAFile(path);
  const handle = await open(path, 'r').catch((error: unknown) => {
    throw fileUnreadableError(path, error);
  });
  try {
    return new FileSource(path, (await handle.stat()).size, handle);
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * A folder of model files.
 * @throws SamebitsError FILE_UNREADABLE for what is no path
 */
export function fileFolder(path: string): SourceFolder {
  if (typeof path !== 'string') throw fileUnreadableError(path, 'no path');
  return {
    name: path,
    open: async (fileName) => {
      try {
        return await openFileSource(join(path, fileName));
      } catch (error) {
        if (error instanceof SamebitsError && isAbsent(error.cause)) return undefined;
        throw error;
      }
    },
  };
}

/** Where a model lies: a folder, and the file in it that was named, if one was. */
export interface ModelLocation {
  readonly folder: SourceFolder;
  readonly entry: string | undefined;
}

/**
 * Understands a path, or an http(s) URL, as a folder, a .safetensors file, an index or a .gguf file. The URL of a folder ends
 * in /.
 * @throws SamebitsError FILE_UNREADABLE
 */
export async function locateModel(path: string): Promise<ModelLocation> {
  if (isUrl(path)) {
    const entry = decodeURIComponent(new URL(path).pathname.replace(/^.*\//s, ''));
    return { folder: httpFolder(path), entry: entry === '' ? undefined : entry };
  }
  return (await statOf(path)).isDirectory()
    ? { folder: fileFolder(path), entry: undefined }
    : { folder: fileFolder(dirname(path)), entry: basename(path) };
}

/**
 * Replacing the source by what is made of it would lose the weights.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export async function refuseSameFile(sourcePath: string, outPath: string): Promise<void> {
  if (isUrl(sourcePath)) return;
  const [source, out] = await Promise.all([stat(sourcePath), stat(outPath).catch(() => undefined)]);
  if (out === undefined || source.ino !== out.ino || source.dev !== out.dev) return;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'the output must not be the source',
    expected: 'another file',
    got: outPath,
    fix: 'Choose another name for the output.',
  });
}

function isUrl(path: unknown): path is string {
  return typeof path === 'string' && /^https?:\/\//.test(path) && URL.canParse(path);
}

function statOf(path: string): Promise<Stats> {
  return stat(path).catch((error: unknown) => {
    throw fileUnreadableError(path, error);
  });
}

function isAbsent(cause: unknown): boolean {
  return cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
}

function notAFile(path: string): SamebitsError {
  return new SamebitsError('FILE_UNREADABLE', {
    rule: `${path} must be a regular file`,
    expected: 'a file that can be read at any offset',
    got: 'a directory, a pipe or a device',
    fix: 'Name the file itself.',
  });
}

function shrunk(name: string, sizeBytes: number, offset: number): SamebitsError {
  return new SamebitsError('FILE_TRUNCATED', {
    rule: `${name} must not change while it is read`,
    expected: `${sizeBytes} bytes, as when it was opened`,
    got: `its end at byte ${offset}`,
    fix: 'Wait until the file is complete and start again.',
  });
}

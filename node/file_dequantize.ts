// Writes one tensor of a checkpoint as raw little-endian f32: all of it, or nothing that has its name.

import { dequantizedSource, type ImportOptions, openModelCheckpoint } from '../core/index.js';
import { AtomicFile } from './file_sink.js';
import { locateModel, refuseSameFile } from './file_source.js';

export interface DequantizeFileOptions extends ImportOptions {
  /** Replace a file that is already at the output path. */
  readonly overwrite?: boolean;
  /** Ends between two slices by throwing the signal's reason. */
  readonly signal?: AbortSignal;
}

export interface DequantizeFileReport {
  readonly format: string;
  /** Row-major; [N, K] of a weight. */
  readonly shape: readonly number[];
  readonly outputBytes: number;
}

/**
 * @param sourcePath a checkpoint of any readable format
 * @throws SamebitsError FILE_EXISTS, FILE_UNREADABLE, FILE_UNWRITABLE, ARGUMENT_INVALID when the output is a source; those of
 * openModelCheckpoint and dequantizedSource
 */
export async function dequantizeFile(
  sourcePath: string,
  tensorName: string,
  outPath: string,
  options: DequantizeFileOptions = {},
): Promise<DequantizeFileReport> {
  const { folder, entry } = await locateModel(sourcePath);
  const model = await openModelCheckpoint(folder, entry);
  try {
    const { format, shape, slices } = await dequantizedSource(model, tensorName, options);
    for (const { name } of model.files) await refuseSameFile(name, outPath);
    const out = await AtomicFile.create(outPath, options.overwrite ?? false);
    let outputBytes = 0;
    try {
      for await (const values of slices()) {
        options.signal?.throwIfAborted();
        await out.writeAt(outputBytes, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
        outputBytes += values.byteLength;
      }
    } catch (error) {
      await out.discard();
      throw error;
    }
    await out.commit();
    return { format, shape, outputBytes };
  } finally {
    await model.close();
  }
}

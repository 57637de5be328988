// Converts a model on disk into a samebits file on disk: all of it, or nothing that has its name.

import {
  type ConversionControl,
  type ConversionReport,
  discardingSink,
  openModelCheckpoint,
  planConversion,
  runConversion,
  type SelectionOptions,
} from '../core/index.js';
import { runThreadedConversion, threadCount } from './convert_threads.js';
import { AtomicFile } from './file_sink.js';
import { locateModel, refuseSameFile } from './file_source.js';

export interface ConvertFileOptions extends SelectionOptions, ConversionControl {
  /** Replace a file that is already at the output path. */
  readonly overwrite?: boolean;
  /** Compute the report and write nothing. */
  readonly dryRun?: boolean;
  /** Default: as many as there are cores, up to what the source's size and the memory allow. The bytes are the same. */
  readonly threads?: number;
}

/**
 * @param sourcePath a model's folder, its .safetensors file, or the index of its shards
 * @param outPath written under a temporary name and renamed at the end; on any error nothing is left
 * @throws SamebitsError FILE_EXISTS, FILE_UNREADABLE, FILE_UNWRITABLE, ARGUMENT_INVALID when the output is a source or
 * `threads` cannot be started;
 * those of openModelCheckpoint, planConversion and runConversion
 */
export async function convertFile(
  sourcePath: string,
  outPath: string,
  options: ConvertFileOptions = {},
): Promise<ConversionReport> {
  const { onProgress, signal, overwrite, dryRun, threads: wanted, ...selection } = options;
  const { folder, entry } = await locateModel(sourcePath);
  const model = await openModelCheckpoint(folder, entry);
  try {
    const plan = await planConversion(model, selection);
    const threads = threadCount(plan, wanted);
    const run = (out: AtomicFile | undefined) =>
      threads === 1
        ? runConversion(plan, out ?? discardingSink, options)
        : runThreadedConversion(plan, threads, sourcePath, selection, out, options);
    if (dryRun) return await run(undefined);
    for (const { name } of model.files) await refuseSameFile(name, outPath);
    const out = await AtomicFile.create(outPath, overwrite ?? false);
    let report: ConversionReport;
    try {
      report = await run(out);
    } catch (error) {
      await out.discard();
      throw error;
    }
    await out.commit();
    return report;
  } finally {
    await model.close();
  }
}

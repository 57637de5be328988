// Proves inputs: on the device and on the reference where there is a device, else on the reference alone.

import {
  MemorySink,
  memorySource,
  openModelCheckpoint,
  openSamebitsFile,
  planConversion,
  runConversion,
  type SamebitsFile,
  verifyWeight,
} from '../../core/index.js';
import { blobSource } from '../blob_source.js';
import { filesFolder } from '../files_folder.js';
import type { JobContext } from './job.js';
import type { ProofSubject } from './messages.js';
import { fileSubjects, type Subject, tableSubjects } from './subjects.js';

export async function prove(subject: ProofSubject, context: JobContext<'prove'>): Promise<null> {
  if (subject.kind === 'table') {
    await run(tableSubjects(), context);
    return null;
  }
  const file =
    subject.kind === 'file'
      ? await openSamebitsFile(blobSource(subject.file, subject.file.name))
      : await packedModel(subject.files, context.signal);
  try {
    await run(fileSubjects(file), context);
  } finally {
    await file.close();
  }
  return null;
}

/** The model packed in memory, as `samebits convert` would write it. */
async function packedModel(files: readonly File[], signal: AbortSignal): Promise<SamebitsFile> {
  const model = await openModelCheckpoint(filesFolder(files));
  try {
    const sink = new MemorySink();
    await runConversion(await planConversion(model), sink, { signal });
    return await openSamebitsFile(memorySource(sink.bytes, model.name));
  } finally {
    await model.close();
  }
}

async function run(subjects: readonly Subject[], { device, emit, step }: JobContext<'prove'>): Promise<void> {
  if (subjects.length === 0) throw new Error('The file holds no packed weight.');
  const open = await device.get();
  emit({ kind: 'started', names: subjects.flatMap(({ names }) => names) });
  let index = 0;
  for (const subject of subjects) {
    const { weight, inputs } = await subject.load();
    for await (const result of verifyWeight(weight, inputs, open ? [open.backend] : [])) {
      emit({ kind: 'result', index: index++, result });
      await step();
    }
  }
}

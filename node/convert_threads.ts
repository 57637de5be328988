// Converts with several threads: each takes the next tensor of the plan, and all write to one file at their own places.

import { existsSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { type ConvertedTensor, conversionReport } from '../core/checkpoint/convert.js';
import {
  type ConversionControl,
  type ConversionPlan,
  type ConversionReport,
  SamebitsError,
  type SelectionOptions,
} from '../core/index.js';
import { errorOf, type ThreadReply, type ThreadSetup, type ThreadTask } from './convert_messages.js';
import type { AtomicFile } from './file_sink.js';

/** A thread holds up to 100 MiB, and a conversion must do with 1 GiB. */
const MAX_THREADS = 8;
/** What a thread must have to do to be worth its start, which takes as long as some of these. */
const MIN_THREAD_BYTES = 32 * 2 ** 20;

/**
 * How many threads a conversion takes: as many as are wanted, or as there are cores and are worth it. Unasked, it is 1 where
 * the worker's file is missing: in the sources, and in bundles of others.
 * @throws SamebitsError ARGUMENT_INVALID
 */
export function threadCount(plan: ConversionPlan, wanted: number | undefined): number {
  const isMissing = workerPath() === undefined;
  if (wanted !== undefined && (!Number.isSafeInteger(wanted) || wanted < 1 || (isMissing && wanted > 1))) {
    throw new SamebitsError('ARGUMENT_INVALID', {
      rule: 'threads must be a number of threads that can be started',
      expected: isMissing ? '1, for convert_worker.js is not beside the library' : 'an integer, 1 or more',
      got: String(wanted),
      fix: isMissing
        ? 'Run the library as it is built, not bundled anew.'
        : 'Leave it out for as many as there are cores.',
    });
  }
  if (isMissing) return 1;
  const worthwhile = Math.min(availableParallelism(), Math.floor(plan.sourceBytes / MIN_THREAD_BYTES));
  return Math.max(1, Math.min(wanted ?? worthwhile, plan.tensors.length, MAX_THREADS));
}

/** Beside this module in a build, be it a chunk or an entry. */
function workerPath(): string | undefined {
  const here = dirname(fileURLToPath(import.meta.url));
  return ['node', '.'].map((folder) => join(here, folder, 'convert_worker.js')).find((path) => existsSync(path));
}

/**
 * What runConversion does, with the same bytes and the same report.
 * @param out undefined to write nothing
 * @throws as runConversion; of several tensors that cannot be converted, the error of the first
 */
export async function runThreadedConversion(
  plan: ConversionPlan,
  threads: number,
  sourcePath: string,
  options: SelectionOptions,
  out: AtomicFile | undefined,
  control: ConversionControl,
): Promise<ConversionReport> {
  control.signal?.throwIfAborted();
  await out?.writeAt(0, plan.output.header);
  const setup: ThreadSetup = {
    sourcePath,
    options,
    header: plan.output.header,
    out: out && { path: out.path, temporaryPath: out.temporaryPath },
  };
  const path = workerPath()!;
  // Without the flags of this process, some of which (--input-type) no file can be run with.
  const workers = Array.from({ length: threads }, () => new Worker(path, { workerData: setup, execArgv: [] }));
  try {
    return conversionReport(plan, await convertAll(plan, workers, control));
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
}

function convertAll(
  plan: ConversionPlan,
  workers: readonly Worker[],
  { onProgress, signal }: ConversionControl,
): Promise<readonly ConvertedTensor[]> {
  const converted: ConvertedTensor[] = [];
  const busyWith = new Map<Worker, number>();
  let next = 0;
  let doneBytes = 0;
  let isOver = false;
  let first: { readonly index: number; readonly error: unknown } | undefined;
  return new Promise((resolve, reject) => {
    const end = (settle: () => void) => {
      isOver = true;
      signal?.removeEventListener('abort', abort);
      settle();
    };
    const abort = () => end(() => reject(signal?.reason));
    signal?.addEventListener('abort', abort);
    /** Gives the thread its next tensor; ends when there is nothing more to wait for. */
    const assign = (worker: Worker) => {
      if (first === undefined && next < plan.tensors.length) {
        const task: ThreadTask = { index: next++ };
        busyWith.set(worker, task.index);
        worker.postMessage(task);
        return;
      }
      // Tensors are begun in order, so whatever could fail before the first failure has been begun.
      const failure = first;
      const isWaiting = [...busyWith.values()].some((index) => failure === undefined || index < failure.index);
      if (!isWaiting) end(() => (failure ? reject(failure.error) : resolve(converted)));
    };
    const fail = (worker: Worker, index: number, error: unknown) => {
      if (first === undefined || index < first.index) first = { index, error };
      busyWith.delete(worker);
      assign(worker);
    };
    const take = (worker: Worker, reply: ThreadReply) => {
      if (isOver) return;
      if (reply.kind === 'failed') {
        fail(worker, reply.index, errorOf(reply.failure));
      } else if (reply.kind === 'converted') {
        converted[reply.index] = reply.tensor;
        busyWith.delete(worker);
        assign(worker);
      } else {
        doneBytes += reply.bytes;
        report(plan.tensors[reply.index]!.name);
      }
    };
    const report = (tensor: string) => {
      try {
        onProgress?.({ doneBytes, totalBytes: plan.sourceBytes, tensor });
      } catch (error) {
        end(() => reject(error));
      }
    };
    for (const worker of workers) {
      worker.on('message', (reply: ThreadReply) => take(worker, reply));
      worker.on('error', (error) => fail(worker, busyWith.get(worker) ?? plan.tensors.length, error));
      assign(worker);
    }
  });
}

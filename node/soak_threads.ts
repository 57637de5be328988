// The soak on several threads of one process: on a GPU they share one context, which processes would have to take turns at.

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SHARE_ENV, Worker } from 'node:worker_threads';
import { type BackendName, type ErrorCode, type ErrorDetails, SamebitsError } from '../core/index.js';
import { mergedReport, type SoakOptions, type SoakReport } from './soak.js';

/** What a thread is started with: it opens these backends for itself and runs the cases first, first + step, ... */
export interface SoakShare extends Required<Pick<SoakOptions, 'count' | 'seed' | 'first' | 'step'>> {
  readonly names: readonly BackendName[];
  /** Shared by all threads: at DONE the cases that they have done, at STOP whether they are to do no more. */
  readonly control: BigInt64Array<SharedArrayBuffer>;
}
export const DONE = 0;
export const STOP = 1;

/** What a thread says: that its backends are open, and how its share ended. */
export type SoakMessage =
  | { readonly kind: 'open' }
  | { readonly kind: 'done'; readonly report: SoakReport }
  | { readonly kind: 'refused'; readonly code: ErrorCode; readonly details: ErrorDetails };

const PROGRESS_MS = 100;

/**
 * Runs the cases on `threads` threads, each with its own backends of these names and its own share; the report is that of
 * one thread. The first thread that fails stops the others.
 * @throws SamebitsError what a backend of any thread refused with; FILE_UNREADABLE when the thread's code is not there
 */
export async function soakOnThreads(
  names: readonly BackendName[],
  threads: number,
  { count, seed, onProgress = () => {} }: Pick<SoakOptions, 'count' | 'seed' | 'onProgress'>,
): Promise<SoakReport> {
  const control = new BigInt64Array(new SharedArrayBuffer(2 * BigInt64Array.BYTES_PER_ELEMENT));
  const path = workerPath();
  const step = Math.min(threads, count);
  const progress = setInterval(() => onProgress(Number(Atomics.load(control, DONE))), PROGRESS_MS);
  const stop = () => Atomics.store(control, STOP, 1n);
  const shares: Promise<SoakReport>[] = [];
  try {
    for (let first = 0; first < step && Atomics.load(control, STOP) === 0n; first++) {
      const { opened, ended } = startThread(path, { names, count, seed, first, step, control });
      shares.push(ended);
      ended.catch(stop);
      // One after the other: a device may be found through the environment, which all threads share.
      await opened;
    }
    const results = await Promise.allSettled(shares);
    const failed = results.find((result) => result.status === 'rejected');
    if (failed) throw failed.reason;
    return mergedReport(results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])));
  } finally {
    clearInterval(progress);
  }
}

/** `opened` resolves when the thread's backends are open or it has ended; `ended` when the thread is gone. */
function startThread(path: string, share: SoakShare): { opened: Promise<void>; ended: Promise<SoakReport> } {
  const worker = new Worker(path, { workerData: share, env: SHARE_ENV });
  let outcome: SoakMessage = { kind: 'open' };
  let crash: unknown;
  const opened = new Promise<void>((resolve) => {
    worker.once('message', () => resolve());
    worker.once('exit', () => resolve());
  });
  const ended = new Promise<SoakReport>((resolve, reject) => {
    worker.on('message', (message: SoakMessage) => {
      outcome = message;
    });
    worker.once('error', (error) => {
      crash = error;
    });
    worker.once('exit', () => {
      if (crash !== undefined) reject(crash);
      else if (outcome.kind === 'done') resolve(outcome.report);
      else reject(outcome.kind === 'refused' ? new SamebitsError(outcome.code, outcome.details) : unfinished(share));
    });
  });
  return { opened, ended };
}

function unfinished({ first, step }: SoakShare): SamebitsError {
  return new SamebitsError('DEVICE_FAILURE', {
    rule: 'a thread of the soak must finish its cases',
    expected: `a report of every ${step}th case from ${first} on`,
    got: 'a thread that ended without one',
    fix: "Run it again with '--threads 1'.",
  });
}

/** The built file, seen from an entry or a chunk of the built library or from the sources of a clone. */
function workerPath(): string {
  const here = dirname(fileURLToPath(import.meta.url));
  const paths = ['.', 'node', '../dist/node'].map((folder) => join(here, folder, 'soak_worker.js'));
  const found = paths.find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new SamebitsError('FILE_UNREADABLE', {
    rule: 'what a thread of the soak runs must be installed',
    expected: 'soak_worker.js',
    got: `none of ${paths.join(', ')}`,
    fix: "Run 'npm run build', or install samebits again.",
  });
}

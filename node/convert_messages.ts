// What the thread that converts a file and the threads that help it say to each other.

import type { ConvertedTensor } from '../core/checkpoint/convert.js';
import { type ErrorCode, type ErrorDetails, SamebitsError, type SelectionOptions } from '../core/index.js';
import type { AtomicFilePaths } from './file_sink.js';

/** What a thread needs to make the same plan again. */
export interface ThreadSetup {
  readonly sourcePath: string;
  readonly options: SelectionOptions;
  /** The planned file's first bytes: a thread that plans anything else has read a source that changed. */
  readonly header: Uint8Array;
  /** Undefined when nothing is written. */
  readonly out: AtomicFilePaths | undefined;
}

/** The tensor of the plan that a thread is to convert next. */
export interface ThreadTask {
  readonly index: number;
}

export type ThreadReply =
  | { readonly kind: 'advanced'; readonly index: number; readonly bytes: number }
  | { readonly kind: 'converted'; readonly index: number; readonly tensor: ConvertedTensor }
  | { readonly kind: 'failed'; readonly index: number; readonly failure: ThreadFailure };

/** An error as it crosses between threads: a SamebitsError keeps its code and its parts. */
export interface ThreadFailure {
  readonly message: string;
  readonly refusal?: { readonly code: ErrorCode; readonly details: Omit<ErrorDetails, 'cause'> };
}

export function failureOf(error: unknown): ThreadFailure {
  if (error instanceof SamebitsError) {
    const { message, code, rule, expected, got, fix } = error;
    return { message, refusal: { code, details: { rule, expected, got, fix } } };
  }
  return { message: error instanceof Error ? (error.stack ?? error.message) : String(error) };
}

export function errorOf({ message, refusal }: ThreadFailure): Error {
  return refusal ? new SamebitsError(refusal.code, refusal.details) : new Error(message);
}

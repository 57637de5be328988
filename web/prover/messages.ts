// What the page and its prover worker say to each other.

import type { DeviceInfo, ErrorDetails, ParityResult } from '../../core/index.js';

/** Runs the built-in case table, or every packed weight of a samebits file at several M. */
export type ProverRequest = { readonly kind: 'table' } | { readonly kind: 'file'; readonly file: File };

/** The device that the worker opened. */
export interface DeviceReport {
  readonly info: DeviceInfo;
  readonly limits: Readonly<Record<string, number>>;
  readonly features: readonly string[];
}

/** An error as it crosses to the page: a SamebitsError keeps its code and its parts. */
export interface Failure {
  readonly message: string;
  readonly code?: string;
  readonly details?: Pick<ErrorDetails, 'rule' | 'expected' | 'got' | 'fix'>;
}

export type ProverReply =
  | { readonly kind: 'device'; readonly device: DeviceReport }
  /** No WebGPU here; nothing else will follow. */
  | { readonly kind: 'unavailable'; readonly failure: Failure }
  /** The inputs of a run, by name, in the order of their results. */
  | { readonly kind: 'started'; readonly names: readonly string[] }
  | { readonly kind: 'result'; readonly index: number; readonly result: ParityResult }
  | { readonly kind: 'finished' }
  /** The run ended early. */
  | { readonly kind: 'failed'; readonly failure: Failure };

// What the page and its worker say to each other: the device as it comes and goes, and jobs, each on a port of its own.

import type {
  BitDifference,
  DeviceInfo,
  ErrorDetails,
  GenerationTimes,
  Layout,
  OutputType,
  ParityResult,
  WeightChange,
} from '../../core/index.js';

/** Milliseconds of each step from nothing to the first result. */
export interface ColdStart {
  /** The adapter and its device. */
  readonly deviceMs: number;
  /** The first pipelines, and the choice of a variant. */
  readonly kernelsMs: number;
  /** A small weight up, and its first matvec back. */
  readonly firstMatvecMs: number;
}

/** The device that the worker opened. */
export interface DeviceReport {
  readonly info: DeviceInfo;
  readonly limits: Readonly<Record<string, number>>;
  readonly features: readonly string[];
  /** Extensions of WGSL that the browser knows. */
  readonly languageFeatures: readonly string[];
  readonly coldStart: ColdStart;
}

/** An error as it crosses to the page: a SamebitsError keeps its code and its parts. */
export interface Failure {
  readonly message: string;
  readonly code?: string;
  readonly details?: Pick<ErrorDetails, 'rule' | 'expected' | 'got' | 'fix'>;
}

/** What the worker says unasked. */
export type DeviceMessage =
  | { readonly kind: 'device'; readonly device: DeviceReport }
  | { readonly kind: 'unavailable'; readonly failure: Failure };

/** The built-in case table, every packed weight of a samebits file, or a model that is packed first. */
export type ProofSubject =
  | { readonly kind: 'table' }
  | { readonly kind: 'file'; readonly file: File }
  | { readonly kind: 'model'; readonly files: readonly File[] };

export type ProofEvent =
  /** The inputs of a run, by name, in the order of their results. */
  | { readonly kind: 'started'; readonly names: readonly string[] }
  | { readonly kind: 'result'; readonly index: number; readonly result: ParityResult };

/** One linear of the race, at M = 1. */
export interface RaceShape {
  readonly label: string;
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
}

export const CONTENDERS = ['native', 'coalesced', 'dequantized'] as const;
export type Contender = (typeof CONTENDERS)[number];

/** What one contender needed for one shape. */
export interface RaceTiming {
  readonly contender: Contender;
  /** Device time of one matvec. */
  readonly medianUs: number;
  readonly minUs: number;
  readonly maxUs: number;
  /** Bytes that it reads and writes, activations and output included. */
  readonly movedBytes: number;
  readonly bandwidthGBps: number;
}

export type RaceEvent =
  /** A shape is begun; `n` is smaller than what was asked for where memory sets a cap. */
  | { readonly kind: 'shape'; readonly index: number; readonly n: number }
  | {
      readonly kind: 'stage';
      readonly index: number;
      readonly contender: Contender;
      readonly stage: 'upload' | 'check' | 'time';
    }
  | { readonly kind: 'timing'; readonly index: number; readonly timing: RaceTiming }
  /** This contender could not run, or gave other bits: no figure. */
  | { readonly kind: 'refused'; readonly index: number; readonly contender: Contender; readonly failure: Failure };

/** One line of what a file holds. */
export interface ListedTensor {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly sizeBytes: number;
  /** `packed` is ready to multiply, `packable` can be packed here; the others cannot be used, or need not. */
  readonly use: 'packed' | 'packable' | 'plain' | 'refused';
  /** Of a packed or packable weight that has 4 bits already. */
  readonly groupSize?: number;
  /** Of a packed weight, for people. */
  readonly form?: string;
  /** Why it is packed or not. */
  readonly reason: string;
  readonly failure?: Failure;
}

/** What was dropped. */
export interface Listing {
  readonly name: string;
  readonly format: string;
  readonly sizeBytes: number;
  /** The first of them; see `count`. */
  readonly tensors: readonly ListedTensor[];
  readonly count: number;
  /** Why the file cannot be loaded as it is: it needs packing first. Absent for a samebits file. */
  readonly refusal?: Failure;
}

export interface OpenRequest {
  readonly files: readonly File[];
  /** The answer to what the file cannot say of itself. */
  readonly layout?: Layout;
}

export interface PackRequest {
  /** A tensor of the open file. */
  readonly name: string;
  /** For a weight that is not quantized yet. */
  readonly groupSize: number;
}

export type PackEvent =
  | { readonly kind: 'packing'; readonly doneBytes: number; readonly totalBytes: number }
  | { readonly kind: 'multiplying' };

/** One product of the packed weight, on the backend and on the reference. */
export interface Product {
  readonly m: number;
  readonly sha256: string;
  readonly difference: (BitDifference & { readonly outputType: OutputType }) | null;
  /** Relative error in the norm against the packed weights times x in f64: what int8 activations cost. */
  readonly activationError: number;
}

export interface PackResult {
  readonly name: string;
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  /** Where it was multiplied; undefined when only the reference was here. */
  readonly device?: string;
  readonly products: readonly Product[];
  /** What packing did to the weights; undefined for a weight that was packed already. */
  readonly change?: WeightChange;
  readonly sourceBytes: number;
  readonly packedBytes: number;
  /** What the packed weight keeps of a group, for people. */
  readonly form: string;
  /** A samebits file with this one weight; undefined for a weight that was packed already. */
  readonly file?: Blob;
  readonly elapsedMs: number;
}

export interface WriteRequest {
  /** The small model, packed. */
  readonly file: Blob;
  /** On the reference, too, where there is no device. */
  readonly on: 'device' | 'reference';
  readonly prompt: string;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topK: number;
  readonly seed: number;
}

export type WriteEvent =
  | { readonly kind: 'loading'; readonly doneBytes: number; readonly totalBytes: number }
  /** The model is on this device. */
  | { readonly kind: 'ready'; readonly device: string; readonly isSoftware: boolean }
  /** One token more; its text is whole characters, perhaps none. */
  | { readonly kind: 'text'; readonly delta: string; readonly decodedTokens: number; readonly decodeMs: number };

/** Every job: what it is asked with, what it says on the way, what it ends with. */
export interface Jobs {
  readonly prove: { readonly request: ProofSubject; readonly event: ProofEvent; readonly result: null };
  readonly race: { readonly request: readonly RaceShape[]; readonly event: RaceEvent; readonly result: null };
  readonly open: { readonly request: OpenRequest; readonly event: never; readonly result: Listing };
  readonly pack: { readonly request: PackRequest; readonly event: PackEvent; readonly result: PackResult };
  readonly write: {
    readonly request: WriteRequest;
    readonly event: WriteEvent;
    readonly result: GenerationTimes;
  };
}

export type JobName = keyof Jobs;

/** Begins a job; `port` carries its replies, and to the worker one message, which cancels it. */
export type JobStart = {
  [J in JobName]: { readonly job: J; readonly request: Jobs[J]['request']; readonly port: MessagePort };
}[JobName];

export type JobReply<J extends JobName> =
  | { readonly kind: 'event'; readonly event: Jobs[J]['event'] }
  | { readonly kind: 'done'; readonly result: Jobs[J]['result'] }
  | { readonly kind: 'failed'; readonly failure: Failure }
  | { readonly kind: 'cancelled' };

// The native module of the CUDA side: its types, where it is found, and what its failures become.

import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { unavailableError } from '../core/backend.js';
import { type ErrorCode, SamebitsError } from '../core/errors.js';
import type { WeightShape } from '../core/limits.js';

declare const kind: unique symbol;
/** An opaque handle of the addon; it owns device memory until `release`. */
export interface NativeHandle<Kind extends string> {
  readonly [kind]: Kind;
}
export type NativeDevice = NativeHandle<'device'>;
export type NativeWeight = NativeHandle<'weight'>;
export type NativeBuffer = NativeHandle<'buffer'>;
export type NativePlan = NativeHandle<'plan'>;
export type NativeDecoder = NativeHandle<'decoder'>;
export type NativeCache = NativeHandle<'cache'>;

/** What a device owns. */
export type NativeResource = NativeWeight | NativeBuffer | NativePlan | NativeDecoder | NativeCache;

/** One array of a packed weight, as the native border checks it. */
export interface NativeOperand {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly sizeBytes: number;
}

/** A packed weight without its data; of the optional operands it has those of its form. */
export interface NativeWeightDescription {
  /** `coalesced-int4`, or `native-int4` for the benchmark's comparison. */
  readonly layout: string;
  /** `zero` when there is none. */
  readonly form?: string;
  /** 0 when there is none. */
  readonly center?: number;
  readonly groupSize: number;
  readonly qdata: NativeOperand;
  readonly scale: NativeOperand;
  readonly zeroPoint?: NativeOperand;
  readonly offset?: NativeOperand;
  readonly scaleStep?: NativeOperand;
  readonly zeroPointStep?: NativeOperand;
  readonly offsetStep?: NativeOperand;
}

export interface NativeProbe {
  /** The CUDA error's name; null when there is at least a runtime that answers. */
  readonly error: string | null;
  /** CUDA versions as CUDA writes them: 13000 is 13.0, 0 is no driver. */
  readonly driverVersion: number;
  readonly runtimeVersion: number;
  readonly devices: readonly {
    readonly name: string;
    readonly computeCapability: string;
    readonly memoryBytes: number;
  }[];
}

export interface NativeDeviceInfo {
  readonly handle: NativeDevice;
  readonly name: string;
  readonly computeCapability: string;
  readonly memoryBytes: number;
  /** L2. */
  readonly cacheSizeBytes: number;
  readonly multiprocessorCount: number;
  readonly driverVersion: number;
  readonly runtimeVersion: number;
}

export interface NativePlanStep {
  readonly m: number;
  readonly x: NativeBuffer;
  readonly weight: NativeWeight;
  readonly y: NativeBuffer;
  readonly outputBf16: boolean;
}

/** One layer's attention; `rotaryOffset` is where its pairs begin in the floats of a step. */
export interface NativeDecoderLayer {
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headSize: number;
  readonly window: number | null;
  readonly hasValueProjection: boolean;
  readonly frequencies: number;
  readonly rotaryOffset: number;
  readonly queryNorm: NativeBuffer;
  readonly keyNorm: NativeBuffer;
}

/** One operation of core/model/step.ts with what it needs on the device; the last one is always `softCap`. */
export type NativeOperation =
  | { readonly kind: 'embed' | 'gelu' | 'softCap' }
  | { readonly kind: 'heads' | 'attention'; readonly layer: number }
  | {
      readonly kind: 'linear';
      readonly layer: number;
      readonly weight: NativeWeight;
      readonly x: string;
      readonly y: string;
    }
  | {
      readonly kind: 'norm';
      readonly branchWeight: NativeBuffer | null;
      readonly nextWeight: NativeBuffer;
      readonly scalar: number;
    };

export interface NativeDecoderDescription {
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly vocabularySize: number;
  readonly epsilon: number;
  /** 0 for none. */
  readonly softCap: number;
  readonly embeddingScale: number;
  /** Floats of a step's rotary embedding. */
  readonly rotaryFloats: number;
  /** bf16[vocabulary, hidden] */
  readonly embedding: NativeBuffer;
  readonly layers: readonly NativeDecoderLayer[];
  readonly operations: readonly NativeOperation[];
}

/** What cuda/addon.cc exports. Arrays are copied before a call returns; failures carry the parts of SamebitsError. */
export interface NativeAddon {
  /** Hash of the kernel sources that the addon was built from. */
  readonly sourcesSha256: string;
  probe(): Promise<NativeProbe>;
  /** The native border alone, on the host: the same checks, in the same code, that every upload passes. */
  validateWeight(
    description: NativeWeightDescription,
    scale: Uint16Array | Uint8Array,
    second: Uint16Array | Uint8Array,
    scaleStep?: Uint16Array,
    secondStep?: Uint16Array,
  ): WeightShape & { readonly weightExponent: number };
  openDevice(deviceIndex: number): Promise<NativeDeviceInfo>;
  /** Takes device memory for a weight, to be filled in order by appendQdata, and appendScales or appendNestedScales. */
  beginUpload(
    device: NativeDevice,
    description: NativeWeightDescription,
    native: boolean,
    baseline?: boolean,
  ): Promise<WeightShape & { readonly handle: NativeWeight; readonly sizeBytes: number }>;
  appendQdata(weight: NativeWeight, bytes: Uint8Array): Promise<void>;
  /** `second` is the zero point or the offset. */
  appendScales(weight: NativeWeight, scale: Uint16Array, second: Uint16Array): Promise<void>;
  /** Of a nested form: codes of the groups of whole steps, and these. */
  appendNestedScales(
    weight: NativeWeight,
    scale: Uint8Array,
    second: Uint8Array,
    scaleStep: Uint16Array,
    secondStep: Uint16Array,
  ): Promise<void>;
  finishUpload(weight: NativeWeight): void;
  linear(weight: NativeWeight, x: Uint16Array, outputBf16: boolean): Promise<ArrayBuffer>;
  createBuffer(device: NativeDevice, sizeBytes: number): Promise<NativeBuffer>;
  writeBuffer(buffer: NativeBuffer, bytes: Uint8Array): Promise<void>;
  fillBuffer(buffer: NativeBuffer, offset: number, bytes: Uint8Array): Promise<void>;
  readBuffer(buffer: NativeBuffer): Promise<ArrayBuffer>;
  createPlan(device: NativeDevice, steps: readonly NativePlanStep[]): Promise<NativePlan>;
  runPlan(plan: NativePlan): Promise<void>;
  timePlan(plan: NativePlan, replays: number): Promise<number[]>;
  readBandwidthGBps(device: NativeDevice, sizeBytes: number, replays: number): Promise<number>;
  /** The decoder keeps what the description names; its handles may be released. */
  createDecoder(
    device: NativeDevice,
    description: NativeDecoderDescription,
  ): Promise<{ readonly handle: NativeDecoder; readonly sizeBytes: number }>;
  cacheSizeBytes(decoder: NativeDecoder, capacity: number): number;
  openCache(decoder: NativeDecoder, capacity: number): Promise<NativeCache>;
  /** Resolves to the token for `greedy`, to f32 logits where they are wanted. */
  runStep(
    cache: NativeCache,
    tokens: Int32Array,
    position: number,
    wants: string,
    rotary: Float32Array,
  ): Promise<number | ArrayBuffer | undefined>;
  /** Microseconds of each of `replays` runs of the operations of these kinds; the cache then holds anything. */
  timeStep(
    cache: NativeCache,
    m: number,
    position: number,
    wants: string,
    kinds: readonly string[],
    rotary: Float32Array,
    replays: number,
  ): Promise<number[]>;
  /** Frees what the handle owns once no call uses it. */
  release(handle: NativeDevice | NativeResource): Promise<void>;
}

export interface LoadedAddon {
  readonly native: NativeAddon;
  readonly path: string;
}

/** Where the addon may be, seen from a chunk or an entry of the built library or from the sources of a clone. */
function candidatePaths(): readonly string[] {
  const chosen = process.env['SAMEBITS_CUDA_ADDON'];
  if (chosen) return [chosen];
  const here = dirname(fileURLToPath(import.meta.url));
  return ['cuda', '../cuda', '../dist/cuda'].map((folder) => join(here, folder, 'samebits_cuda.node'));
}

/**
 * Loads the addon, from SAMEBITS_CUDA_ADDON when that is set; loading needs no driver.
 * @throws SamebitsError BACKEND_UNAVAILABLE listing every path that was tried and why it failed
 */
export function loadCudaAddon(): LoadedAddon {
  const require = createRequire(import.meta.url);
  const attempts: string[] = [];
  const causes: unknown[] = [];
  for (const path of candidatePaths()) {
    try {
      const native: NativeAddon = require(path);
      return { native, path };
    } catch (error) {
      attempts.push(`${path}: ${error instanceof Error ? error.message.split('\n')[0] : String(error)}`);
      causes.push(error);
    }
  }
  throw unavailableError(
    'cuda',
    `the addon does not load (${attempts.join('; ')})`,
    "Install the CUDA toolkit (nvcc) and g++ and run 'npm run build', or use the webgpu or cpu backend.",
    causes,
  );
}

const NATIVE_CODES: readonly ErrorCode[] = [
  'LAYOUT_NATIVE_SCALE',
  'LAYOUT_WRONG_TYPE',
  'DTYPE_MISMATCH',
  'SHAPE_MISMATCH',
  'BYTE_LENGTH_MISMATCH',
  'N_UNSUPPORTED',
  'K_UNSUPPORTED',
  'GROUP_SIZE_UNSUPPORTED',
  'FORM_UNKNOWN',
  'FORM_UNSUPPORTED',
  'SCALE_NOT_FINITE',
  'ZERO_POINT_NOT_FINITE',
  'OFFSET_NOT_FINITE',
  'ZERO_POINT_OUT_OF_RANGE',
  'WEIGHT_EXPONENT_OUT_OF_RANGE',
  'M_UNSUPPORTED',
  'INPUT_LENGTH_MISMATCH',
  'ARGUMENT_INVALID',
  'DISPOSED',
  'BACKEND_MISMATCH',
  'BACKEND_UNAVAILABLE',
  'HOST_OUT_OF_MEMORY',
  'DEVICE_OUT_OF_MEMORY',
  'DEVICE_LOST',
  'DEVICE_FAILURE',
];

/** A failure of the addon as a SamebitsError; the addon's error, with the CUDA error's name, is its cause. */
export function samebitsErrorFrom(error: unknown): unknown {
  if (!(error instanceof Error) || error instanceof SamebitsError || !('code' in error)) return error;
  const code = NATIVE_CODES.find((known) => known === error.code);
  if (code === undefined) return error;
  return new SamebitsError(code, {
    rule: part(error, 'rule'),
    expected: part(error, 'expected'),
    got: part(error, 'got'),
    fix: part(error, 'fix'),
    cause: error,
  });
}

function part(error: object, name: string): string {
  return String(Object.getOwnPropertyDescriptor(error, name)?.value ?? '');
}

/** What `doctor` shows of CUDA without opening a device. */
export interface CudaProbe extends Omit<NativeProbe, 'error'> {
  readonly available: boolean;
  /** Why it is not available; empty when it is. */
  readonly reason: string;
  /** Null when the addon does not load. */
  readonly addonPath: string | null;
  readonly sourcesSha256: string | null;
}

/** Looks for the addon, the driver and devices; never rejects for want of them. */
export async function probeCuda(): Promise<CudaProbe> {
  let addon: LoadedAddon;
  try {
    addon = loadCudaAddon();
  } catch (error) {
    if (!(error instanceof SamebitsError)) throw error;
    const nothing = { driverVersion: 0, runtimeVersion: 0, devices: [], addonPath: null, sourcesSha256: null };
    return { available: false, reason: error.got, ...nothing };
  }
  const { error, ...found } = await addon.native.probe();
  const reason = error ?? (found.devices.length === 0 ? 'no device' : '');
  return {
    available: reason === '',
    reason,
    ...found,
    addonPath: addon.path,
    sourcesSha256: addon.native.sourcesSha256,
  };
}

// The backend seam: one interface for cuda, webgpu and cpu. These comments are the contract that each of them keeps.

import type { CoalescedInt4Tensor } from './coalesced_int4_tensor.js';
import { SamebitsError } from './errors.js';
import type { Int4Tensor } from './int4_tensor.js';
import type { WeightShape } from './limits.js';
import type { Activations } from './linear.js';
import type { DecoderSource, DeviceCache, DeviceDecoder, LoadOptions } from './model/decoder_backend.js';
import type { Operation } from './model/step.js';
import type { OutputType } from './reference.js';
import type { ScaleLayout } from './validate.js';

export type BackendName = 'cuda' | 'webgpu' | 'cpu';

/** What a backend runs on. */
export interface DeviceInfo {
  /** For people: `NVIDIA H200`, `SwiftShader`. */
  readonly name: string;
  /** True when no hardware accelerator does the arithmetic; timings then say nothing about one. */
  readonly isSoftware: boolean;
  /** Driver, API, architecture, chosen kernel variant: whatever identifies a measurement. */
  readonly details: Readonly<Record<string, string>>;
}

/** A packed weight in device memory. Belongs to the backend that uploaded it. */
export interface DeviceWeight extends WeightShape {
  readonly layout: ScaleLayout;
  /** Bytes of device memory held until dispose. */
  readonly sizeBytes: number;
  /** Frees the device memory once no call that uses it is in flight. A second dispose does nothing. */
  dispose(): void;
}

/** Plain device memory for activations and outputs of plans. */
export interface DeviceBuffer {
  readonly sizeBytes: number;
  /** Copies all of `bytes` (sizeBytes of them) to the device; `bytes` may be reused when this resolves. */
  write(bytes: Uint8Array): Promise<void>;
  /** A copy of the contents, in order after everything submitted before. */
  read(): Promise<Uint8Array>;
  dispose(): void;
}

/** One linear of a plan: y = x · weightᵀ, all on the device. */
export interface PlanStep {
  readonly m: number;
  /** bf16[M, K], tightly packed. */
  readonly x: DeviceBuffer;
  readonly weight: DeviceWeight;
  /** f32[M, N] or bf16[M, N], tightly packed; a bf16 y may be the x of a later step. */
  readonly y: DeviceBuffer;
  readonly outputType: OutputType;
}

/** A fixed sequence of linears, recorded once. Consecutive steps with the same x quantize it once. */
export interface Plan {
  /** Runs every step in order; resolves when the outputs are in their buffers. */
  run(): Promise<void>;
  dispose(): void;
}

export interface LinearOptions {
  /** Default f32. */
  readonly outputType?: OutputType;
}

export interface UploadOptions {
  /** Called as pieces reach the device. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
}

/** What only the benchmark needs: the baselines, device time, and the read roof. */
export interface BenchmarkSupport {
  /**
   * Uploads scale and zeroPoint in the old order, [nGroups, N], for a kernel that indexes them so: on CUDA the plain
   * kernel of uploadPlain, on WebGPU the kernel in use. Not on cpu.
   */
  uploadNative?(weight: Int4Tensor): Promise<DeviceWeight>;
  /**
   * Uploads for the plain kernel that the layout's pull request describes, scales in [N, nGroups]: the named baseline.
   * Its results have the bits of the reference too. Only where that kernel is kept.
   */
  uploadPlain?(weight: CoalescedInt4Tensor): Promise<DeviceWeight>;
  /** Device time of each of `replays` runs of the plan, in microseconds. */
  timePlan(plan: Plan, replays: number): Promise<readonly number[]>;
  /**
   * Device time of the operations of these kinds in a step of one token at `position`, of each of `replays` runs, in
   * microseconds. The cache then holds anything. Not on cpu.
   */
  timeStep?(
    cache: DeviceCache,
    position: number,
    kinds: readonly Operation['kind'][],
    replays: number,
  ): Promise<readonly number[]>;
  /** Largest rate, in GB/s (1e9), at which this device reads `sizeBytes` of memory, over `replays` attempts. */
  readBandwidthGBps(sizeBytes: number, replays: number): Promise<number>;
  /** Bytes of the last-level cache that rotating weights must exceed; 0 when it is not known. */
  readonly cacheSizeBytes: number;
}

/** Why a backend is not the one that 'auto' chose. */
export interface PassedOver {
  readonly name: BackendName;
  readonly reason: string;
}

/**
 * One device and its kernels. Calls may run concurrently. Every method rejects with a SamebitsError: DISPOSED after
 * dispose, DEVICE_LOST once the device is gone, BACKEND_MISMATCH for a handle of another backend.
 */
export interface Backend {
  readonly name: BackendName;
  readonly device: DeviceInfo;
  /** What 'auto' tried before this backend, in order; empty after an explicit choice. */
  readonly passedOver: readonly PassedOver[];

  /**
   * Validates the weight again and copies it to the device. `weight` may be dropped when this resolves.
   * @throws SamebitsError LAYOUT_WRONG_TYPE for anything but a CoalescedInt4Tensor; DEVICE_OUT_OF_MEMORY
   */
  upload(weight: CoalescedInt4Tensor, options?: UploadOptions): Promise<DeviceWeight>;

  /**
   * y = x · weightᵀ, with the bits of the reference: f32[M, N], or bf16[M, N] bit patterns. Any M; x is read before
   * this returns its promise.
   */
  linear(x: Activations, weight: DeviceWeight, options?: { readonly outputType?: 'f32' }): Promise<Float32Array>;
  linear(x: Activations, weight: DeviceWeight, options: { readonly outputType: 'bf16' }): Promise<Uint16Array>;
  linear(x: Activations, weight: DeviceWeight, options?: LinearOptions): Promise<Float32Array | Uint16Array>;

  /** Zeroed device memory. @throws SamebitsError DEVICE_OUT_OF_MEMORY, DEVICE_LIMIT */
  createBuffer(sizeBytes: number): Promise<DeviceBuffer>;

  /** Records `steps`; shapes, sizes and owners are checked here, not at run time. */
  plan(steps: readonly PlanStep[]): Promise<Plan>;

  /**
   * Loads a decoder's weights, one at a time.
   * @throws SamebitsError DEVICE_OUT_OF_MEMORY; DEVICE_LIMIT; SHAPE_MISMATCH for a weight that is not the configuration's
   */
  loadDecoder(source: DecoderSource, options?: LoadOptions): Promise<DeviceDecoder>;

  readonly benchmark: BenchmarkSupport;

  /** Frees everything that was made by this backend. A device given by the caller is left alone. */
  dispose(): Promise<void>;
}

/** Bytes of the activations and of the output of a step with these rows, features and output type. */
export function stepSizeBytes(
  m: number,
  shape: WeightShape,
  outputType: OutputType,
): { xBytes: number; yBytes: number } {
  return { xBytes: m * shape.k * 2, yBytes: m * shape.n * (outputType === 'f32' ? 4 : 2) };
}

/** @throws SamebitsError BYTE_LENGTH_MISMATCH when a step's buffers are not exactly its shapes */
export function checkStepSizes(step: PlanStep, index: number): void {
  const { xBytes, yBytes } = stepSizeBytes(step.m, step.weight, step.outputType);
  for (const [name, buffer, expected] of [
    ['x', step.x, xBytes],
    ['y', step.y, yBytes],
  ] as const) {
    if (buffer.sizeBytes === expected) continue;
    throw new SamebitsError('BYTE_LENGTH_MISMATCH', {
      rule: `${name} of plan step ${index} must hold exactly its shape`,
      expected: `${expected} bytes for M = ${step.m}, N = ${step.weight.n}, K = ${step.weight.k}`,
      got: `${buffer.sizeBytes} bytes`,
      fix: 'Create the buffer with the size of this step; bf16 takes 2 bytes an element, f32 takes 4.',
    });
  }
}

/** What use after dispose rejects with. */
export function disposedError(what: string): SamebitsError {
  return new SamebitsError('DISPOSED', {
    rule: `a disposed ${what} cannot be used`,
    expected: `a live ${what}`,
    got: 'one that was disposed',
    fix: 'Keep it until the last call that needs it has settled.',
  });
}

/** What a handle of another backend rejects with. */
export function foreignHandleError(what: string, backend: BackendName): SamebitsError {
  return new SamebitsError('BACKEND_MISMATCH', {
    rule: `a ${what} works only with the backend that made it`,
    expected: `a ${what} of this '${backend}' backend`,
    got: 'one of another backend',
    fix: 'Upload the weight, or create the buffer, with the backend that runs it.',
  });
}

/** What a backend that is not there rejects with. */
export function unavailableError(name: BackendName, reason: string, fix: string, cause?: unknown): SamebitsError {
  return new SamebitsError('BACKEND_UNAVAILABLE', {
    rule: `the ${name} backend must be available when it is asked for by name`,
    expected: `a working ${name} device`,
    got: reason,
    fix,
    cause,
  });
}

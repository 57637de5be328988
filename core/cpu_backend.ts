// The cpu backend: the reference behind the seam. Runs on the calling thread; use a worker where that matters.

import {
  checkedContents,
  checkedOutputType,
  checkedProgress,
  checkedReplays,
  checkedSizeBytes,
  checkedSteps,
  outputTypeOf,
} from './argument_checks.js';
import {
  type Backend,
  type BenchmarkSupport,
  checkStepSizes,
  type DeviceBuffer,
  type DeviceInfo,
  type DeviceWeight,
  disposedError,
  foreignHandleError,
  type LinearOptions,
  type PassedOver,
  type Plan,
  type PlanStep,
  type UploadOptions,
} from './backend.js';
import { CoalescedInt4Tensor, requireCoalesced } from './coalesced_int4_tensor.js';
import { SamebitsError } from './errors.js';
import { checkRows } from './limits.js';
import { type Activations, bf16Activations } from './linear.js';
import { CpuDecoder } from './model/cpu_decoder.js';
import type { DecoderSource, DeviceDecoder, LoadOptions } from './model/decoder_backend.js';
import { int4PlainMM, type OutputType } from './reference.js';

class CpuWeight implements DeviceWeight {
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly nGroups: number;
  readonly sizeBytes: number;
  readonly layout = 'coalesced';
  disposed = false;

  constructor(
    readonly owner: CpuBackend,
    readonly tensor: CoalescedInt4Tensor,
  ) {
    this.n = tensor.n;
    this.k = tensor.k;
    this.groupSize = tensor.groupSize;
    this.nGroups = tensor.nGroups;
    this.sizeBytes = tensor.sizeBytes;
  }

  dispose(): void {
    this.disposed = true;
  }
}

class CpuBuffer implements DeviceBuffer {
  readonly sizeBytes: number;
  disposed = false;

  constructor(
    readonly owner: CpuBackend,
    readonly bytes: Uint8Array,
  ) {
    this.sizeBytes = bytes.byteLength;
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.owner.requireLive(this, 'buffer');
    this.bytes.set(checkedContents(bytes, this.sizeBytes));
  }

  async read(): Promise<Uint8Array> {
    this.owner.requireLive(this, 'buffer');
    return this.bytes.slice();
  }

  dispose(): void {
    this.disposed = true;
  }
}

class CpuPlan implements Plan {
  disposed = false;

  constructor(
    readonly owner: CpuBackend,
    readonly steps: readonly { x: CpuBuffer; weight: CpuWeight; y: CpuBuffer; outputType: OutputType }[],
  ) {}

  async run(): Promise<void> {
    this.owner.requireLive(this, 'plan');
    for (const { x, weight, y, outputType } of this.steps) {
      for (const buffer of [x, y]) this.owner.requireLive(buffer, 'buffer');
      this.owner.requireLive(weight, 'weight');
      const out = int4PlainMM(new Uint16Array(x.bytes.buffer), weight.tensor, outputType);
      y.bytes.set(new Uint8Array(out.buffer));
    }
  }

  dispose(): void {
    this.disposed = true;
  }
}

/** The reference as a backend. */
export class CpuBackend implements Backend {
  readonly name = 'cpu';
  readonly device: DeviceInfo = { name: 'CPU reference (JavaScript)', isSoftware: true, details: {} };
  #disposed = false;

  constructor(readonly passedOver: readonly PassedOver[] = []) {}

  async upload(weight: CoalescedInt4Tensor, options: UploadOptions = {}): Promise<DeviceWeight> {
    this.requireLive(this, 'backend');
    const onProgress = checkedProgress(options);
    const uploaded = new CpuWeight(this, new CoalescedInt4Tensor(requireCoalesced(weight).parts()));
    onProgress(uploaded.sizeBytes, uploaded.sizeBytes);
    return uploaded;
  }

  linear(x: Activations, weight: DeviceWeight, options?: { readonly outputType?: 'f32' }): Promise<Float32Array>;
  linear(x: Activations, weight: DeviceWeight, options: { readonly outputType: 'bf16' }): Promise<Uint16Array>;
  linear(x: Activations, weight: DeviceWeight, options?: LinearOptions): Promise<Float32Array | Uint16Array>;
  async linear(x: Activations, weight: DeviceWeight, options: LinearOptions = {}) {
    const { tensor } = this.requireLive(this.#own(weight, CpuWeight, 'weight'), 'weight');
    return int4PlainMM(bf16Activations(x), tensor, outputTypeOf(options));
  }

  async createBuffer(sizeBytes: number): Promise<DeviceBuffer> {
    this.requireLive(this, 'backend');
    return new CpuBuffer(this, zeros(checkedSizeBytes(sizeBytes)));
  }

  async plan(steps: readonly PlanStep[]): Promise<Plan> {
    this.requireLive(this, 'backend');
    const own = checkedSteps(steps).map((step, index) => {
      checkRows(step.m);
      const x = this.requireLive(this.#own(step.x, CpuBuffer, 'buffer'), 'buffer');
      const weight = this.requireLive(this.#own(step.weight, CpuWeight, 'weight'), 'weight');
      const y = this.requireLive(this.#own(step.y, CpuBuffer, 'buffer'), 'buffer');
      const outputType = checkedOutputType(step.outputType);
      checkStepSizes(step, index);
      return { x, weight, y, outputType };
    });
    return new CpuPlan(this, own);
  }

  async loadDecoder(source: DecoderSource, options: LoadOptions = {}): Promise<DeviceDecoder> {
    this.requireLive(this, 'backend');
    return CpuDecoder.load(source, options);
  }

  readonly benchmark: BenchmarkSupport = {
    cacheSizeBytes: 0,
    timePlan: async (plan: Plan, replays: number) => {
      const own = this.requireLive(this.#own(plan, CpuPlan, 'plan'), 'plan');
      const elapsedUs: number[] = [];
      for (let i = 0; i < checkedReplays(replays); i++) {
        const start = performance.now();
        await own.run();
        elapsedUs.push((performance.now() - start) * 1000);
      }
      return elapsedUs;
    },
    readBandwidthGBps: async (sizeBytes: number, replays: number) => {
      this.requireLive(this, 'backend');
      const words = new Uint32Array(zeros(Math.ceil(checkedSizeBytes(sizeBytes) / 4) * 4).buffer).fill(1);
      let best = 0;
      for (let i = 0; i < checkedReplays(replays); i++) {
        const start = performance.now();
        let sum = 0;
        for (let j = 0; j < words.length; j++) sum = (sum + words[j]!) | 0;
        const elapsedUs = (performance.now() - start) * 1000;
        if (sum === words.length) best = Math.max(best, sizeBytes / elapsedUs / 1000);
      }
      return best;
    },
  };

  async dispose(): Promise<void> {
    this.#disposed = true;
  }

  get disposed(): boolean {
    return this.#disposed;
  }

  requireLive<T extends { readonly disposed: boolean }>(handle: T, what: string): T {
    if (this.#disposed) throw disposedError('backend');
    if (handle.disposed) throw disposedError(what);
    return handle;
  }

  // biome-ignore lint/suspicious/noExplicitAny: a constructor's parameters cannot be named generically
  #own<T extends { owner: CpuBackend }>(handle: unknown, type: new (...args: any[]) => T, what: string): T {
    if (handle instanceof type && handle.owner === this) return handle;
    throw foreignHandleError(what, 'cpu');
  }
}

/** This backend's device memory. */
function zeros(sizeBytes: number): Uint8Array {
  try {
    return new Uint8Array(sizeBytes);
  } catch (cause) {
    throw new SamebitsError('DEVICE_OUT_OF_MEMORY', {
      rule: 'a buffer of the cpu backend must fit into one array of this JavaScript engine',
      expected: `memory for ${sizeBytes} bytes`,
      got: cause instanceof Error ? cause.message : String(cause),
      fix: 'Use smaller buffers.',
      cause,
    });
  }
}

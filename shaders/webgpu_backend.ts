// WebGPUBackend: int4_plain_mm on any GPUDevice, with the bits of the reference.

import {
  checkedOutputType,
  checkedProgress,
  checkedReplays,
  checkedSizeBytes,
  checkedSteps,
  kindOf,
  outputTypeOf,
  requireObject,
} from '../core/argument_checks.js';
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
  stepSizeBytes,
  type UploadOptions,
} from '../core/backend.js';
import { CoalescedInt4Tensor, requireCoalesced } from '../core/coalesced_int4_tensor.js';
import { SamebitsError } from '../core/errors.js';
import { Int4Tensor } from '../core/int4_tensor.js';
import { activationRows, checkRows } from '../core/limits.js';
import { type Activations, bf16Activations } from '../core/linear.js';
import type { DecoderSource, LoadOptions } from '../core/model/decoder_backend.js';
import type { OutputType } from '../core/reference.js';
import { weightExponent } from '../core/weight_exponent.js';
import { describeDevice } from './adapter.js';
import { checkBufferSize, wholeRange } from './argument_checks.js';
import { BufferPool, OPERAND_USAGE, STAGING_USAGE } from './buffer_pool.js';
import { WebGPUBuffer, wordAligned } from './device_buffer.js';
import { DeviceGuard } from './device_guard.js';
import { WebGPUWeight } from './device_weight.js';
import type { LinearOperands } from './dispatches.js';
import { nativeData, type WeightData } from './group_words.js';
import { Lifetime } from './lifetime.js';
import { LinearRunner } from './linear_runner.js';
import type { Pipelines } from './pipelines.js';
import { preparePlan, WebGPUPlan } from './plan.js';
import { measureReadBandwidth } from './read_roof.js';
import { timePasses, timingMethod } from './timing.js';
import { chooseVariant, type VariantChoice, type VariantOptions } from './variant_choice.js';
import type { WebGPUDecoder } from './webgpu_decoder.js';
import { uploadSlices } from './weight_upload.js';
import { Workspaces } from './workspace.js';

export interface WebGPUBackendOptions extends VariantOptions {
  /** Whether dispose() destroys the device. Default false. */
  readonly ownsDevice?: boolean;
  /** What the device is, when the caller knows more than the device says. */
  readonly info?: DeviceInfo;
  readonly passedOver?: readonly PassedOver[];
  /** Kept alive as long as the backend: an instance and adapter that must not be collected before their device. */
  readonly keepAlive?: object;
  /** Weights and embeddings are cut into slices, and a linear's rows into chunks, of at most this; default: the device's limit. */
  readonly maxBindingBytes?: number;
}

/** One linear on the caller's own buffers. */
export interface EncodeOperands {
  /** bf16[M, K] from byte 0; usage STORAGE. */
  readonly x: GPUBuffer;
  readonly weight: DeviceWeight;
  /** f32[M, N] or bf16[M, N] from byte 0, rounded up to a multiple of 4 bytes; usage STORAGE. */
  readonly y: GPUBuffer;
  readonly m: number;
  /** Default f32. */
  readonly outputType?: OutputType;
}

/** The webgpu backend. A device given by the caller stays the caller's, unless `ownsDevice`. */
export class WebGPUBackend implements Backend {
  readonly name = 'webgpu';
  readonly passedOver: readonly PassedOver[];
  readonly device: DeviceInfo;
  readonly benchmark: BenchmarkSupport;

  readonly #guard: DeviceGuard;
  readonly #pipelines: Pipelines;
  readonly #ownsDevice: boolean;
  readonly #maxBindingBytes: number;
  readonly #lifetime = new Lifetime();
  readonly #linears: LinearRunner;
  readonly #staging: BufferPool;
  readonly #workspaces: Workspaces;
  readonly #handles = new Set<{ dispose(): void }>();
  readonly #keepAlive: object[];

  private constructor(guard: DeviceGuard, { pipelines, reason }: VariantChoice, options: WebGPUBackendOptions) {
    this.#guard = guard;
    this.#pipelines = pipelines;
    this.#ownsDevice = options.ownsDevice ?? false;
    this.#keepAlive = options.keepAlive ? [options.keepAlive] : [];
    this.#staging = new BufferPool(guard, STAGING_USAGE);
    this.#workspaces = new Workspaces(guard);
    this.passedOver = options.passedOver ?? [];
    const { maxStorageBufferBindingSize, maxBufferSize } = guard.device.limits;
    this.#maxBindingBytes = Math.min(
      options.maxBindingBytes ?? Number.POSITIVE_INFINITY,
      maxStorageBufferBindingSize,
      maxBufferSize,
    );
    this.#linears = new LinearRunner(guard, pipelines, this.#workspaces, this.#staging, this.#maxBindingBytes);
    const info = options.info ?? describeDevice(guard.device);
    this.device = {
      ...info,
      details: { ...info.details, ...pipelines.details, variant: reason, timing: timingMethod(guard.device) },
    };
    this.benchmark = {
      cacheSizeBytes: 0,
      uploadNative: (weight) => this.#lifetime.track(() => this.#uploadNative(weight)),
      timePlan: (plan, replays) => this.#lifetime.track(() => this.#timePlan(plan, replays)),
      timeStep: async (cache, position, kinds, replays) => {
        const { WebGPUDecoderCache } = await import('./decoder_cache.js');
        const isOwn = cache instanceof WebGPUDecoderCache && cache.shared.lifetime === this.#lifetime;
        if (!isOwn) throw foreignHandleError('cache', this.name);
        return cache.time(position, kinds, replays);
      },
      readBandwidthGBps: (sizeBytes, replays) =>
        this.#lifetime.track(() =>
          measureReadBandwidth(
            this.#guard,
            this.#pipelines,
            this.#maxBindingBytes,
            checkedSizeBytes(sizeBytes),
            checkedReplays(replays),
          ),
        ),
    };
  }

  /**
   * A backend on `device`. Compiles its kernels; several backends may share a device.
   * @throws SamebitsError ARGUMENT_INVALID for anything but a device; DEVICE_LOST; DEVICE_FAILURE when a kernel does not
   * compile
   */
  static async create(device: GPUDevice, options: WebGPUBackendOptions = {}): Promise<WebGPUBackend> {
    requireDevice(device);
    requireObject(options, 'the options of a backend');
    const guard = new DeviceGuard(device);
    try {
      return new WebGPUBackend(guard, await chooseVariant(guard, options), options);
    } catch (error) {
      if (options.ownsDevice) device.destroy();
      throw error;
    }
  }

  upload(weight: CoalescedInt4Tensor, options: UploadOptions = {}): Promise<DeviceWeight> {
    return this.#lifetime.track(async () => {
      const valid = new CoalescedInt4Tensor(requireCoalesced(weight).parts());
      return this.#uploadValid(valid, valid.weightExponent, options);
    });
  }

  linear(x: Activations, weight: DeviceWeight, options?: { readonly outputType?: 'f32' }): Promise<Float32Array>;
  linear(x: Activations, weight: DeviceWeight, options: { readonly outputType: 'bf16' }): Promise<Uint16Array>;
  linear(x: Activations, weight: DeviceWeight, options?: LinearOptions): Promise<Float32Array | Uint16Array>;
  linear(x: Activations, weight: DeviceWeight, options: LinearOptions = {}): Promise<Float32Array | Uint16Array> {
    return this.#lifetime.track(async () => {
      const own = this.#ownWeight(weight);
      const outputType = outputTypeOf(options);
      const bf16 = bf16Activations(x);
      activationRows(bf16.length, own.k);
      const rows = bf16 === x ? bf16.slice() : bf16;
      own.retain();
      try {
        return await this.#linears.run(rows, own, outputType);
      } finally {
        own.release();
      }
    });
  }

  /**
   * Records one linear into the caller's encoder, in a compute pass of its own. Resolves when it is recorded: await it
   * before finishing the encoder. The weight must live until the commands have been submitted.
   * @throws SamebitsError BYTE_LENGTH_MISMATCH when x or y is too small
   */
  encode(encoder: GPUCommandEncoder, { x, weight, y, m, outputType }: EncodeOperands): Promise<void> {
    return this.#lifetime.track(async () => {
      checkRows(m);
      const own = this.#ownWeight(weight);
      const type = checkedOutputType(outputType);
      const { xBytes, yBytes } = stepSizeBytes(m, own, type);
      const operands: LinearOperands = {
        x: wholeRange('x', x, xBytes),
        weight: own,
        y: wholeRange('y', y, wordAligned(yBytes)),
        m,
        outputType: type,
      };
      own.retain();
      try {
        const record = await this.#linears.recorder(operands);
        await this.#guard.run('a linear', () => record(encoder));
      } finally {
        own.release();
      }
    });
  }

  createBuffer(sizeBytes: number): Promise<WebGPUBuffer> {
    return this.#lifetime.track(async () => {
      checkBufferSize(this.#guard.device, sizeBytes);
      const native = await this.#guard.run('a buffer', () =>
        this.#guard.device.createBuffer({
          label: 'samebits buffer',
          size: wordAligned(sizeBytes),
          usage: OPERAND_USAGE,
        }),
      );
      const buffer = new WebGPUBuffer(this, this.#guard, this.#staging, this.#lifetime, native, sizeBytes, (b) =>
        this.#handles.delete(b),
      );
      this.#handles.add(buffer);
      return buffer;
    });
  }

  plan(steps: readonly PlanStep[]): Promise<Plan> {
    return this.#lifetime.track(async () => {
      const own = checkedSteps(steps).map((step, index) => {
        checkRows(step.m);
        const x = this.#ownBuffer(step.x);
        const weight = this.#ownWeight(step.weight);
        const y = this.#ownBuffer(step.y);
        const outputType = checkedOutputType(step.outputType);
        checkStepSizes(step, index);
        const operands: LinearOperands = {
          x: { buffer: x.buffer },
          weight,
          y: { buffer: y.buffer },
          m: step.m,
          outputType,
        };
        return { operands, x, y };
      });
      const parts = {
        owner: this,
        guard: this.#guard,
        lifetime: this.#lifetime,
        pipelines: this.#pipelines,
        workspaces: this.#workspaces,
        onDispose: (plan: WebGPUPlan) => this.#handles.delete(plan),
      };
      const plan = await preparePlan(parts, own);
      this.#handles.add(plan);
      return plan;
    });
  }

  /**
   * Puts a decoder's weights on the device.
   * @throws SamebitsError SHAPE_MISMATCH, GROUP_SIZE_UNSUPPORTED, DEVICE_LIMIT, DEVICE_OUT_OF_MEMORY; whatever the source
   * throws, or the signal's reason
   */
  loadDecoder(source: DecoderSource, options: LoadOptions = {}): Promise<WebGPUDecoder> {
    return this.#lifetime.track(async () => {
      // A page that decodes nothing need not fetch the kernels of a decoder.
      const { loadDecoder } = await import('./webgpu_decoder.js');
      const host = {
        guard: this.#guard,
        lifetime: this.#lifetime,
        pipelines: this.#pipelines,
        workspaces: this.#workspaces,
        staging: this.#staging,
        handles: this.#handles,
        maxBindingBytes: this.#maxBindingBytes,
        upload: (weight: CoalescedInt4Tensor) => this.#uploadValid(weight, weight.weightExponent, {}),
      };
      return loadDecoder(host, source, requireObject(options, 'the options of a load'));
    });
  }

  async dispose(): Promise<void> {
    await this.#lifetime.end();
    for (const handle of [...this.#handles]) handle.dispose();
    this.#linears.dispose();
    this.#staging.dispose();
    this.#workspaces.dispose();
    if (this.#ownsDevice) this.#guard.device.destroy();
    this.#keepAlive.length = 0;
  }

  async #uploadNative(weight: Int4Tensor): Promise<DeviceWeight> {
    if (!Int4Tensor.is(weight)) {
      throw new SamebitsError('LAYOUT_WRONG_TYPE', {
        rule: 'uploadNative takes an Int4Tensor',
        expected: 'scale and zeroPoint in [nGroups, N], by type',
        got: 'something else',
        fix: 'Upload a CoalescedInt4Tensor with upload.',
      });
    }
    const valid = nativeData(new Int4Tensor(weight.parts()));
    return this.#uploadValid(valid, weightExponent(valid.form, valid, valid.groups), {});
  }

  async #uploadValid(valid: WeightData, exponent: number, options: UploadOptions): Promise<WebGPUWeight> {
    const onProgress = checkedProgress(options);
    const slices = await uploadSlices(this.#guard, valid, exponent, this.#maxBindingBytes, onProgress);
    const uploaded = new WebGPUWeight(this, valid, slices, (weight) => this.#handles.delete(weight));
    this.#handles.add(uploaded);
    return uploaded;
  }

  async #timePlan(plan: Plan, replays: number): Promise<readonly number[]> {
    if (!(plan instanceof WebGPUPlan) || plan.owner !== this) throw foreignHandleError('plan', this.name);
    plan.requireUsable();
    for (const weight of plan.weights) weight.retain();
    try {
      return await timePasses(this.#guard, plan, checkedReplays(replays));
    } finally {
      for (const weight of plan.weights) weight.release();
    }
  }

  #ownWeight(handle: DeviceWeight): WebGPUWeight {
    if (!(handle instanceof WebGPUWeight) || handle.owner !== this) throw foreignHandleError('weight', this.name);
    if (handle.disposed) throw disposedError('weight');
    return handle;
  }

  #ownBuffer(handle: DeviceBuffer): WebGPUBuffer {
    if (!(handle instanceof WebGPUBuffer) || handle.owner !== this) throw foreignHandleError('buffer', this.name);
    if (handle.disposed) throw disposedError('buffer');
    return handle;
  }
}

/** By what it can do: browsers, Dawn and test doubles have classes of their own. */
function requireDevice(device: unknown): void {
  if (typeof device === 'object' && device !== null && 'createShaderModule' in device && 'lost' in device) return;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'a webgpu backend works on a device',
    expected: 'a GPUDevice',
    got: kindOf(device),
    fix: 'Await adapter.requestDevice() and pass what it gives.',
  });
}

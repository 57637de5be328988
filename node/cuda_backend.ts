// The cuda backend: the seam of core/backend.ts over the native addon.

import { readFileSync } from 'node:fs';
import {
  checkedContents,
  checkedOutputType,
  checkedProgress,
  checkedReplays,
  checkedSizeBytes,
  checkedSteps,
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
  type LinearOptions,
  type PassedOver,
  type Plan,
  type PlanStep,
  type UploadOptions,
} from '../core/backend.js';
import type { CoalescedInt4Tensor } from '../core/coalesced_int4_tensor.js';
import { SamebitsError } from '../core/errors.js';
import { Int4Tensor } from '../core/int4_tensor.js';
import { checkRows } from '../core/limits.js';
import { type Activations, bf16Activations } from '../core/linear.js';
import type { DecoderSource, LoadOptions } from '../core/model/decoder_backend.js';
import {
  loadCudaAddon,
  type NativeBuffer,
  type NativeDeviceInfo,
  type NativePlan,
  samebitsErrorFrom,
} from './cuda_addon.js';
import { CudaCache, type CudaDecoder, loadCudaDecoder } from './cuda_decoder.js';
import { CudaResource, CudaSession, ownResource } from './cuda_session.js';
import { CudaWeight, uploadNativeWeight, uploadWeight } from './cuda_upload.js';

class CudaBuffer extends CudaResource<NativeBuffer> implements DeviceBuffer {
  protected override readonly what = 'buffer';

  constructor(
    session: CudaSession,
    handle: NativeBuffer,
    readonly sizeBytes: number,
  ) {
    super(session, handle);
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.requireLive();
    const contents = checkedContents(bytes, this.sizeBytes);
    await this.session.inOrder(() => this.session.native.writeBuffer(this.handle, contents));
  }

  async read(): Promise<Uint8Array> {
    this.requireLive();
    return new Uint8Array(await this.session.inOrder(() => this.session.native.readBuffer(this.handle)));
  }
}

class CudaPlan extends CudaResource<NativePlan> implements Plan {
  protected override readonly what = 'plan';

  constructor(
    session: CudaSession,
    handle: NativePlan,
    readonly operands: readonly CudaResource[],
  ) {
    super(session, handle);
  }

  override requireLive(): void {
    super.requireLive();
    for (const operand of this.operands) operand.requireLive();
  }

  async run(): Promise<void> {
    this.requireLive();
    await this.session.inOrder(() => this.session.native.runPlan(this.handle));
  }
}

/** An NVIDIA device behind the native addon. Linears run concurrently, each on a stream and scratch of its own. */
export class CudaBackend implements Backend {
  readonly name = 'cuda';
  readonly device: DeviceInfo;
  readonly #session: CudaSession;

  private constructor(
    session: CudaSession,
    readonly passedOver: readonly PassedOver[],
    /** Hash of the kernel sources that the addon was built from. */
    readonly sourcesSha256: string,
  ) {
    this.#session = session;
    this.device = describeDevice(session.info);
  }

  /**
   * Loads the addon and opens a device.
   * @throws SamebitsError BACKEND_UNAVAILABLE when the addon, the driver or the device is not there, with the reason
   */
  static async open(
    options: { readonly deviceIndex?: number; readonly passedOver?: readonly PassedOver[] } = {},
  ): Promise<CudaBackend> {
    const { deviceIndex = 0, passedOver = [] } = requireObject(options, 'the options of a backend');
    const { native } = loadCudaAddon();
    try {
      const info = await native.openDevice(deviceIndex);
      return new CudaBackend(new CudaSession(native, info), passedOver, native.sourcesSha256);
    } catch (error) {
      throw samebitsErrorFrom(error);
    }
  }

  async upload(weight: CoalescedInt4Tensor, options: UploadOptions = {}): Promise<DeviceWeight> {
    this.#session.requireLive();
    return uploadWeight(this.#session, weight, 'ours', checkedProgress(options));
  }

  linear(x: Activations, weight: DeviceWeight, options?: { readonly outputType?: 'f32' }): Promise<Float32Array>;
  linear(x: Activations, weight: DeviceWeight, options: { readonly outputType: 'bf16' }): Promise<Uint16Array>;
  linear(x: Activations, weight: DeviceWeight, options?: LinearOptions): Promise<Float32Array | Uint16Array>;
  async linear(x: Activations, weight: DeviceWeight, options: LinearOptions = {}): Promise<Float32Array | Uint16Array> {
    const { handle } = ownResource(this.#session, weight, CudaWeight, 'weight');
    const isBf16 = outputTypeOf(options) === 'bf16';
    const y = await this.#session.call(() => this.#session.native.linear(handle, bf16Activations(x), isBf16));
    return isBf16 ? new Uint16Array(y) : new Float32Array(y);
  }

  async createBuffer(sizeBytes: number): Promise<DeviceBuffer> {
    const { native, info } = this.#session;
    this.#session.requireLive();
    checkedSizeBytes(sizeBytes);
    const handle = await this.#session.inOrder(() => native.createBuffer(info.handle, sizeBytes));
    return new CudaBuffer(this.#session, handle, sizeBytes);
  }

  async plan(steps: readonly PlanStep[]): Promise<Plan> {
    const { native, info } = this.#session;
    const operands: CudaResource[] = [];
    this.#session.requireLive();
    const nativeSteps = checkedSteps(steps).map((step, index) => {
      const x = ownResource(this.#session, step.x, CudaBuffer, 'buffer');
      const weight = ownResource(this.#session, step.weight, CudaWeight, 'weight');
      const y = ownResource(this.#session, step.y, CudaBuffer, 'buffer');
      checkRows(step.m);
      const isBf16 = checkedOutputType(step.outputType) === 'bf16';
      checkStepSizes(step, index);
      operands.push(x, weight, y);
      return { m: step.m, x: x.handle, weight: weight.handle, y: y.handle, outputBf16: isBf16 };
    });
    const handle = await this.#session.inOrder(() => native.createPlan(info.handle, nativeSteps));
    return new CudaPlan(this.#session, handle, operands);
  }

  async loadDecoder(source: DecoderSource, options: LoadOptions = {}): Promise<CudaDecoder> {
    this.#session.requireLive();
    return loadCudaDecoder(this.#session, source, options);
  }

  get benchmark(): BenchmarkSupport {
    const session = this.#session;
    const { native, info } = session;
    return {
      cacheSizeBytes: info.cacheSizeBytes,
      uploadNative: async (weight) => {
        session.requireLive();
        return uploadNativeWeight(session, requireNative(weight));
      },
      uploadPlain: async (weight) => {
        session.requireLive();
        return uploadWeight(session, weight, 'baseline', () => {});
      },
      timePlan: async (plan, replays) => {
        const { handle } = ownResource(session, plan, CudaPlan, 'plan');
        checkedReplays(replays);
        return session.inOrder(() => native.timePlan(handle, replays));
      },
      timeStep: async (cache, position, kinds, replays) => {
        const own = ownResource(session, cache, CudaCache, 'cache');
        checkedReplays(replays);
        return own.time(position, kinds, replays);
      },
      readBandwidthGBps: (sizeBytes, replays) =>
        session.inOrder(() => native.readBandwidthGBps(info.handle, sizeBytes, replays)),
    };
  }

  async dispose(): Promise<void> {
    await this.#session.dispose();
  }
}

function requireNative(weight: unknown): Int4Tensor {
  if (Int4Tensor.is(weight)) return weight;
  throw new SamebitsError('LAYOUT_WRONG_TYPE', {
    rule: 'uploadNative compares with the layout before: it takes an Int4Tensor',
    expected: 'an Int4Tensor, scale and zeroPoint in [nGroups, N]',
    got: typeof weight === 'object' ? `a ${weight?.constructor?.name ?? 'bare object'}` : String(weight),
    fix: 'Pass the tensor as the checkpoint holds it; upload takes a CoalescedInt4Tensor.',
  });
}

function describeDevice(info: NativeDeviceInfo): DeviceInfo {
  return {
    name: info.name,
    isSoftware: false,
    details: {
      driver: driverVersion() ?? `for CUDA ${versionText(info.driverVersion)}`,
      cudaDriver: versionText(info.driverVersion),
      cudaRuntime: versionText(info.runtimeVersion),
      computeCapability: info.computeCapability,
      multiprocessors: String(info.multiprocessorCount),
      memory: `${(info.memoryBytes / 2 ** 30).toFixed(1)} GiB`,
      cache: `${(info.cacheSizeBytes / 2 ** 20).toFixed(1)} MiB`,
    },
  };
}

/** 13000 -> 13.0 */
function versionText(version: number): string {
  return `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`;
}

/** The kernel module's version, which the CUDA runtime does not tell. */
function driverVersion(): string | undefined {
  try {
    return /Module\s+(?:for \S+\s+)?([\d.]+)/.exec(readFileSync('/proc/driver/nvidia/version', 'utf8'))?.[1];
  } catch {
    return undefined;
  }
}

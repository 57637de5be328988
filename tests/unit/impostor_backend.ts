// The reference under another backend's name, with baselines, that can get one bit of one linear of one kernel wrong.

import {
  type BackendName,
  type BenchmarkSupport,
  CoalescedInt4Tensor,
  CpuBackend,
  type DeviceInfo,
  type DeviceWeight,
  type Plan,
  type PlanStep,
  SamebitsError,
} from '../../core/index.js';
import type { KernelName } from '../../node/bench/contenders.js';

/** The bit that is wrong: of the output of the weight with these rows, from this run of a plan on. */
export interface PlantedFault {
  readonly kernel: KernelName;
  readonly n: number;
  readonly afterRuns?: number;
}

export interface Impostor {
  readonly name?: BackendName;
  readonly device?: DeviceInfo;
  readonly fault?: PlantedFault;
  /** Uploads that its memory takes. */
  readonly room?: number;
  /** Kernels, in the order in which plans were timed. */
  readonly timed?: KernelName[];
}

export class ImpostorBackend extends CpuBackend {
  // biome-ignore lint/suspicious/noExplicitAny: the name is what a reader of the table sees
  override readonly name: any;
  override readonly device: DeviceInfo;
  override readonly benchmark: BenchmarkSupport;
  readonly #kernels = new Map<DeviceWeight, KernelName>();
  readonly #plans = new Map<Plan, KernelName>();

  constructor(private readonly how: Impostor = {}) {
    super();
    this.name = how.name ?? 'cuda';
    this.device = how.device ?? { name: 'Impostor', isSoftware: true, details: {} };
    const reference = new CpuBackend().benchmark;
    this.benchmark = {
      ...reference,
      readBandwidthGBps: async () => 1,
      uploadNative: (weight) => this.#upload('native', CoalescedInt4Tensor.fromInt4Tensor(weight)),
      uploadPlain: (weight) => this.#upload('plain', weight),
      timePlan: async (plan, replays) => {
        how.timed?.push(this.#plans.get(plan)!);
        for (let i = 0; i < replays; i++) await plan.run();
        return Array.from({ length: replays }, (_, i) => 100 + i);
      },
    };
  }

  override upload(weight: CoalescedInt4Tensor): Promise<DeviceWeight> {
    return this.#upload('samebits', weight);
  }

  override async plan(steps: readonly PlanStep[]): Promise<Plan> {
    const kernel = this.#kernels.get(steps[0]!.weight)!;
    const { fault } = this.how;
    const plans = await Promise.all(steps.map((step) => super.plan([step])));
    let runs = 0;
    const plan: Plan = {
      run: async () => {
        runs++;
        for (const [i, { weight, y }] of steps.entries()) {
          await plans[i]!.run();
          if (fault?.kernel !== kernel || fault.n !== weight.n || runs <= (fault.afterRuns ?? 0)) continue;
          const bytes = await y.read();
          bytes[0]! ^= 1;
          await y.write(bytes);
        }
      },
      dispose: () => {
        for (const part of plans) part.dispose();
      },
    };
    this.#plans.set(plan, kernel);
    return plan;
  }

  async #upload(kernel: KernelName, weight: CoalescedInt4Tensor): Promise<DeviceWeight> {
    if (this.#kernels.size >= (this.how.room ?? Number.POSITIVE_INFINITY)) {
      throw new SamebitsError('DEVICE_OUT_OF_MEMORY', {
        rule: 'a weight must fit into device memory',
        expected: 'room for it',
        got: 'none',
        fix: 'Dispose of something.',
      });
    }
    const uploaded = await super.upload(weight);
    this.#kernels.set(uploaded, kernel);
    return uploaded;
  }
}

// The worker's device: opened at the start, and again for the next job after it was lost.

import type { WebGPUBackend } from '../../shaders/index.js';
import { openCold } from './cold_start.js';
import { failureOf } from './job.js';
import type { ColdStart, DeviceMessage, DeviceReport } from './messages.js';

export interface OpenDevice {
  readonly backend: WebGPUBackend;
  readonly gpu: GPUDevice;
}

export class DeviceHolder {
  #open: Promise<OpenDevice | null> | null;

  /** Asks for the device at once; `report` hears of every device that comes, or why there is none. */
  constructor(private readonly report: (message: DeviceMessage) => void) {
    this.#open = this.#request();
  }

  /** The device; null where there is none, and everything runs on the reference alone. */
  get(): Promise<OpenDevice | null> {
    this.#open ??= this.#request();
    return this.#open;
  }

  async #request(): Promise<OpenDevice | null> {
    try {
      const { gpu, backend, coldStart } = await openCold();
      this.report({ kind: 'device', device: describe(gpu, backend, coldStart) });
      void gpu.lost.then(() => {
        this.#open = null;
      });
      return { backend, gpu };
    } catch (error) {
      this.report({ kind: 'unavailable', failure: failureOf(error) });
      return null;
    }
  }
}

function describe(gpu: GPUDevice, { device: info }: WebGPUBackend, coldStart: ColdStart): DeviceReport {
  const limits: Record<string, number> = {};
  // The limits are getters of the prototype, which `Object.entries` does not see.
  for (const name in gpu.limits) {
    const value: unknown = Reflect.get(gpu.limits, name);
    if (typeof value === 'number') limits[name] = value;
  }
  // Absent in browsers older than the attribute, whatever its type says.
  const language: WGSLLanguageFeatures | undefined = navigator.gpu.wgslLanguageFeatures;
  return {
    info,
    limits,
    features: [...gpu.features].sort(),
    languageFeatures: [...(language ?? [])].sort(),
    coldStart,
  };
}

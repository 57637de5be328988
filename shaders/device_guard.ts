// Turns every way in which a GPUDevice fails into one SamebitsError: error scopes, rejected promises, a lost device.

import { SamebitsError } from '../core/errors.js';

/** The value of synchronous device work, and the device's verdict on it. */
export interface Scoped<T> {
  readonly value: T;
  /** Resolves once the device has accepted the work; rejects with a SamebitsError. */
  readonly accepted: Promise<void>;
}

// Popped in the reverse order; an error goes to the innermost scope that takes its kind.
const SCOPES = ['out-of-memory', 'internal', 'validation'] as const;

/** How much later than what it rejects a loss may be told: in a browser another process tells it. */
const LOSS_NOTICE_MS = 500;

/** Watches one device. Several guards may watch the same device. */
export class DeviceGuard {
  readonly #waiting = new Set<(reason: SamebitsError) => void>();
  #lost: SamebitsError | null = null;

  constructor(readonly device: GPUDevice) {
    void device.lost.then((info) => {
      this.#lost = lostError(info);
      for (const reject of this.#waiting) reject(this.#lost);
      this.#waiting.clear();
    });
  }

  /** @throws SamebitsError DEVICE_LOST once the device is gone */
  requirePresent(): void {
    if (this.#lost !== null) throw this.#lost;
  }

  /**
   * Does `work` inside error scopes. Scopes belong to the device, so `work` must be synchronous: another call's errors
   * would otherwise land in ours.
   */
  scoped<T>(what: string, work: () => T): Scoped<T> {
    this.requirePresent();
    for (const filter of SCOPES) this.device.pushErrorScope(filter);
    let value: T;
    let verdicts: Promise<GPUError | null>[];
    try {
      value = work();
    } catch (cause) {
      throw cause instanceof SamebitsError ? cause : failure(what, cause);
    } finally {
      verdicts = SCOPES.map(() => this.device.popErrorScope());
    }
    const accepted = this.settle(what, Promise.all(verdicts)).then(([validation, internal, memory]) => {
      if (memory) throw outOfMemory(what, memory);
      const error = validation ?? internal;
      if (error) throw failure(what, error);
    });
    // A caller that fails before it gets to `accepted` must not leave an unhandled rejection.
    accepted.catch(() => {});
    return { value, accepted };
  }

  /** The same for work whose verdict is awaited at once. */
  async run<T>(what: string, work: () => T): Promise<T> {
    const { value, accepted } = this.scoped(what, work);
    await accepted;
    return value;
  }

  /** Awaits a promise of the device; rejects with DEVICE_LOST as soon as the device is gone. */
  settle<T>(what: string, native: Promise<T>): Promise<T> {
    const settled = new Promise<T>((resolve, reject) => {
      if (this.#lost !== null) reject(this.#lost);
      this.#waiting.add(reject);
      native
        .then(resolve, async (cause) => {
          // A loss rejects what is pending and resolves `lost`, in either order: let the loss be heard first.
          await Promise.race([this.device.lost, new Promise((wait) => setTimeout(wait, LOSS_NOTICE_MS))]);
          reject(cause instanceof SamebitsError ? cause : failure(what, cause));
        })
        .finally(() => this.#waiting.delete(reject));
    });
    settled.catch(() => {});
    return settled;
  }
}

/** What the device refused or broke on. */
export function failure(what: string, cause: unknown): SamebitsError {
  return new SamebitsError('DEVICE_FAILURE', {
    rule: `the WebGPU device must carry out ${what}`,
    expected: 'no error from the device',
    got: messageOf(cause),
    fix: "Run 'samebits doctor'; if the device is healthy, this is a fault in samebits worth reporting.",
    cause,
  });
}

function outOfMemory(what: string, cause: GPUError): SamebitsError {
  return new SamebitsError('DEVICE_OUT_OF_MEMORY', {
    rule: `the WebGPU device must have memory for ${what}`,
    expected: 'enough free device memory',
    got: messageOf(cause),
    fix: 'Dispose of weights that are no longer needed, or run fewer rows at a time.',
    cause,
  });
}

function lostError(info: GPUDeviceLostInfo): SamebitsError {
  return new SamebitsError('DEVICE_LOST', {
    rule: 'the WebGPU device must stay present',
    expected: 'a live device',
    got: `a device that was lost (${info.reason}): ${info.message || 'no message'}`,
    fix: 'Create a new device and backend, and upload the weights again.',
  });
}

function messageOf(cause: unknown): string {
  return typeof cause === 'object' && cause !== null && 'message' in cause ? String(cause.message) : String(cause);
}

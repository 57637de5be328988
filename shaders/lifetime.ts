// The life of a backend: what is in flight, and the end that waits for it.

import { disposedError } from '../core/backend.js';

export class Lifetime {
  readonly #inFlight = new Set<Promise<unknown>>();
  #ended = false;

  /** @throws SamebitsError DISPOSED */
  requireLive(): void {
    if (this.#ended) throw disposedError('backend');
  }

  /** Does `work` as part of this life: its end waits for the work to settle. */
  track<T>(work: () => Promise<T>): Promise<T> {
    const promise = this.#begin(work);
    this.#inFlight.add(promise);
    const settled = () => this.#inFlight.delete(promise);
    promise.then(settled, settled);
    return promise;
  }

  /** Refuses new work and waits for the old. */
  async end(): Promise<void> {
    this.#ended = true;
    await Promise.allSettled(this.#inFlight);
  }

  async #begin<T>(work: () => Promise<T>): Promise<T> {
    this.requireLive();
    return work();
  }
}

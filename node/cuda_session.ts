// One open CUDA device: who may still use it, in which order, and the handles that it must free.

import { disposedError, foreignHandleError } from '../core/backend.js';
import { type NativeAddon, type NativeDeviceInfo, type NativeResource, samebitsErrorFrom } from './cuda_addon.js';

export class CudaSession {
  readonly #owned = new Set<CudaResource>();
  #order: Promise<unknown> = Promise.resolve();
  #disposed = false;

  constructor(
    readonly native: NativeAddon,
    readonly info: NativeDeviceInfo,
  ) {}

  /** Runs a native call; its failures become SamebitsErrors. */
  async call<T>(work: () => T | Promise<T>): Promise<T> {
    this.requireLive();
    return await translated(work);
  }

  /**
   * The same, after every call that was submitted so before, and every release: a read sees the writes and plans that
   * came before it, and new memory may take the place of what was disposed.
   */
  async inOrder<T>(work: () => Promise<T>): Promise<T> {
    this.requireLive();
    const result = this.#order.then(() => translated(work));
    this.#order = result.catch(() => undefined);
    return await result;
  }

  /** @throws SamebitsError DISPOSED */
  requireLive(): void {
    if (this.#disposed) throw disposedError('backend');
  }

  own(resource: CudaResource): void {
    this.#owned.add(resource);
  }

  /** Gives a handle back once everything that was submitted in order before now is done. */
  release(resource: CudaResource): void {
    this.#owned.delete(resource);
    this.#order = this.#order.then(() => this.native.release(resource.handle));
  }

  /** Frees every resource, then the device. Calls in flight end as they would have. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const resource of this.#owned) resource.dispose();
    await this.#order;
    await this.native.release(this.info.handle);
  }
}

/** A native handle with an owner and an end. */
export abstract class CudaResource<Handle extends NativeResource = NativeResource> {
  protected abstract readonly what: string;
  #disposed = false;

  constructor(
    readonly session: CudaSession,
    readonly handle: Handle,
  ) {
    session.own(this);
  }

  /** @throws SamebitsError DISPOSED */
  requireLive(): void {
    this.session.requireLive();
    if (this.#disposed) throw disposedError(this.what);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.session.release(this);
  }
}

/**
 * The resource behind a public handle.
 * @throws SamebitsError BACKEND_MISMATCH for one of another backend; DISPOSED
 */
export function ownResource<T extends CudaResource>(
  session: CudaSession,
  handle: unknown,
  type: abstract new (...args: never[]) => T,
  what: string,
): T {
  session.requireLive();
  if (!(handle instanceof type) || handle.session !== session) throw foreignHandleError(what, 'cuda');
  handle.requireLive();
  return handle;
}

async function translated<T>(work: () => T | Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    throw samebitsErrorFrom(error);
  }
}

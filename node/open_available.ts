// Every backend that can be opened here, and why the others cannot: what verify, bench and doctor work on.

import { type Backend, type BackendName, type PassedOver, SamebitsError } from '../core/index.js';
import { openBackend } from './open_backend.js';

export interface Available {
  readonly backends: readonly Backend[];
  readonly unavailable: readonly PassedOver[];
}

/**
 * Opens the named backends. With `required`, the first that is not available throws.
 * @throws SamebitsError BACKEND_UNAVAILABLE, ARGUMENT_INVALID for a name that does not exist
 */
export async function openAvailable(names: readonly BackendName[], required: boolean): Promise<Available> {
  const backends: Backend[] = [];
  const unavailable: PassedOver[] = [];
  for (const name of names) {
    try {
      backends.push(await openBackend(name));
    } catch (error) {
      const isAbsent = error instanceof SamebitsError && error.code === 'BACKEND_UNAVAILABLE';
      if (!isAbsent || required) {
        await Promise.all(backends.map((backend) => backend.dispose()));
        throw error;
      }
      unavailable.push({ name, reason: error.got });
    }
  }
  return { backends, unavailable };
}

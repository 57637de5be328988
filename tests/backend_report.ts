// How a test says what it ran on, and how it skips where there is nothing to run on. `npm test` prints a line for each.

import type { TestContext } from 'vitest';

declare module 'vitest' {
  interface TaskMeta {
    backend?: { readonly backend: string; readonly state: 'ran' | 'skipped'; readonly detail: string };
  }
}

/** Notes that this test ran on a device: `webgpu (Dawn)`, `SwiftShader`. */
export function ranOn(context: TestContext, backend: string, device: string): void {
  context.task.meta.backend = { backend, state: 'ran', detail: device };
}

/**
 * Skips this test because a backend is not here; fails it when SAMEBITS_REQUIRE names that backend.
 * @param backend its name, or with what provides it: `webgpu (Dawn)`
 */
export function skipWithout(context: TestContext, backend: string, reason: string): never {
  const name = backend.split(' ')[0]!;
  if ((process.env['SAMEBITS_REQUIRE'] ?? '').split(',').includes(name)) {
    throw new Error(`SAMEBITS_REQUIRE asks for ${name}, which is not here: ${reason}`);
  }
  context.task.meta.backend = { backend, state: 'skipped', detail: reason };
  context.skip(`${backend}: ${reason}`);
}

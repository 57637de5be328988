// One thread of the soak: its own backends, its own share of the cases.

import { parentPort, workerData } from 'node:worker_threads';
import { type Backend, SamebitsError } from '../core/index.js';
import { openBackend } from './open_backend.js';
import { soak } from './soak.js';
import { DONE, type SoakMessage, type SoakShare, STOP } from './soak_threads.js';

const { names, control, ...share }: SoakShare = workerData;
const post = (message: SoakMessage) => parentPort?.postMessage(message);

const backends: Backend[] = [];
try {
  for (const name of names) backends.push(await openBackend(name));
  post({ kind: 'open' });
  const report = await soak(backends, {
    ...share,
    onProgress: () => Atomics.add(control, DONE, 1n),
    isStopped: () => Atomics.load(control, STOP) !== 0n,
  });
  post({ kind: 'done', report });
} catch (error) {
  if (!(error instanceof SamebitsError)) throw error;
  const { code, rule, expected, got, fix, stack } = error;
  post({ kind: 'refused', code, details: { rule, expected, got, fix, cause: stack } });
} finally {
  await Promise.all(backends.map((backend) => backend.dispose()));
}

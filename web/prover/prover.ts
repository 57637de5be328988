// The page's side of the prover: the reference and the GPU work run in a worker, so that the page never blocks.

import type { ProverReply, ProverRequest } from './messages.js';

export interface Prover {
  /** Starts a run; its replies follow. One run at a time. */
  prove(request: ProverRequest): void;
}

/** Starts the worker, which opens the device and reports it before anything else. */
export function startProver(onReply: (reply: ProverReply) => void): Prover {
  const worker = new Worker(new URL('./prover_worker.ts', import.meta.url), { type: 'module', name: 'prover' });
  worker.addEventListener('message', ({ data }: MessageEvent<ProverReply>) => onReply(data));
  worker.addEventListener('error', ({ message }) => {
    onReply({ kind: 'failed', failure: { message: message || 'the worker could not be started' } });
  });
  return { prove: (request) => worker.postMessage(request) };
}

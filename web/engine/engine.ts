// The page's side of the worker: everything that takes time runs there, so that the page never blocks.

import type { DeviceMessage, Failure, JobName, JobReply, Jobs } from './messages.js';

/** How a job ended early. */
export type Unfinished = { readonly kind: 'failed'; readonly failure: Failure } | { readonly kind: 'cancelled' };
export type Outcome<J extends JobName> = { readonly kind: 'done'; readonly result: Jobs[J]['result'] } | Unfinished;

export interface Job<J extends JobName> {
  readonly outcome: Promise<Outcome<J>>;
  /** Ends the job at its next step. */
  cancel(): void;
}

export interface Engine {
  /** Starts a job. Jobs run one after the other. */
  start<J extends JobName>(job: J, request: Jobs[J]['request'], onEvent?: (event: Jobs[J]['event']) => void): Job<J>;
}

/** Starts the worker, which opens the device and reports it before anything else. */
export function startEngine(onDevice: (message: DeviceMessage) => void): Engine {
  const worker = new Worker(new URL('./engine_worker.ts', import.meta.url), { type: 'module', name: 'engine' });
  const broken = new Promise<Failure>((resolve) => {
    worker.addEventListener('error', ({ message }) => {
      const failure = { message: message || 'The worker that computes could not be started. Reload the page.' };
      onDevice({ kind: 'unavailable', failure });
      resolve(failure);
    });
  });
  worker.addEventListener('message', ({ data }: MessageEvent<DeviceMessage>) => onDevice(data));

  return {
    start<J extends JobName>(
      job: J,
      request: Jobs[J]['request'],
      onEvent: (event: Jobs[J]['event']) => void = () => {},
    ) {
      const { port1: port, port2 } = new MessageChannel();
      const outcome = new Promise<Outcome<J>>((resolve) => {
        port.addEventListener('message', ({ data }: MessageEvent<JobReply<J>>) => {
          if (data.kind === 'event') return onEvent(data.event);
          port.close();
          resolve(data);
        });
        broken.then((failure) => resolve({ kind: 'failed', failure }));
      });
      port.start();
      worker.postMessage({ job, request, port: port2 }, [port2]);
      return { outcome, cancel: () => port.postMessage('cancel') };
    },
  };
}

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
  /** Tells `listener` of the device, also when it is known already, and of every one that replaces it. */
  onDevice(listener: (message: DeviceMessage) => void): void;
}

/** Starts the worker, which opens the device and reports it before anything else. */
export function startEngine(): Engine {
  const listeners: ((message: DeviceMessage) => void)[] = [];
  let latest: DeviceMessage | null = null;
  const tell = (message: DeviceMessage) => {
    latest = message;
    for (const listener of listeners) listener(message);
  };
  const worker = new Worker(new URL('./engine_worker.ts', import.meta.url), { type: 'module', name: 'engine' });
  const broken = new Promise<Failure>((resolve) => {
    worker.addEventListener('error', ({ message }) => {
      const failure = { message: message || 'The worker that computes could not be started. Reload the page.' };
      tell({ kind: 'unavailable', failure });
      resolve(failure);
    });
  });
  worker.addEventListener('message', ({ data }: MessageEvent<DeviceMessage>) => tell(data));

  return {
    onDevice: (listener) => {
      listeners.push(listener);
      if (latest !== null) listener(latest);
    },
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

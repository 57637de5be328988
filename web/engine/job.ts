// A job in the worker: what it is given besides its request, and how its end is told.

import { SamebitsError } from '../../core/index.js';
import type { DeviceHolder } from './device_holder.js';
import type { Failure, JobName, JobReply, Jobs } from './messages.js';

export interface JobContext<J extends JobName> {
  readonly device: DeviceHolder;
  readonly signal: AbortSignal;
  emit(event: Jobs[J]['event']): void;
  /** Lets messages in, then throws when the job was cancelled. Call it between steps. */
  step(): Promise<void>;
}

/** Runs `work` and sends its events and its end through `port`. Never rejects. */
export async function runJob<J extends JobName>(
  port: MessagePort,
  device: DeviceHolder,
  work: (context: JobContext<J>) => Promise<Jobs[J]['result']>,
): Promise<void> {
  const reply = (message: JobReply<J>) => port.postMessage(message);
  const controller = new AbortController();
  const { signal } = controller;
  port.addEventListener('message', () => controller.abort());
  port.start();
  try {
    const step = async () => {
      await new Promise((resolve) => setTimeout(resolve));
      signal.throwIfAborted();
    };
    await step();
    const emit = (event: Jobs[J]['event']) => reply({ kind: 'event', event });
    reply({ kind: 'done', result: await work({ device, signal, emit, step }) });
  } catch (error) {
    reply(signal.aborted ? { kind: 'cancelled' } : { kind: 'failed', failure: failureOf(error) });
  } finally {
    port.close();
  }
}

/** An error in a form that can be sent. */
export function failureOf(error: unknown): Failure {
  if (error instanceof SamebitsError) {
    const { message, code, rule, expected, got, fix } = error;
    return { message, code, details: { rule, expected, got, fix } };
  }
  return { message: error instanceof Error ? error.message : String(error) };
}

// The worker: opens the device, then runs jobs one after the other.

import { DeviceHolder } from './device_holder.js';
import { runJob } from './job.js';
import type { DeviceMessage, JobStart } from './messages.js';
import { prove } from './prove.js';
import { race } from './race/race.js';
import { OpenModel } from './weights/open_model.js';
import type { Writer } from './writer.js';

const device = new DeviceHolder((message: DeviceMessage) => self.postMessage(message));
const model = new OpenModel();
let writer: Promise<Writer> | null = null;
let lastJob: Promise<void> = Promise.resolve();

self.addEventListener('message', ({ data }: MessageEvent<JobStart>) => {
  lastJob = lastJob.then(() => start(data));
});

function start(message: JobStart): Promise<void> {
  const { port } = message;
  switch (message.job) {
    case 'prove':
      return runJob<'prove'>(port, device, (context) => prove(message.request, context));
    case 'race':
      return runJob<'race'>(port, device, (context) => race(message.request, context));
    case 'open':
      return runJob<'open'>(port, device, () => model.open(message.request));
    case 'pack':
      return runJob<'pack'>(port, device, (context) => model.pack(message.request, context));
    case 'write':
      return runJob<'write'>(port, device, async (context) => (await openWriter()).write(message.request, context));
  }
}

/** Fetched with the model that it reads: it has a tokenizer in it, which nothing else needs. */
function openWriter(): Promise<Writer> {
  writer ??= import('./writer.js').then((module) => new module.Writer());
  return writer;
}

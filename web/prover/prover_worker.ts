// The prover: opens the device once, then runs inputs on it and on the reference, and reports each comparison.

import { openSamebitsFile, SamebitsError, verifyWeight } from '../../core/index.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { blobSource } from '../blob_source.js';
import { requestBrowserDevice } from '../browser_device.js';
import type { Failure, ProverReply, ProverRequest } from './messages.js';
import { fileSubjects, type Subject, tableSubjects } from './subjects.js';

const backend = openDevice();
let lastRun: Promise<void> = Promise.resolve();

self.addEventListener('message', ({ data }: MessageEvent<ProverRequest>) => {
  lastRun = lastRun.then(() => prove(data));
});

function reply(message: ProverReply): void {
  self.postMessage(message);
}

async function openDevice(): Promise<WebGPUBackend | null> {
  try {
    const device = await requestBrowserDevice();
    const opened = await WebGPUBackend.create(device, { ownsDevice: true });
    const limits: Record<string, number> = {};
    // The limits are getters of the prototype, which `Object.entries` does not see.
    for (const name in device.limits) {
      const value: unknown = Reflect.get(device.limits, name);
      if (typeof value === 'number') limits[name] = value;
    }
    reply({ kind: 'device', device: { info: opened.device, limits, features: [...device.features].sort() } });
    return opened;
  } catch (error) {
    reply({ kind: 'unavailable', failure: failureOf(error) });
    return null;
  }
}

async function prove(request: ProverRequest): Promise<void> {
  const opened = await backend;
  if (opened === null) return;
  try {
    if (request.kind === 'table') await run(opened, tableSubjects());
    else await proveFile(opened, request.file);
    reply({ kind: 'finished' });
  } catch (error) {
    reply({ kind: 'failed', failure: failureOf(error) });
  }
}

async function proveFile(opened: WebGPUBackend, file: File): Promise<void> {
  const samebitsFile = await openSamebitsFile(blobSource(file, file.name));
  try {
    await run(opened, fileSubjects(samebitsFile));
  } finally {
    await samebitsFile.close();
  }
}

async function run(opened: WebGPUBackend, subjects: readonly Subject[]): Promise<void> {
  if (subjects.length === 0) throw new Error('The file holds no packed weight.');
  reply({ kind: 'started', names: subjects.flatMap(({ names }) => names) });
  let index = 0;
  for (const subject of subjects) {
    const { weight, inputs } = await subject.load();
    for await (const result of verifyWeight(weight, inputs, [opened])) {
      reply({ kind: 'result', index: index++, result });
    }
  }
}

function failureOf(error: unknown): Failure {
  if (error instanceof SamebitsError) {
    const { message, code, rule, expected, got, fix } = error;
    return { message, code, details: { rule, expected, got, fix } };
  }
  return { message: error instanceof Error ? error.message : String(error) };
}

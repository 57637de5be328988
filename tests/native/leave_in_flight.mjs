// Leaves with calls in flight and nothing disposed: node leave_in_flight.mjs ADDON end|exit|terminate

import { createRequire } from 'node:module';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';

const [, , addonPath = '', way] = argv;

async function start() {
  /** @type {import('../../node/cuda_addon.js').NativeAddon} */
  const native = createRequire(import.meta.url)(addonPath);
  const { handle: device } = await native.openDevice(0);
  const operand = { dtype: 'bf16', shape: [64, 32], sizeBytes: 4096 };
  const qdata = { dtype: 'u8', shape: [64, 512], sizeBytes: 32768 };
  const description = { layout: 'coalesced-int4', groupSize: 32, qdata, scale: operand, zeroPoint: operand };
  const { handle } = await native.beginUpload(device, description, false);
  await native.appendQdata(handle, new Uint8Array(32768));
  await native.appendScales(handle, new Uint16Array(2048), new Uint16Array(2048));
  native.finishUpload(handle);
  const buffer = await native.createBuffer(device, 2048);
  for (let i = 0; i < 12; i++) void native.linear(handle, new Uint16Array(8 * 1024), false);
  void native.readBuffer(buffer);
}

if (!isMainThread) {
  await start();
  parentPort?.postMessage('started');
} else if (way === 'terminate') {
  const worker = new Worker(fileURLToPath(import.meta.url), { argv: [addonPath] });
  worker.once('message', () => void worker.terminate().then(() => process.exit(3)));
} else {
  await start();
  if (way === 'exit') process.exit(7);
}

// A cuda device under abuse: node --expose-gc abuse_cuda.mjs ADDON out-of-memory|concurrent|cycles [COUNT]
// Uses the addon alone. Prints what it did as JSON; a promise that is broken ends it with an error.

import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';

const MIB = 2 ** 20;
const WORKERS = 8;
const CALLS_PER_WORKER = 25;
const CYCLES = 10_000;
const CYCLES_AT_ONCE = 8;

const [addonPath, part, count] = isMainThread ? argv.slice(2) : [workerData.addonPath, 'worker', '0'];
/** @type {import('../../node/cuda_addon.js').NativeAddon} */
const native = createRequire(import.meta.url)(addonPath ?? '');
const { handle: device, name } = await native.openDevice(0);

/** The same sequence everywhere. @param {number} seed */
function* words(seed) {
  for (let state = seed; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    yield state >>> 16;
  }
}

/** Random codes, scales of 2^-7..2^-5, integer zero points. @param {number} n @param {number} k @param {number} groupSize */
async function upload(n, k, groupSize) {
  const count = (n * k) / groupSize;
  const scale = { dtype: 'bf16', shape: [n, k / groupSize], sizeBytes: count * 2 };
  const qdata = { dtype: 'u8', shape: [n, k / 2], sizeBytes: (n * k) / 2 };
  const description = { layout: 'coalesced-int4', groupSize, qdata, scale, zeroPoint: scale };
  const { handle } = await native.beginUpload(device, description, false);
  const random = words(n);
  const next = () => /** @type {number} */ (random.next().value);
  await native.appendQdata(
    handle,
    Uint8Array.from({ length: qdata.sizeBytes }, () => next()),
  );
  const scales = Uint16Array.from({ length: count }, () => 0x3c00 | (next() & 0xff));
  await native.appendScales(
    handle,
    scales,
    scales.map((bits) => 0x4000 | ((bits & 7) << 4)),
  );
  native.finishUpload(handle);
  return handle;
}

/** Activations of rows of k, around 1. @param {number} m @param {number} k @param {number} seed */
function activations(m, k, seed) {
  const random = words(seed);
  return Uint16Array.from({ length: m * k }, () => {
    const bits = /** @type {number} */ (random.next().value);
    return ((bits & 1) << 15) | ((124 + (bits & 7)) << 7) | (bits & 127);
  });
}

/** The largest block that can be had now, to a MiB: what is free. */
async function largestBlock() {
  let low = 0;
  let high = 2 ** 19;
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    const buffer = await native.createBuffer(device, middle * MIB).catch((error) => {
      assert.equal(error.code, 'DEVICE_OUT_OF_MEMORY');
    });
    if (buffer) await native.release(buffer);
    if (buffer) low = middle;
    else high = middle;
  }
  return low;
}

async function outOfMemory() {
  const weight = await upload(64, 512, 32);
  const x = activations(1, 512, 7);
  const expected = Buffer.from(await native.linear(weight, x, false));
  const freeMiB = await largestBlock();
  const attempts = Number(count ?? 20);
  for (let i = 0; i < attempts; i++) {
    // Room for the codes of the upload, 4 MiB, and for none of its scales, 2 MiB: drivers hand out blocks of 2 MiB.
    const fillers = [await native.createBuffer(device, (freeMiB - 8) * MIB)];
    for (let last; last !== null; ) {
      last = await native.createBuffer(device, 2 * MIB).catch(() => null);
      if (last !== null) fillers.push(last);
    }
    for (let room = 0; room < 2; room++) await native.release(fillers.pop() ?? assert.fail());
    await assert.rejects(upload(4096, 2048, 16), { code: 'DEVICE_OUT_OF_MEMORY' });
    for (const filler of fillers) await native.release(filler);
    assert.deepEqual(Buffer.from(await native.linear(weight, x, false)), expected);
  }
  const freeAfterMiB = await largestBlock();
  assert.equal(freeAfterMiB, freeMiB);
  return { attempts, freeMiB, freeAfterMiB };
}

const CONCURRENT_SHAPES = [
  { n: 257, k: 1024, groupSize: 32 },
  { n: 64, k: 2048, groupSize: 16 },
  { n: 1000, k: 512, groupSize: 128 },
];

/** Call i of each worker. @param {import('../../node/cuda_addon.js').NativeWeight[]} weights @param {number} i */
function concurrentCall(weights, i) {
  const s = i % weights.length;
  const shape = CONCURRENT_SHAPES[s] ?? assert.fail();
  const weight = weights[s] ?? assert.fail();
  return native.linear(weight, activations(1 + (i % 6), shape.k, i + 1), i % 2 === 1);
}

/** Of each shape, one. */
function uploadAll() {
  return Promise.all(CONCURRENT_SHAPES.map(({ n, k, groupSize }) => upload(n, k, groupSize)));
}

async function worker() {
  const weights = await uploadAll();
  const results = await Promise.all(Array.from({ length: CALLS_PER_WORKER }, (_, i) => concurrentCall(weights, i)));
  parentPort?.postMessage(results);
}

async function concurrent() {
  const weights = await uploadAll();
  const expected = [];
  for (let i = 0; i < CALLS_PER_WORKER; i++) expected.push(Buffer.from(await concurrentCall(weights, i)));
  const workers = Array.from({ length: WORKERS }, () => {
    const thread = new Worker(fileURLToPath(import.meta.url), { workerData: { addonPath } });
    return new Promise((resolve, reject) => thread.once('message', resolve).once('error', reject));
  });
  const results = await Promise.all(workers);
  for (const outputs of results) {
    for (const [i, output] of outputs.entries()) assert.deepEqual(Buffer.from(output), expected[i]);
  }
  return { threads: WORKERS, calls: results.flat().length, different: 0 };
}

async function cycles() {
  const total = Number(count ?? CYCLES);
  /** @param {number} some */
  const run = async (some) => {
    for (let done = 0; done < some; done += CYCLES_AT_ONCE) {
      await Promise.all(
        Array.from({ length: CYCLES_AT_ONCE }, async () => {
          const weight = await upload(32, 256, 32);
          await native.linear(weight, activations(1, 256, 3), false);
          await native.release(weight);
        }),
      );
    }
  };
  const rssMB = async () => {
    for (let i = 0; i < 4; i++) {
      globalThis.gc?.();
      await new Promise((turn) => setTimeout(turn, 20));
    }
    return Math.round(process.memoryUsage.rss() / 1e6);
  };
  await run(total / 10);
  const before = { freeMiB: await largestBlock(), rssMB: await rssMB() };
  await run(total);
  const after = { freeMiB: await largestBlock(), rssMB: await rssMB() };
  assert.equal(after.freeMiB, before.freeMiB);
  assert.ok(after.rssMB < before.rssMB + 24, `host memory grew from ${before.rssMB} to ${after.rssMB} MB`);
  return { cycles: total, before, after };
}

/** @type {Record<string, () => Promise<object | void>>} */
const PARTS = { 'out-of-memory': outOfMemory, concurrent, cycles, worker };
const run = PARTS[part ?? ''];
if (!run) throw new Error(`no part ${part}`);
const report = await run();
if (isMainThread) process.stdout.write(`${JSON.stringify({ device: name, ...report })}\n`);

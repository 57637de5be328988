// The addon under calls that no TypeScript would make, in child processes, so that a crash is a failed test.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, type TestContext, test } from 'vitest';
import { defaultParts } from '../../core/coalesced_parts.js';
import { CoalescedInt4Tensor, drawActivations, drawWeight, firstDifference, int4PlainMM } from '../../core/index.js';
import { loadCudaAddon, type NativeAddon } from '../../node/cuda_addon.js';
import { skipWithout } from '../backend_report.js';
import { buildAddonOnHost } from '../native/build_on_host.js';
import { ROTARY_FLOATS, tinyDescription, tinyParts } from '../native/tiny_decoder.mjs';

const SCRIPT = join(import.meta.dirname, '../native/abuse_addon.mjs');

async function addonPath(context: TestContext): Promise<string> {
  const build = await buildAddonOnHost();
  if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
  return build.path;
}

async function load(context: TestContext): Promise<NativeAddon> {
  process.env['SAMEBITS_CUDA_ADDON'] = await addonPath(context);
  try {
    return loadCudaAddon().native;
  } finally {
    delete process.env['SAMEBITS_CUDA_ADDON'];
  }
}

interface Outcome {
  readonly refused: number;
  readonly untyped: readonly string[];
  readonly acceptedAt: Readonly<Record<string, number>>;
  readonly isWhole: boolean;
}

/** Each entry, the calls that it must refuse at the least, and the arguments of which much is taken: booleans, factors, handles. */
const ENTRIES: readonly (readonly [entry: string, refused: number, booleans?: readonly string[]])[] = [
  ['probe', 0],
  ['validateWeight', 1900],
  ['openDevice', 80],
  ['beginUpload', 1900, ['argument 2', 'too few']],
  ['appendQdata', 150],
  ['appendScales', 240],
  ['appendNestedScales', 400],
  ['finishUpload', 80],
  ['linear', 160, ['argument 2', 'too few']],
  ['createBuffer', 160],
  ['writeBuffer', 160],
  ['fillBuffer', 240],
  ['readBuffer', 80],
  ['createPlan', 650],
  ['runPlan', 80],
  ['timePlan', 160],
  ['readBandwidthGBps', 240],
  ['createDecoder', 9900, ['argument 1']],
  ['cacheSizeBytes', 200],
  ['openCache', 200],
  ['runStep', 500],
  ['timeStep', 900],
  ['release', 75, ['argument 0']],
];

/** Values of the list that are right by chance: a handle of the right kind, 0 as an index, 64 zeros as a step's flag. */
const MAX_ACCEPTED = 12;

describe('every entry, with every wrong type, length, number and handle', () => {
  test('every entry of the addon is in the list', async (context) => {
    const functions = Object.entries(await load(context)).filter(([, value]) => typeof value === 'function');
    expect(functions.map(([name]) => name).sort()).toEqual(ENTRIES.map(([entry]) => entry).sort());
  });

  test.for(ENTRIES)('%s: %i calls refused by typed errors', async ([entry, refused, booleans = []], context) => {
    const path = await addonPath(context);
    const { status, signal, stdout, stderr } = spawnSync(process.execPath, [SCRIPT, path, entry], { encoding: 'utf8' });
    expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
    const outcome: Outcome = JSON.parse(stdout);
    expect(outcome).toMatchObject({ untyped: [], isWhole: true });
    expect(outcome.refused).toBeGreaterThanOrEqual(refused);
    for (const [where, count] of Object.entries(outcome.acceptedAt)) {
      if (!booleans.includes(where)) expect([where, count <= MAX_ACCEPTED]).toEqual([where, true]);
    }
  });
});

test('an output that no array can hold is an error, not the end of the process', async (context) => {
  const native = await load(context);
  // On the device K is padded to 128.
  const n = 2 ** 18;
  const { handle: device } = await native.openDevice(0);
  const scale = { dtype: 'bf16', shape: [n, 1], sizeBytes: n * 2 };
  const qdata = { dtype: 'u8', shape: [n, 16], sizeBytes: n * 16 };
  const description = { layout: 'coalesced-int4', groupSize: 32, qdata, scale, zeroPoint: scale };
  const { handle } = await native.beginUpload(device, description, false);
  await native.appendQdata(handle, new Uint8Array(n * 16));
  await native.appendScales(handle, new Uint16Array(n), new Uint16Array(n));
  native.finishUpload(handle);
  const tall = new Uint16Array(65_535 * 32);
  expect(() => native.linear(handle, tall, false)).toThrow(expect.objectContaining({ code: 'HOST_OUT_OF_MEMORY' }));
  await native.release(handle);
  await native.release(device);
});

test('a piece of scales that was refused leaves no trace in the result', async (context) => {
  const native = await load(context);
  const of = { name: 'refused', n: 6, k: 128, groupSize: 32, weights: 'real-zero' } as const;
  const weight = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(of));
  const { handle: device } = await native.openDevice(0);
  const scale = { dtype: 'bf16', shape: [6, 4], sizeBytes: 48 };
  const qdata = { dtype: 'u8', shape: [6, 64], sizeBytes: 384 };
  const description = { layout: 'coalesced-int4', groupSize: 32, qdata, scale, zeroPoint: scale };
  const { handle } = await native.beginUpload(device, description, false);
  await native.appendQdata(handle, weight.qdata);
  const { scale: scales, zeroPoint } = defaultParts(weight, 'this test');
  const spoiled = scales.data.map((bits, i) => (i === 0 ? 0x5f80 : i === 23 ? 0x7f80 : bits));
  await expect(native.appendScales(handle, spoiled, zeroPoint.data)).rejects.toMatchObject({
    code: 'SCALE_NOT_FINITE',
  });
  await native.appendScales(handle, scales.data, zeroPoint.data);
  native.finishUpload(handle);
  const x = drawActivations({ name: 'refused', m: 1, k: 128, activations: 'plain' });
  const y = new Float32Array(await native.linear(handle, x, false));
  expect(firstDifference(int4PlainMM(x, weight), y, 6)).toBeNull();
});

describe("a decoder's list of operations", () => {
  const refused = expect.objectContaining({ code: 'ARGUMENT_INVALID' });

  test('is refused without any one, with any one twice, and with neighbours in another order', async (context) => {
    const native = await load(context);
    const { handle: device } = await native.openDevice(0);
    const description = tinyDescription(await tinyParts(native, device));
    const { operations } = description;
    const lists = operations.flatMap((operation, i) => {
      const [before, after] = [operations.slice(0, i), operations.slice(i + 1)];
      const swapped = after.length > 0 ? [[...before, after[0]!, operation, ...after.slice(1)]] : [];
      return [[...before, ...after], [...before, operation, operation, ...after], ...swapped];
    });
    expect(lists).toHaveLength(3 * operations.length - 1);
    for (const list of [...lists, [], [...operations, ...operations]]) {
      await expect(native.createDecoder(device, { ...description, operations: list })).rejects.toEqual(refused);
    }
    await expect(native.createDecoder(device, { ...description, layers: [] })).rejects.toEqual(refused);
  });

  test('is refused where a rotation would be read past a step, or a step is longer than its layers read', async (context) => {
    const native = await load(context);
    const { handle: device } = await native.openDevice(0);
    const description = tinyDescription(await tinyParts(native, device));
    const layers = [{ ...description.layers[0]!, rotaryOffset: 2 }];
    await expect(native.createDecoder(device, { ...description, layers })).rejects.toEqual(refused);
    for (const rotaryFloats of [ROTARY_FLOATS - 1, ROTARY_FLOATS + 1, 2 ** 31 - 1]) {
      await expect(native.createDecoder(device, { ...description, rotaryFloats })).rejects.toEqual(refused);
    }
  });
});

test('handles do not cross to another thread', async (context) => {
  const native = await load(context);
  const { handle } = await native.openDevice(0);
  const worker = new Worker('', { eval: true });
  expect(() => worker.postMessage(handle)).toThrow(/could not be cloned/);
  await worker.terminate();
});

test('calls in a disorder that no backend would make', async (context) => {
  const native = await load(context);
  const { handle: device } = await native.openDevice(0);
  const scale = { dtype: 'bf16', shape: [6, 4], sizeBytes: 48 };
  const qdata = { dtype: 'u8', shape: [6, 64], sizeBytes: 384 };
  const description = { layout: 'coalesced-int4', groupSize: 32, qdata, scale, zeroPoint: scale };
  for (let turn = 0; turn < 50; turn++) {
    const { handle } = await native.beginUpload(device, description, false);
    const buffer = await native.createBuffer(device, 256);
    // Pieces too many at the same time, and the end of both handles while they are on their way.
    const calls = [
      ...Array.from({ length: 6 }, () => native.appendQdata(handle, new Uint8Array(96))),
      ...Array.from({ length: 3 }, () => native.appendScales(handle, new Uint16Array(12), new Uint16Array(12))),
      native.writeBuffer(buffer, new Uint8Array(256)),
      native.readBuffer(buffer),
      native.release(handle),
      native.release(buffer),
      native.release(handle),
    ];
    const outcomes = await Promise.allSettled(calls);
    const refused = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason.code] : []));
    expect(refused).toEqual(['BYTE_LENGTH_MISMATCH', 'BYTE_LENGTH_MISMATCH', 'BYTE_LENGTH_MISMATCH']);
    expect(() => native.finishUpload(handle)).toThrow(expect.objectContaining({ code: 'DISPOSED' }));
  }
});

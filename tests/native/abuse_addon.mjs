// Calls one entry of the addon with everything that it should refuse: node abuse_addon.mjs ADDON ENTRY
// Prints JSON: how many calls were refused by a typed error, which were accepted, and which ended in anything else.

import { createRequire } from 'node:module';
import { argv } from 'node:process';
import { ROTARY_FLOATS, tinyDescription, tinyParts } from './tiny_decoder.mjs';

const [, , addonPath = '', entry = ''] = argv;
/** @type {import('../../node/cuda_addon.js').NativeAddon} */
const native = createRequire(import.meta.url)(addonPath);

const N = 6;
const K = 128;
const GROUPS = 4;

/** @param {ArrayBufferView} view */
const detached = (view) => {
  structuredClone(view.buffer, { transfer: [/** @type {ArrayBuffer} */ (view.buffer)] });
  return view;
};

function description() {
  const scale = { dtype: 'bf16', shape: [N, GROUPS], sizeBytes: N * GROUPS * 2 };
  const qdata = { dtype: 'u8', shape: [N, K / 2], sizeBytes: (N * K) / 2 };
  return { layout: 'coalesced-int4', groupSize: 32, qdata, scale, zeroPoint: { ...scale } };
}

/** K is one step. */
function nestedDescription() {
  const codes = { dtype: 'u8', shape: [N, 2], sizeBytes: N * 2 };
  const step = { dtype: 'f16', shape: [N, 1], sizeBytes: N * 2 };
  const qdata = { dtype: 'u8', shape: [N, 128], sizeBytes: N * 128 };
  const base = { layout: 'coalesced-int4', form: 'nested-offset', center: 8, groupSize: 128, qdata };
  return { ...base, scale: codes, scaleStep: step, offset: { ...codes }, offsetStep: { ...step } };
}

/** One live handle of each kind, handles that were released, and what fits but is of another device. */
async function handles() {
  const { handle: device } = await native.openDevice(0);
  const { handle: empty } = await native.beginUpload(device, description(), false);
  const { handle: nested } = await native.beginUpload(device, nestedDescription(), false);
  const { handle: weight } = await native.beginUpload(device, description(), false);
  await native.appendQdata(weight, new Uint8Array((N * K) / 2));
  await native.appendScales(weight, new Uint16Array(N * GROUPS).fill(0x3c00), new Uint16Array(N * GROUPS));
  native.finishUpload(weight);
  const x = await native.createBuffer(device, K * 2);
  const y = await native.createBuffer(device, N * 4);
  const plan = await native.createPlan(device, [{ m: 1, x, weight, y, outputBf16: false }]);
  const released = await native.createBuffer(device, 16);
  await native.release(released);
  const parts = await tinyParts(native, device);
  const { handle: decoder } = await native.createDecoder(device, tinyDescription(parts));
  const cache = await native.openCache(decoder, 16);
  const { handle: releasedDecoder } = await native.createDecoder(device, tinyDescription(parts));
  const releasedCache = await native.openCache(releasedDecoder, 16);
  await native.release(releasedCache);
  await native.release(releasedDecoder);
  const { handle: otherDevice } = await native.openDevice(0);
  const others = await tinyParts(native, otherDevice);
  return {
    ...{
      device,
      empty,
      nested,
      weight,
      x,
      y,
      plan,
      released,
      ...parts,
      decoder,
      cache,
      releasedDecoder,
      releasedCache,
    },
    ...{ otherDevice, otherSquare: others.square, otherVector: others.vector, otherEmbedding: others.embedding },
  };
}

const codes = () => new Uint8Array(N * 2).fill(3);
const scales = () => new Uint16Array(N * GROUPS).fill(0x3c00);

/**
 * A call of each entry that is accepted, made anew for each abuse of it.
 * @type {Record<string, (made: Awaited<ReturnType<typeof handles>>) => unknown[]>}
 */
const PASSING = {
  probe: () => [],
  validateWeight: () => [description(), scales(), scales()],
  openDevice: () => [0],
  beginUpload: ({ device }) => [device, description(), false],
  appendQdata: ({ empty }) => [empty, new Uint8Array((N * K) / 2)],
  appendScales: ({ empty }) => [empty, scales(), scales()],
  appendNestedScales: ({ nested }) => [nested, codes(), codes(), new Uint16Array(N), new Uint16Array(N)],
  finishUpload: ({ weight }) => [weight],
  linear: ({ weight }) => [weight, new Uint16Array(2 * K), false],
  createBuffer: ({ device }) => [device, 64],
  writeBuffer: ({ x }) => [x, new Uint8Array(K * 2)],
  fillBuffer: ({ x }) => [x, K, new Uint8Array(K)],
  readBuffer: ({ x }) => [x],
  createPlan: ({ device, x, weight, y }) => [device, [{ m: 1, x, weight, y, outputBf16: false }]],
  runPlan: ({ plan }) => [plan],
  timePlan: ({ plan }) => [plan, 2],
  readBandwidthGBps: ({ device }) => [device, 1024, 2],
  createDecoder: ({ device, square, vector, embedding }) => [device, tinyDescription({ square, vector, embedding })],
  cacheSizeBytes: ({ decoder }) => [decoder, 16],
  openCache: ({ decoder }) => [decoder, 16],
  runStep: ({ cache }) => [cache, Int32Array.of(1, 2), 3, 'greedy', new Float32Array(ROTARY_FLOATS)],
  timeStep: ({ cache }) => [cache, 1, 3, 'greedy', ['linear', 'norm'], new Float32Array(ROTARY_FLOATS), 2],
  release: ({ x }) => [x],
};

/** @param {Awaited<ReturnType<typeof handles>>} made */
function wrongValues(made) {
  const bytes = 2 * K * 2;
  const kinds = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array];
  const others = [Float32Array, Float64Array, BigInt64Array, BigUint64Array];
  return [
    ...[undefined, null, true, false, 0, -0, 1, -1, 0.5, Number.NaN, Infinity, -Infinity],
    ...[2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 32 + 1, 2 ** 53 - 1, 2 ** 53, -(2 ** 31), -(2 ** 53), 1e308],
    ...[
      '',
      '0',
      'weight',
      Symbol('s'),
      1n,
      2n ** 64n,
      {},
      [],
      [0],
      () => 1,
      new Date(0),
      /r/,
      new Map(),
      new Proxy({}, {}),
    ],
    ...Object.values(made),
    ...[Object.create(/** @type {object} */ (made.weight)), new Proxy(/** @type {object} */ (made.device), {})],
    ...[new ArrayBuffer(bytes), new SharedArrayBuffer(bytes), new DataView(new ArrayBuffer(bytes))],
    ...[...kinds, ...others].map((Kind) => new Kind(bytes / Kind.BYTES_PER_ELEMENT)),
    ...[...kinds, ...others].map((Kind) => detached(new Kind(bytes / Kind.BYTES_PER_ELEMENT))),
    ...[0, 1, K - 1, K + 1, N * GROUPS - 1, N * GROUPS + 1].map((length) => new Uint16Array(length)),
    ...[0, 1, 255, 257, (N * K) / 2 - 1, (N * K) / 2 + 1].map((length) => new Uint8Array(length)),
    ...[0, 1, ROTARY_FLOATS - 1, ROTARY_FLOATS + 1].map((length) => new Float32Array(length)),
    ...[[], [-1], [32], [2 ** 31 - 1], [1, 2, 3, 32], [1, 2, 3, 4, 5]].map((tokens) => Int32Array.from(tokens)),
    ...[new Uint16Array(new SharedArrayBuffer(6), 2, 1), new Uint8Array(new SharedArrayBuffer(7), 3, 2)],
  ];
}

/**
 * Objects and arrays like the passing one with one part of it replaced, at any depth.
 * @param {unknown} value
 * @param {readonly unknown[]} wrong
 * @returns {Generator<unknown>}
 */
function* spoiled(value, wrong) {
  if (typeof value !== 'object' || value === null || ArrayBuffer.isView(value)) return;
  for (const [key, part] of Object.entries(value)) {
    /** @param {unknown} replaced */
    const copy = (replaced) => Object.assign(Array.isArray(value) ? [...value] : { ...value }, { [key]: replaced });
    for (const replacement of wrong) yield copy(replacement);
    for (const inner of spoiled(part, wrong)) yield copy(inner);
    yield Object.defineProperty(copy(part), key, {
      get() {
        throw Object.assign(new Error('from a getter'), { code: 'GETTER' });
      },
    });
  }
}

const made = await handles();
const wrong = wrongValues(made);
const passing = PASSING[entry];
if (!passing) throw new Error(`no entry ${entry}`);
const counts = { refused: 0, accepted: 0 };
/** @type {string[]} */
const untyped = [];
/** @type {Record<string, number>} */
const acceptedAt = {};

/** @param {string} where @param {unknown[]} args */
async function abuse(where, args) {
  try {
    await Reflect.apply(Reflect.get(native, entry), native, args);
    counts.accepted++;
    acceptedAt[where] = (acceptedAt[where] ?? 0) + 1;
  } catch (error) {
    const isTyped = error instanceof Error && 'code' in error && /^[A-Z_]+$/.test(String(error.code));
    if (isTyped) counts.refused++;
    else untyped.push(`${where}: ${String(error)}`);
  }
}

const arity = passing(made).length;
for (let i = 0; i < arity; i++) {
  for (const value of [...wrong, ...spoiled(passing(made)[i], wrong)]) {
    // Releasing what the other calls need would make every later refusal a DISPOSED.
    const fresh = entry === 'release' || entry.startsWith('append') ? await handles() : made;
    const args = passing(fresh);
    args[i] = entry === 'release' ? counterpart(value, fresh) : value;
    await abuse(`argument ${i}`, args);
  }
  await abuse('too few', passing(made).slice(0, i));
}
await abuse('too many', [...passing(made), ...wrong]);
if (entry !== 'release') {
  try {
    await Reflect.construct(Reflect.get(native, entry), passing(made));
  } catch (error) {
    if (!(error instanceof Error)) untyped.push(`as a constructor: ${String(error)}`);
  }
}

/** The handle of `fresh` in the place of one of `made`. @param {unknown} value @param {typeof made} fresh */
function counterpart(value, fresh) {
  const found = Object.entries(made).find(([, handle]) => handle === value);
  return found ? Reflect.get(fresh, found[0]) : value;
}

// The addon is still whole.
const after = await handles();
const y = await native.linear(after.weight, new Uint16Array(K).fill(0x3f80), false);
const isWhole = new Float32Array(y).length === N;
process.stdout.write(JSON.stringify({ ...counts, acceptedAt, untyped: untyped.slice(0, 20), isWhole }));

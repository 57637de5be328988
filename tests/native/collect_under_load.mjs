// Garbage collection while Dawn works: node --expose-gc collect_under_load.mjs LIBRARY ROUNDS [leave]
// LIBRARY is the built dist/node/index.js. References are dropped everywhere that a caller may drop them, the collector
// runs in between, and every output is compared. With `leave`, the process ends with calls in flight and nothing disposed.

import assert from 'node:assert/strict';
import { argv } from 'node:process';
import { pathToFileURL } from 'node:url';

const [, , library = '', rounds = '', leave] = argv;
const samebits = await import(pathToFileURL(library).href);
const { CoalescedInt4Tensor, drawActivations, drawWeight, firstDifference, int4PlainMM, openDawnBackend } = samebits;

const collect = globalThis.gc ?? assert.fail('run with --expose-gc');
const collector = setInterval(() => void collect(), 1);

const shape = { name: 'collected', n: 24, k: 256, groupSize: 32, m: 3, weights: 'real-zero', activations: 'outlier' };
const tensor = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(shape));
const x = drawActivations(shape);
const expected = int4PlainMM(x, tensor);

/** @param {Float32Array} y */
function check(y) {
  assert.equal(firstDifference(expected, y, shape.n), null);
}

/** A backend whose only reference is the caller's, with work of every kind on it at the same time. */
async function work() {
  const backend = await openDawnBackend();
  const weight = await backend.upload(tensor);
  const xBuffer = await backend.createBuffer(x.byteLength);
  const y = await backend.createBuffer(expected.byteLength);
  await xBuffer.write(new Uint8Array(x.buffer));
  const plan = await backend.plan([{ m: shape.m, x: xBuffer, weight, y, outputType: 'f32' }]);
  collect();
  const linears = Array.from({ length: 8 }, () => backend.linear(x, weight));
  const dropped = backend.upload(tensor).then((/** @type {{ dispose(): void }} */ handle) => handle.dispose());
  collect();
  await plan.run();
  check(new Float32Array((await y.read()).buffer));
  for (const result of await Promise.all(linears)) check(result);
  await dropped;
  return backend;
}

for (let round = 0; round < Number(rounds); round++) {
  const backend = await work();
  // Every other backend is left to the collector.
  if (round % 2 === 0) await backend.dispose();
  collect();
}
if (leave === 'leave') {
  const backend = await openDawnBackend();
  const weight = await backend.upload(tensor);
  for (let i = 0; i < 8; i++) void backend.linear(x, weight);
  process.exit(7);
}
clearInterval(collector);

// Everything that the webgpu backend refuses, each by its code, and nothing else happens.

import { describe, expect, test } from 'vitest';
import { defaultParts } from '../../core/coalesced_parts.js';
import { CoalescedInt4Tensor, CpuBackend, type ErrorCode, int4PlainMM, type PlanStep } from '../../core/index.js';
import { type EncodeOperands, WebGPUBackend } from '../../shaders/index.js';
import { drawSmall, expectBits, ownDawn, refusal, useDawn } from './webgpu_device.js';

const dawn = useDawn();

/** A live backend with one of everything: the passing control of every case. */
async function control(device: GPUDevice) {
  const backend = await WebGPUBackend.create(device);
  const drawn = drawSmall({ m: 2 });
  const weight = await backend.upload(drawn.weight);
  const x = await backend.createBuffer(drawn.x.byteLength);
  const y = await backend.createBuffer(2 * drawn.n * 4);
  const step: PlanStep = { m: 2, x, weight, y, outputType: 'f32' };
  const plan = await backend.plan([step]);
  const operands: EncodeOperands = { x: x.buffer, weight, y: y.buffer, m: 2 };
  const encode = (changes: Partial<EncodeOperands>) =>
    backend.encode(device.createCommandEncoder(), { ...operands, ...changes });
  return { device, backend, drawn, tensor: drawn.weight, weight, x, y, step, plan, encode };
}
type Control = Awaited<ReturnType<typeof control>>;

interface Case {
  readonly name: string;
  readonly code: ErrorCode;
  readonly call: (control: Control) => Promise<unknown>;
}

/** A coalesced tensor whose parts() gives something else: what a later change of its fields would amount to. */
function forged(tensor: CoalescedInt4Tensor, changes: Partial<ReturnType<CoalescedInt4Tensor['parts']>>) {
  return Object.assign(CoalescedInt4Tensor.fromInt4Tensor(drawSmall({ m: 2 }).native), {
    parts: () => ({ ...tensor.parts(), ...changes }),
  });
}

const untyped = (value: unknown): never => value as never;

const UPLOADS: readonly Case[] = [
  {
    name: 'an Int4Tensor',
    code: 'LAYOUT_WRONG_TYPE',
    call: ({ backend, drawn }) => backend.upload(untyped(drawn.native)),
  },
  {
    name: 'a square Int4Tensor, N = nGroups',
    code: 'LAYOUT_WRONG_TYPE',
    call: ({ backend }) => backend.upload(untyped(drawSmall({ n: 16, k: 512 }).native)),
  },
  {
    name: 'a look-alike of a coalesced tensor',
    code: 'LAYOUT_WRONG_TYPE',
    call: ({ backend, tensor }) => backend.upload(untyped({ ...tensor, parts: () => tensor.parts() })),
  },
  { name: 'nothing', code: 'LAYOUT_WRONG_TYPE', call: ({ backend }) => backend.upload(untyped(undefined)) },
  {
    name: 'scales that have become native',
    code: 'LAYOUT_NATIVE_SCALE',
    call: ({ backend, tensor, drawn }) => backend.upload(forged(tensor, { scale: drawn.native.parts().scale })),
  },
  {
    name: 'a scale that has become NaN',
    code: 'SCALE_NOT_FINITE',
    call: ({ backend, tensor }) => {
      const { scale } = defaultParts(tensor, 'this test');
      return backend.upload(forged(tensor, { scale: { ...scale, data: scale.data.map(() => 0x7fc0) } }));
    },
  },
  {
    name: 'codes that have become shorter',
    code: 'BYTE_LENGTH_MISMATCH',
    call: ({ backend, tensor }) => {
      const { qdata } = tensor.parts();
      return backend.upload(forged(tensor, { qdata: { ...qdata, data: qdata.data.subarray(1) } }));
    },
  },
  {
    name: 'a coalesced tensor as native',
    code: 'LAYOUT_WRONG_TYPE',
    call: ({ backend, tensor }) => backend.benchmark.uploadNative!(untyped(tensor)),
  },
];

const CALLS: readonly Case[] = [
  {
    name: 'linear: x that is no whole row',
    code: 'INPUT_LENGTH_MISMATCH',
    call: ({ backend, weight, drawn }) => backend.linear(drawn.x.subarray(1), weight),
  },
  {
    name: 'linear: no rows',
    code: 'INPUT_LENGTH_MISMATCH',
    call: ({ backend, weight }) => backend.linear(new Uint16Array(0), weight),
  },
  {
    name: 'linear: an unknown output type',
    code: 'ARGUMENT_INVALID',
    call: ({ backend, weight, drawn }) => backend.linear(drawn.x, weight, { outputType: untyped('f16') }),
  },
  {
    name: 'linear: a weight of the cpu backend',
    code: 'BACKEND_MISMATCH',
    call: async ({ backend, tensor, drawn }) => backend.linear(drawn.x, await new CpuBackend().upload(tensor)),
  },
  {
    name: 'linear: a weight of another backend on the same device',
    code: 'BACKEND_MISMATCH',
    call: async ({ device, weight, drawn }) => (await WebGPUBackend.create(device)).linear(drawn.x, weight),
  },
  {
    name: 'linear: a weight that was never uploaded',
    code: 'BACKEND_MISMATCH',
    call: ({ backend, tensor, drawn }) => backend.linear(drawn.x, untyped(tensor)),
  },
  {
    name: 'createBuffer: no bytes',
    code: 'ARGUMENT_INVALID',
    call: ({ backend }) => backend.createBuffer(0),
  },
  {
    name: 'createBuffer: more than a binding holds',
    code: 'DEVICE_LIMIT',
    call: ({ backend, device }) => backend.createBuffer(device.limits.maxStorageBufferBindingSize + 1),
  },
  {
    name: 'write: a byte too few',
    code: 'BYTE_LENGTH_MISMATCH',
    call: ({ x }) => x.write(new Uint8Array(x.sizeBytes - 1)),
  },
  {
    name: 'plan: x of another size',
    code: 'BYTE_LENGTH_MISMATCH',
    call: ({ backend, step, y }) => backend.plan([{ ...step, x: y }]),
  },
  {
    name: 'plan: y of the other output type',
    code: 'BYTE_LENGTH_MISMATCH',
    call: ({ backend, step }) => backend.plan([{ ...step, outputType: 'bf16' }]),
  },
  { name: 'plan: no rows', code: 'M_UNSUPPORTED', call: ({ backend, step }) => backend.plan([{ ...step, m: 0 }]) },
  {
    name: 'plan: a buffer of the cpu backend',
    code: 'BACKEND_MISMATCH',
    call: async ({ backend, step }) => backend.plan([{ ...step, x: await new CpuBackend().createBuffer(2048) }]),
  },
  {
    name: 'encode: x that is too small',
    code: 'BYTE_LENGTH_MISMATCH',
    call: ({ encode, y }) => encode({ x: y.buffer }),
  },
  { name: 'encode: y that is too small', code: 'BYTE_LENGTH_MISMATCH', call: ({ encode }) => encode({ m: 2 ** 12 }) },
  {
    name: 'encode: y that is no storage buffer',
    code: 'DEVICE_FAILURE',
    call: ({ encode, device, y }) => encode({ y: device.createBuffer({ size: y.buffer.size, usage: 0x0c }) }),
  },
];

const DISPOSED: readonly Case[] = [
  {
    name: 'a weight: linear',
    code: 'DISPOSED',
    call: ({ backend, weight, drawn }) => {
      weight.dispose();
      return backend.linear(drawn.x, weight);
    },
  },
  {
    name: 'a weight: a plan that has it',
    code: 'DISPOSED',
    call: ({ weight, plan }) => {
      weight.dispose();
      return plan.run();
    },
  },
  {
    name: 'a buffer: read',
    code: 'DISPOSED',
    call: ({ y }) => {
      y.dispose();
      return y.read();
    },
  },
  {
    name: 'a buffer: write',
    code: 'DISPOSED',
    call: ({ x }) => {
      x.dispose();
      return x.write(new Uint8Array(x.sizeBytes));
    },
  },
  {
    name: 'a buffer: a plan that has it',
    code: 'DISPOSED',
    call: ({ y, plan }) => {
      y.dispose();
      return plan.run();
    },
  },
  {
    name: 'a plan',
    code: 'DISPOSED',
    call: ({ plan }) => {
      plan.dispose();
      return plan.run();
    },
  },
];

const AFTER: readonly Omit<Case, 'code'>[] = [
  { name: 'upload', call: ({ backend, tensor }) => backend.upload(tensor) },
  { name: 'linear', call: ({ backend, weight, drawn }) => backend.linear(drawn.x, weight) },
  { name: 'createBuffer', call: ({ backend }) => backend.createBuffer(4) },
  { name: 'a read', call: ({ y }) => y.read() },
  { name: 'a write', call: ({ x }) => x.write(new Uint8Array(x.sizeBytes)) },
  { name: 'plan', call: ({ backend, step }) => backend.plan([step]) },
  { name: 'a run', call: ({ plan }) => plan.run() },
  { name: 'timePlan', call: ({ backend, plan }) => backend.benchmark.timePlan(plan, 1) },
  { name: 'uploadNative', call: ({ backend, drawn }) => backend.benchmark.uploadNative!(drawn.native) },
  { name: 'readBandwidthGBps', call: ({ backend }) => backend.benchmark.readBandwidthGBps(1024, 1) },
];

describe.for([
  ['uploads', UPLOADS],
  ['calls', CALLS],
  ['use after dispose', DISPOSED],
] as const)('%s', ([, cases]) => {
  test.for(cases)('$name: $code', async ({ code, call }, context) => {
    const made = await control(dawn(context).device);
    await expect(call(made)).rejects.toThrow(refusal(code));
    await made.backend.dispose();
  });
});

test('what was refused leaves the backend as it was', async (context) => {
  const made = await control(dawn(context).device);
  for (const { code, call } of [...UPLOADS, ...CALLS]) await expect(call(made)).rejects.toThrow(refusal(code));
  const { backend, weight, drawn, tensor } = made;
  expectBits(int4PlainMM(drawn.x, tensor), await backend.linear(drawn.x, weight), drawn.n);
  await backend.dispose();
});

test('a disposed backend refuses everything', async (context) => {
  const made = await control(dawn(context).device);
  await made.backend.dispose();
  await made.backend.dispose();
  for (const { name, call } of AFTER) await expect(call(made), name).rejects.toThrow(refusal('DISPOSED'));
});

test('a lost device rejects what waits for it and refuses everything after', async (context) => {
  const { device, keepAlive } = await ownDawn(context);
  const made = await control(device);
  const { backend, weight, drawn, plan } = made;
  const waiting = [backend.linear(drawn.x, weight), plan.run(), made.y.read()];
  device.destroy();
  for (const call of waiting) await expect(call).rejects.toThrow(refusal('DEVICE_LOST'));
  for (const { name, call } of AFTER) await expect(call(made), name).rejects.toThrow(refusal('DEVICE_LOST'));
  await expect(WebGPUBackend.create(device)).rejects.toThrow(refusal('DEVICE_LOST'));
  await backend.dispose();
  expect(keepAlive.gpu).toBeDefined();
});

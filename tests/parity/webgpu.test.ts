// The case table on WebGPU, with both dot variants: linear and plans, both outputs, both layouts, bit for bit.

import { afterAll, describe, type TestContext, test } from 'vitest';
import {
  type Backend,
  CASES,
  CoalescedInt4Tensor,
  type DeviceBuffer,
  drawActivations,
  drawWeight,
  int4PlainMM,
} from '../../core/index.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { bf16From, bytesOf, expectBits, f32From, useDawn } from './webgpu_device.js';

const POISON = 0xa5;
const dawn = useDawn();

/** One backend for all tests of a variant, so that its pipelines compile once. */
function useBackend(dot: 'packed' | 'unpacked'): (context: TestContext) => Promise<WebGPUBackend> {
  let backend: Promise<WebGPUBackend> | null = null;
  afterAll(async () => {
    await (await backend)?.dispose();
  });
  return (context) => {
    const { device } = dawn(context);
    backend ??= WebGPUBackend.create(device, { dot });
    return backend;
  };
}

async function poisoned(backend: Backend, sizeBytes: number): Promise<DeviceBuffer> {
  const buffer = await backend.createBuffer(sizeBytes);
  await buffer.write(new Uint8Array(sizeBytes).fill(POISON));
  return buffer;
}

async function bufferOf(backend: Backend, values: Uint16Array): Promise<DeviceBuffer> {
  const buffer = await backend.createBuffer(values.byteLength);
  await buffer.write(bytesOf(values));
  return buffer;
}

describe('packed dot products', () => {
  const backendOf = useBackend('packed');

  test.for(CASES)('$name', async (of, context) => {
    const backend = await backendOf(context);
    const { n, m } = of;
    const native = drawWeight(of);
    const tensor = CoalescedInt4Tensor.fromInt4Tensor(native);
    const x = drawActivations(of);
    const f32 = int4PlainMM(x, tensor, 'f32');
    const bf16 = int4PlainMM(x, tensor, 'bf16');

    const coalesced = await backend.upload(tensor);
    const before = await backend.benchmark.uploadNative!(native);
    expectBits(f32, await backend.linear(x, coalesced), n);
    expectBits(bf16, await backend.linear(x, coalesced, { outputType: 'bf16' }), n);

    const onDevice = await bufferOf(backend, x);
    const y32 = await poisoned(backend, f32.byteLength);
    const y16 = await poisoned(backend, bf16.byteLength);
    const plan = await backend.plan([
      { m, x: onDevice, weight: before, y: y32, outputType: 'f32' },
      { m, x: onDevice, weight: coalesced, y: y16, outputType: 'bf16' },
    ]);
    await plan.run();
    expectBits(f32, f32From(await y32.read()), n);
    expectBits(bf16, bf16From(await y16.read()), n);
    expectBits(x, bf16From(await onDevice.read()), of.k);
    for (const owned of [plan, coalesced, before, onDevice, y32, y16]) owned.dispose();
  });
});

describe('unpacked dot products', () => {
  const backendOf = useBackend('unpacked');

  test.for(CASES)('$name', async (of, context) => {
    const backend = await backendOf(context);
    const { n, m } = of;
    const tensor = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(of));
    const x = drawActivations(of);
    const weight = await backend.upload(tensor);
    const onDevice = await bufferOf(backend, x);
    const y = await poisoned(backend, m * n * 4);
    const plan = await backend.plan([{ m, x: onDevice, weight, y, outputType: 'f32' }]);
    await plan.run();
    expectBits(int4PlainMM(x, tensor, 'f32'), f32From(await y.read()), n);
    expectBits(int4PlainMM(x, tensor, 'bf16'), await backend.linear(x, weight, { outputType: 'bf16' }), n);
    for (const owned of [plan, weight, onDevice, y]) owned.dispose();
  });
});

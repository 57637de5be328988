// The case table on WebGPU, with every kernel variant, on devices with everything and with nothing: linear and plans,
// both outputs, both layouts, bit for bit. Most of its time is that of compiling kernels.

import { afterAll, describe, expect, type TestContext, test } from 'vitest';
import {
  type Backend,
  CASES,
  CoalescedInt4Tensor,
  type DeviceBuffer,
  drawActivations,
  drawWeight,
  int4PlainMM,
  type PlanStep,
} from '../../core/index.js';
import { WebGPUBackend, type WebGPUBackendOptions } from '../../shaders/index.js';
import { bf16From, bytesOf, expectBits, f32From, useDawn } from './webgpu_device.js';
import { missingFor, VARIANTS } from './webgpu_variants.js';

const POISON = 0xa5;
const dawn = useDawn();

/** One backend for all tests of a description, so that its pipelines compile once. */
function useBackend(
  options: WebGPUBackendOptions,
  open: (context: TestContext) => Promise<GPUDevice>,
): (context: TestContext) => Promise<WebGPUBackend> {
  let backend: Promise<WebGPUBackend> | null = null;
  afterAll(async () => {
    await (await backend)?.dispose();
  });
  return (context) => {
    backend ??= open(context).then((device) => WebGPUBackend.create(device, options));
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

// The first variant and the last have both outputs. Each of the others shares its sums with one of them and its products with
// the other, and has one output: f32 alone, or bf16 of linears side by side.
describe.for(VARIANTS.slice(0, 3))('$name, on all that the adapter offers', ({ name, ...variant }) => {
  const backendOf = useBackend(variant, async (context) => dawn(context).device);
  const isFirst = name === VARIANTS[0]!.name;
  const hasF32 = isFirst || variant.dot === 'unpacked';
  const hasBf16 = isFirst || variant.dot === 'packed';

  test.for(CASES)('$name', async (of, context) => {
    const missing = missingFor(dawn(context).device, variant);
    if (missing) context.skip(missing);
    const backend = await backendOf(context);
    const { n, m } = of;
    const native = drawWeight(of);
    const tensor = CoalescedInt4Tensor.fromInt4Tensor(native);
    const x = drawActivations(of);
    const f32 = int4PlainMM(x, tensor, 'f32');
    const weight = await backend.upload(tensor);
    if (hasF32) expectBits(f32, await backend.linear(x, weight), n);

    if (hasBf16) {
      const bf16 = int4PlainMM(x, tensor, 'bf16');
      // Two of one kind, which run side by side; the old layout has no part of its own in the variants.
      const onDevice = await bufferOf(backend, x);
      const y16 = [await poisoned(backend, bf16.byteLength), await poisoned(backend, bf16.byteLength)];
      const steps = y16.map((y): PlanStep => ({ m, x: onDevice, weight, y, outputType: 'bf16' }));
      const y32 = await poisoned(backend, f32.byteLength);
      const before = isFirst ? await backend.benchmark.uploadNative!(native) : weight;
      if (isFirst) steps.unshift({ m, x: onDevice, weight: before, y: y32, outputType: 'f32' });
      const plan = await backend.plan(steps);
      await plan.run();
      for (const y of y16) expectBits(bf16, bf16From(await y.read()), n);
      if (isFirst) expectBits(f32, f32From(await y32.read()), n);
      expectBits(x, bf16From(await onDevice.read()), of.k);
      for (const owned of [plan, before, onDevice, y32, ...y16]) owned.dispose();
    }
    weight.dispose();
  });
});

describe('on a device with default limits and no features', () => {
  const devices: GPUDevice[] = [];
  afterAll(() => {
    for (const device of devices) device.destroy();
  });
  // Unpacked, the last of the variants.
  const backendOf = useBackend({ dot: 'unpacked' }, async (context) => {
    const adapter = await dawn(context).keepAlive.gpu.requestAdapter();
    const device = await adapter!.requestDevice();
    devices.push(device);
    return device;
  });

  test.for(CASES)('$name', async (of, context) => {
    const backend = await backendOf(context);
    expect(backend.device.details['reduction']).toMatch(/^workgroup/);
    const tensor = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(of));
    const x = drawActivations(of);
    const weight = await backend.upload(tensor);
    expectBits(int4PlainMM(x, tensor, 'f32'), await backend.linear(x, weight), of.n);
    expectBits(int4PlainMM(x, tensor, 'bf16'), await backend.linear(x, weight, { outputType: 'bf16' }), of.n);
    weight.dispose();
  });
});

// The webgpu backend under abuse: devices lost at every moment, every buffer counted, a thousand cycles, the collector.

import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { CoalescedInt4Tensor, drawWeight, int4PlainMM } from '../../core/index.js';
import type { DawnDevice } from '../../node/dawn_device.js';
import { setUp } from '../../scripts/setup.mjs';
import { WebGPUBackend } from '../../shaders/index.js';
import { bytesOf, drawSmall, expectBits, f32From, ownDawn, refusal, useDawn } from './webgpu_device.js';

const root = resolve(import.meta.dirname, '../..');
const dawn = useDawn();

async function expectRight(backend: WebGPUBackend): Promise<void> {
  const { weight, x, n } = drawSmall({ m: 2 });
  const uploaded = await backend.upload(weight);
  expectBits(int4PlainMM(x, weight), await backend.linear(x, uploaded), n);
  uploaded.dispose();
}

/** Large enough for several pieces of an upload. */
const large = () =>
  CoalescedInt4Tensor.fromInt4Tensor(
    drawWeight({ name: 'large', n: 2304, k: 32_768, groupSize: 128, weights: 'plain' }),
  );

describe('a device that is lost', () => {
  type Made = Awaited<ReturnType<typeof make>>;
  async function make(device: GPUDevice) {
    const backend = await WebGPUBackend.create(device);
    const drawn = drawSmall({ m: 2 });
    const weight = await backend.upload(drawn.weight);
    const x = await backend.createBuffer(drawn.x.byteLength);
    const y = await backend.createBuffer(2 * drawn.n * 4);
    const step = { m: 2, x, weight, y, outputType: 'f32' as const };
    return { device, backend, drawn, weight, x, y, step, plan: await backend.plan([step]) };
  }

  /** Starts something, and then loses the device. */
  const MOMENTS: Readonly<Record<string, (made: Made) => Promise<unknown>>> = {
    'at the start of an upload': ({ backend, drawn }) => backend.upload(drawn.weight),
    'in the middle of an upload': ({ backend, device }) =>
      backend.upload(large(), { onProgress: () => device.destroy() }),
    'while kernels compile': ({ backend, drawn, weight }) => backend.linear(drawn.x, weight, { outputType: 'bf16' }),
    'during a linear': ({ backend, drawn, weight }) => backend.linear(drawn.x, weight),
    'during many linears': ({ backend, drawn, weight }) =>
      Promise.any(Array.from({ length: 20 }, () => backend.linear(drawn.x, weight))),
    'while a plan is made': ({ backend, step }) => backend.plan([step, { ...step }]),
    'during a plan': ({ plan }) => plan.run(),
    'during a read-back': ({ y }) => y.read(),
    'during a write': ({ x }) => x.write(new Uint8Array(x.sizeBytes)),
    'while a buffer is made': ({ backend }) => backend.createBuffer(1024),
    'while a plan is timed': ({ backend, plan }) => backend.benchmark.timePlan(plan, 50),
    'while memory is read': ({ backend }) => backend.benchmark.readBandwidthGBps(2 ** 22, 50),
    'while the caller encodes': ({ backend, device, step }) =>
      backend.encode(device.createCommandEncoder(), {
        m: 2,
        x: Reflect.get(step.x, 'buffer'),
        y: Reflect.get(step.y, 'buffer'),
        weight: step.weight,
      }),
  };

  /** The device that went on, whose kernels are compiled: the next to be lost. */
  let next: DawnDevice | null = null;
  afterAll(() => next?.device.destroy());

  test.for(Object.keys(MOMENTS))('%s: rejects, frees, and a new device goes on', async (moment, context) => {
    const { device, keepAlive } = next ?? (await ownDawn(context));
    next = null;
    const made = await make(device);
    const call = MOMENTS[moment]!(made).then(
      () => 'done before the loss',
      (error: unknown) => (error instanceof AggregateError ? error.errors[0] : error),
    );
    device.destroy();
    const outcome = await call;
    if (outcome !== 'done before the loss') expect(outcome).toEqual(refusal('DEVICE_LOST'));
    await expect(made.backend.linear(made.drawn.x, made.weight)).rejects.toThrow(refusal('DEVICE_LOST'));
    for (const handle of [made.plan, made.weight, made.x, made.y]) handle.dispose();
    await made.backend.dispose();

    next = await ownDawn(context);
    const recovered = await WebGPUBackend.create(next.device, { keepAlive: next.keepAlive });
    await expectRight(recovered);
    await recovered.dispose();
    expect(keepAlive.gpu).toBeDefined();
  });

  test('while a backend is made on it: rejects', async (context) => {
    const { device, keepAlive } = await ownDawn(context);
    const creating = WebGPUBackend.create(device);
    device.destroy();
    await expect(creating).rejects.toThrow(refusal('DEVICE_LOST'));
    expect(keepAlive.gpu).toBeDefined();
  });
});

/** Counts what a device makes and destroys, and its destruction, until the test is over. */
function count(device: GPUDevice) {
  const counts = { made: 0, live: 0, deviceDestroyed: 0, uncaptured: [] as string[] };
  const realCreate = device.createBuffer;
  const realDestroy = device.destroy;
  device.createBuffer = (descriptor) => {
    const buffer = realCreate.call(device, descriptor);
    const destroyBuffer = buffer.destroy;
    let isLive = true;
    counts.made++;
    counts.live++;
    buffer.destroy = () => {
      if (isLive) counts.live--;
      isLive = false;
      return destroyBuffer.call(buffer);
    };
    return buffer;
  };
  device.destroy = () => {
    counts.deviceDestroyed++;
  };
  device.onuncapturederror = ({ error }) => counts.uncaptured.push(error.message);
  onTestFinished(() => {
    device.createBuffer = realCreate;
    device.destroy = realDestroy;
    device.onuncapturederror = null;
    expect(counts.uncaptured).toEqual([]);
    expect(counts.deviceDestroyed).toBe(0);
  });
  return counts;
}

describe("the caller's device", () => {
  test('keeps no buffer of a backend that was disposed, whatever it did', async (context) => {
    const { device } = dawn(context);
    const counts = count(device);
    const backend = await WebGPUBackend.create(device, { maxBindingBytes: 4096 });
    const { weight, native, x, n } = drawSmall({ n: 64, m: 5 });
    const uploaded = await backend.upload(weight);
    await backend.benchmark.uploadNative!(native);
    const [xBuffer, y] = [await backend.createBuffer(x.byteLength), await backend.createBuffer(5 * n * 4)];
    await xBuffer.write(bytesOf(x));
    const plan = await backend.plan([{ m: 5, x: xBuffer, weight: uploaded, y, outputType: 'f32' }]);
    await plan.run();
    expectBits(int4PlainMM(x, weight), f32From(await y.read()), n);
    await Promise.all(Array.from({ length: 12 }, () => backend.linear(x, uploaded)));
    await backend.benchmark.timePlan(plan, 3);
    await backend.benchmark.readBandwidthGBps(2 ** 16, 2);
    await expect(backend.linear(x.subarray(1), uploaded)).rejects.toThrow(refusal('INPUT_LENGTH_MISMATCH'));
    expect(counts.live).toBeGreaterThan(0);
    await backend.dispose();
    expect(counts.live).toBe(0);
  });

  test('frees a weight when it is disposed of, and a thousand of them', async (context) => {
    const { device } = dawn(context);
    const counts = count(device);
    const backend = await WebGPUBackend.create(device);
    await expectRight(backend);
    const before = counts.live;
    const { weight, x, n } = drawSmall({ n: 9, k: 64 });
    const expected = int4PlainMM(x, weight);
    for (let turn = 0; turn < 50; turn++) {
      await Promise.all(
        Array.from({ length: 20 }, async () => {
          const uploaded = await backend.upload(weight);
          const buffer = await backend.createBuffer(16);
          const y = await backend.linear(x, uploaded);
          uploaded.dispose();
          buffer.dispose();
          expectBits(expected, y, n);
        }),
      );
    }
    // A few pooled buffers for inputs and outputs of this size, and no more than that.
    expect(counts.live - before).toBeLessThanOrEqual(16);
    expect(counts.made).toBeGreaterThan(4000);
    await backend.dispose();
    expect(counts.live).toBe(0);
  });

  test('outlives forty backends, two at a time', async (context) => {
    const { device } = dawn(context);
    const counts = count(device);
    for (let turn = 0; turn < 20; turn++) {
      const pair = await Promise.all([WebGPUBackend.create(device), WebGPUBackend.create(device)]);
      if (turn % 5 === 0) await Promise.all(pair.map(expectRight));
      await pair[0].dispose();
      if (turn % 5 === 0) await expectRight(pair[1]);
      await pair[1].dispose();
    }
    expect(counts.live).toBe(0);
  });

  test('has nothing left of an upload that failed in the middle', async (context) => {
    const { device } = dawn(context);
    const counts = count(device);
    const backend = await WebGPUBackend.create(device, { maxBindingBytes: 4096 });
    const { weight } = drawSmall({ n: 64 });
    const own = new Error('from the caller');
    const upload = backend.upload(weight, {
      onProgress: () => {
        throw own;
      },
    });
    await expect(upload).rejects.toBe(own);
    expect(counts.made).toBeGreaterThan(0);
    expect(counts.live).toBe(0);
    await expectRight(backend);
    await backend.dispose();
  });

  test('tells what it refuses of a buffer that was destroyed behind the back of its backend', async (context) => {
    const { device } = dawn(context);
    count(device);
    const backend = await WebGPUBackend.create(device);
    const buffer = await backend.createBuffer(64);
    buffer.buffer.destroy();
    await expect(buffer.read()).rejects.toThrow(refusal('DEVICE_FAILURE'));
    await expect(buffer.write(new Uint8Array(64))).rejects.toThrow(refusal('DEVICE_FAILURE'));
    await expectRight(backend);
    await backend.dispose();
  });
});

describe('the collector, and the end of the process', () => {
  test('an instance of Dawn is kept when its device is gone, for Dawn goes on polling it', async (context) => {
    const first = await ownDawn(context);
    const { gpu } = first.keepAlive;
    first.device.destroy();
    const second = await ownDawn(context);
    expect(second.keepAlive.gpu).toBe(gpu);
    second.device.destroy();
  });

  const script = join(root, 'tests/native/collect_under_load.mjs');
  const library = join(root, 'dist/node/index.js');
  beforeAll(() => setUp(() => {}), 300_000);

  test.for([
    ['6', 'stay', 0],
    ['1', 'leave', 7],
  ] as const)('%s backends under load, collected: %s', ([rounds, leave, expected], context) => {
    dawn(context);
    const { status, signal, stderr } = spawnSync(process.execPath, ['--expose-gc', script, library, rounds, leave], {
      encoding: 'utf8',
      timeout: 120_000,
    });
    expect({ status, signal, stderr }).toEqual({ status: expected, signal: null, stderr: '' });
  });
});

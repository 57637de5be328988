// What else must hold of the webgpu backend: slices, devices of every origin, concurrency, the caller's own encoder.

import { describe, expect, test, vi } from 'vitest';
import { COALESCED_LAYOUT, CoalescedInt4Tensor, int4PlainMM, type OutputType } from '../../core/index.js';
import { openDawnBackend } from '../../node/dawn_device.js';
import { WebGPUWeight } from '../../shaders/device_weight.js';
import { WebGPUBackend } from '../../shaders/index.js';
import {
  bf16From,
  bytesOf,
  drawSmall,
  expectBits,
  f32From,
  ownDawn,
  refusal,
  type SmallCase,
  useDawn,
} from './webgpu_device.js';

const STORAGE = 0x80;
const COPY_SRC = 0x04;
const COPY_DST = 0x08;
const POISON = 0xa5;

const dawn = useDawn();

async function expectLinear(backend: WebGPUBackend, of: SmallCase, outputType: OutputType = 'f32'): Promise<void> {
  const { weight, x, n } = drawSmall(of);
  const uploaded = await backend.upload(weight);
  expectBits(int4PlainMM(x, weight, outputType), await backend.linear(x, uploaded, { outputType }), n);
  uploaded.dispose();
}

describe('row slices', () => {
  // K = 512: 256 bytes of codes a row, so 1, 8 or 20 rows a slice.
  test.for([256, 2048, 5300])('of %i bytes give the same bits', async (maxBindingBytes, context) => {
    const backend = await WebGPUBackend.create(dawn(context).device, { maxBindingBytes });
    for (const outputType of ['f32', 'bf16'] as const) {
      await expectLinear(backend, { n: 37, m: 1 }, outputType);
      await expectLinear(backend, { n: 37, m: 6, groupSize: 16 }, outputType);
    }
    await backend.dispose();
  });

  test('of a weight in the old layout give the same bits', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device, { maxBindingBytes: 2048 });
    const { native, weight, x, n } = drawSmall({ n: 37, m: 2 });
    const uploaded = await backend.benchmark.uploadNative!(native);
    expect(uploaded.layout).toBe('native');
    expectBits(int4PlainMM(x, weight), await backend.linear(x, uploaded), n);
    await backend.dispose();
  });

  test('report progress up to the whole weight', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device, { maxBindingBytes: 2048 });
    const { weight } = drawSmall({ n: 37 });
    const done: number[] = [];
    const total = weight.qdata.byteLength + 2 * weight.groups.scale.byteLength;
    await backend.upload(weight, {
      onProgress: (doneBytes, totalBytes) => {
        expect(totalBytes).toBe(total);
        done.push(doneBytes);
      },
    });
    expect(done.length).toBeGreaterThan(5);
    expect(done).toEqual([...done].sort((a, b) => a - b));
    expect(done.at(-1)).toBe(total);
    await backend.dispose();
  });
});

describe('devices', () => {
  test('with default limits and no features', async (context) => {
    const { gpu } = dawn(context).keepAlive;
    const device = await (await gpu.requestAdapter())!.requestDevice();
    expect(device.features.has('timestamp-query')).toBe(false);
    const backend = await WebGPUBackend.create(device);
    expect(backend.device.details['timing']).toMatch(/wall clock/);
    for (const m of [1, 4, 7]) await expectLinear(backend, { m });
    await backend.dispose();
    device.destroy();
  });

  test('larger than a binding of the least device: cut by its limits', async (context) => {
    const adapter = (await dawn(context).keepAlive.gpu.requestAdapter())!;
    const device = await adapter.requestDevice();
    const backend = await WebGPUBackend.create(device, { ownsDevice: true });
    const [n, k] = [4200, 65_504];
    expect((n * k) / 2).toBeGreaterThan(device.limits.maxStorageBufferBindingSize);
    const writes = vi.spyOn(device.queue, 'writeBuffer');
    const done: number[] = [];
    const uploaded = await backend.upload(constantWeight(n, k), { onProgress: (bytes) => done.push(bytes) });
    const pieces = writes.mock.calls.map(([, , data]) => data.byteLength);
    expect(Math.max(...pieces)).toBeLessThanOrEqual(16 * 2 ** 20);
    expect(done).toHaveLength(pieces.length - 2);
    if (!(uploaded instanceof WebGPUWeight)) throw new Error('not a WebGPUWeight');
    expect(uploaded.slices.map((slice) => slice.n)).toEqual([4096, 104]);
    await backend.dispose();
  });

  test("the caller's stays alive, and may have two backends", async (context) => {
    const { device } = dawn(context);
    const [first, second] = await Promise.all([WebGPUBackend.create(device), WebGPUBackend.create(device)]);
    await Promise.all([expectLinear(first, { m: 3 }), expectLinear(second, { m: 2 })]);
    await first.dispose();
    await expectLinear(second, { m: 1 });
    await second.dispose();
    const third = await WebGPUBackend.create(device);
    await expectLinear(third, { m: 1 });
    await third.dispose();
  });

  test('of the backend are destroyed with it', async (context) => {
    const { device, keepAlive } = await ownDawn(context);
    const backend = await WebGPUBackend.create(device, { ownsDevice: true, keepAlive });
    await expectLinear(backend, {});
    await backend.dispose();
    expect((await device.lost).reason).toBe('destroyed');
  });

  test('opened by openDawnBackend say what they are', async (context) => {
    const { info } = dawn(context);
    const passedOver = [{ name: 'cuda', reason: 'none here' }] as const;
    const backend = await openDawnBackend(passedOver);
    expect(backend.device.name).toBe(info.name);
    expect(backend.device.details['api']).toBe('WebGPU');
    expect(backend.passedOver).toBe(passedOver);
    await expectLinear(backend, {});
    await backend.dispose();
  });
});

/** Codes 0 and scales 1: quick to make, however large. */
function constantWeight(n: number, k: number): CoalescedInt4Tensor {
  const [scale, zeroPoint] = [new Uint16Array(n * (k / 32)).fill(0x3f80), new Uint16Array(n * (k / 32))];
  return new CoalescedInt4Tensor({
    layout: COALESCED_LAYOUT,
    groupSize: 32,
    qdata: { dtype: 'u8', shape: [n, k / 2], data: new Uint8Array((n * k) / 2) },
    scale: { dtype: 'bf16', shape: [n, k / 32], data: scale },
    zeroPoint: { dtype: 'bf16', shape: [n, k / 32], data: zeroPoint },
  });
}

describe('kernel variants', () => {
  test('are measured once a device, and said', async (context) => {
    const { device, keepAlive } = await ownDawn(context);
    // As if it were a GPU: a CPU driver takes the first variant that compiles.
    const { subgroupMinSize, subgroupMaxSize } = device.adapterInfo;
    const info = { vendor: '', architecture: '', device: 'a GPU', description: '', subgroupMinSize, subgroupMaxSize };
    Object.defineProperty(device, 'adapterInfo', { value: info });
    const [first, second] = [await WebGPUBackend.create(device), await WebGPUBackend.create(device)];
    const { variant, reduction, dot } = first.device.details;
    expect(variant).toMatch(/^measured at the start: .* ms/);
    expect(reduction).toMatch(/^(sub|work)group \(\d+ lanes a row\)$/);
    expect(dot).toMatch(/^(un)?packed /);
    expect(second.device.details).toEqual(first.device.details);
    await expectLinear(second, { m: 3 });
    device.destroy();
    expect(keepAlive.gpu).toBeDefined();
  });

  test('are not measured where the CPU computes', async (context) => {
    const { device, info } = dawn(context);
    if (!info.isSoftware) context.skip('this device is a GPU');
    const compile = vi.spyOn(device, 'createComputePipelineAsync');
    const backend = await WebGPUBackend.create(device);
    expect(compile.mock.calls.length).toBeLessThanOrEqual(2);
    compile.mockRestore();
    expect(backend.device.details['variant']).toMatch(/^the first that compiles: /);
    await backend.dispose();
  });

  test('that are asked for are taken, and what is left is measured', async (context) => {
    const { device } = dawn(context);
    const exact = await WebGPUBackend.create(device, { reduction: 'workgroup', dot: 'unpacked' });
    expect(exact.device.details).toMatchObject({
      reduction: 'workgroup (32 lanes a row)',
      dot: 'unpacked (i32 arithmetic)',
      variant: 'as asked for',
    });
    const half = await WebGPUBackend.create(device, { dot: 'unpacked' });
    expect(half.device.details['dot']).toMatch(/^unpacked/);
    for (const backend of [exact, half]) await backend.dispose();
  });

  test('without subgroups of a fixed size, sums in subgroups are refused', async (context) => {
    const adapter = (await dawn(context).keepAlive.gpu.requestAdapter())!;
    const device = await adapter.requestDevice();
    const backend = WebGPUBackend.create(device, { reduction: 'subgroup' });
    await expect(backend).rejects.toThrow(refusal('DEVICE_LIMIT'));
    device.destroy();
  });
});

test('a staging buffer serves one read after the other', async (context) => {
  const { device } = dawn(context);
  const backend = await WebGPUBackend.create(device);
  const { weight, x, n } = drawSmall({ m: 1 });
  const uploaded = await backend.upload(weight);
  const real = device.createBuffer;
  let staging = 0;
  device.createBuffer = (descriptor) => {
    if (descriptor.usage & 0x01) staging++;
    return real.call(device, descriptor);
  };
  try {
    for (let i = 0; i < 5; i++) expectBits(int4PlainMM(x, weight), await backend.linear(x, uploaded), n);
  } finally {
    device.createBuffer = real;
  }
  expect(staging).toBe(1);
  await backend.dispose();
});

test('after a lost device, a new one serves the same weight', async (context) => {
  const { device, keepAlive } = await ownDawn(context);
  const { weight, x, n } = drawSmall({ m: 2 });
  const lost = await WebGPUBackend.create(device);
  const uploaded = await lost.upload(weight);
  device.destroy();
  await expect(lost.linear(x, uploaded)).rejects.toThrow(refusal('DEVICE_LOST'));
  await lost.dispose();
  const again = await openDawnBackend();
  expectBits(int4PlainMM(x, weight), await again.linear(x, await again.upload(weight)), n);
  await again.dispose();
  expect(keepAlive.gpu).toBeDefined();
});

describe('calls at the same time', () => {
  test('uploads, linears of both outputs and plans keep apart', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const shapes: SmallCase[] = [];
    for (const m of [1, 2, 3, 4, 5]) {
      for (const k of [256, 512, 1056])
        shapes.push({ n: 9 + m, k, groupSize: k === 1056 ? 32 : 16 * (m > 2 ? 2 : 1), m });
    }
    await Promise.all(
      shapes.map(async (shape) => {
        await Promise.all([expectLinear(backend, shape, 'f32'), expectLinear(backend, shape, 'bf16')]);
      }),
    );
    await backend.dispose();
  });

  test('many linears on one weight, with x changed as soon as the call returns', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const { weight, n } = drawSmall({ m: 1 });
    const uploaded = await backend.upload(weight);
    const rows = Array.from({ length: 24 }, (_, i) => drawSmall({ m: 1, activations: 'plain' }).x.map((v) => v ^ i));
    const calls = rows.map((row) => {
      const x = row.slice();
      const y = backend.linear(x, uploaded);
      x.fill(0);
      return y;
    });
    for (const [i, y] of (await Promise.all(calls)).entries()) expectBits(int4PlainMM(rows[i]!, weight), y, n);
    await backend.dispose();
  });

  test('a weight disposed of while calls use it, and a backend that waits for its calls', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const { weight, x, n } = drawSmall({ m: 2 });
    const uploaded = await backend.upload(weight);
    const calls = [backend.linear(x, uploaded), backend.linear(x, uploaded)];
    uploaded.dispose();
    uploaded.dispose();
    const late = backend.linear(x, uploaded);
    const end = backend.dispose();
    for (const y of await Promise.all(calls)) expectBits(int4PlainMM(x, weight), y, n);
    await expect(late).rejects.toThrow(refusal('DISPOSED'));
    await end;
  });
});

test('f32 activations are rounded to bf16', async (context) => {
  const backend = await WebGPUBackend.create(dawn(context).device);
  const { weight, x, n } = drawSmall({ m: 2 });
  const uploaded = await backend.upload(weight);
  const wide = new Float32Array(Uint32Array.from(x, (bits) => (bits << 16) | 0x1234).buffer);
  expectBits(int4PlainMM(x, weight), await backend.linear(wide, uploaded), n);
  await backend.dispose();
});

test('workgroups over two dimensions give the same bits', async (context) => {
  const { device } = dawn(context);
  const backend = await WebGPUBackend.create(device);
  const real = device.createCommandEncoder;
  let spreads = 0;
  // As spread() does above 65535 workgroups, which SwiftShader would take minutes for: 3 columns, with some too many.
  device.createCommandEncoder = (descriptor) => {
    const encoder = real.call(device, descriptor);
    const beginPass = encoder.beginComputePass;
    encoder.beginComputePass = (passDescriptor) => {
      const pass = beginPass.call(encoder, passDescriptor);
      const { setPipeline, dispatchWorkgroups } = pass;
      let isMatmul = false;
      pass.setPipeline = (pipeline) => {
        isMatmul = pipeline.label.startsWith('int4_plain_mm');
        setPipeline.call(pass, pipeline);
      };
      pass.dispatchWorkgroups = (x, y = 1, z = 1) => {
        if (isMatmul) spreads++;
        dispatchWorkgroups.call(
          pass,
          ...((isMatmul ? [3, Math.ceil(x / 3), z] : [x, y, z]) as [number, number, number]),
        );
      };
      return pass;
    };
    return encoder;
  };
  try {
    for (const outputType of ['f32', 'bf16'] as const) await expectLinear(backend, { n: 75, m: 5 }, outputType);
  } finally {
    device.createCommandEncoder = real;
  }
  expect(spreads).toBe(4);
  await backend.dispose();
});

describe("encode, into the caller's encoder and buffers", () => {
  // An odd N and M: rows of bf16 begin in the middle of a word, and the last word has a half that is nobody's.
  test.for([
    ['f32', 3],
    ['bf16', 1],
    ['bf16', 3],
    ['bf16', 5],
  ] as const)('%s, m = %i: the bits, and nothing beside them', async ([outputType, m], context) => {
    const { device } = dawn(context);
    const backend = await WebGPUBackend.create(device);
    const { weight, x, n } = drawSmall({ n: 27, m });
    const uploaded = await backend.upload(weight);
    const xBuffer = device.createBuffer({ size: x.byteLength + 64, usage: STORAGE | COPY_DST });
    device.queue.writeBuffer(xBuffer, 0, x);
    const outputBytes = n * m * (outputType === 'f32' ? 4 : 2);
    const canaryBytes = 64;
    const size = Math.ceil(outputBytes / 4) * 4 + canaryBytes;
    const y = device.createBuffer({ size, usage: STORAGE | COPY_SRC | COPY_DST });
    device.queue.writeBuffer(y, 0, new Uint8Array(size).fill(POISON));

    const encoder = device.createCommandEncoder();
    await backend.encode(encoder, { x: xBuffer, weight: uploaded, y, m, outputType });
    const staging = device.createBuffer({ size, usage: 0x01 | COPY_DST });
    encoder.copyBufferToBuffer(y, 0, staging, 0, size);
    device.queue.submit([encoder.finish()]);
    await staging.mapAsync(0x01);
    const bytes = new Uint8Array(staging.getMappedRange().slice(0));
    const output = bytes.slice(0, outputBytes);
    expectBits(int4PlainMM(x, weight, outputType), outputType === 'f32' ? f32From(output) : bf16From(output), n);
    expect([...bytes.subarray(outputBytes)]).toEqual(Array(size - outputBytes).fill(POISON));
    for (const buffer of [xBuffer, y, staging]) buffer.destroy();
    await backend.dispose();
  });

  test('two linears in one encoder, the second on the output of the first', async (context) => {
    const { device } = dawn(context);
    const backend = await WebGPUBackend.create(device);
    const up = drawSmall({ n: 64, k: 256, m: 2 });
    const down = drawSmall({ n: 33, k: 64, m: 2 });
    const [first, second] = [await backend.upload(up.weight), await backend.upload(down.weight)];
    const x = await backend.createBuffer(up.x.byteLength);
    await x.write(bytesOf(up.x));
    const native = (bytes: number) => device.createBuffer({ size: bytes, usage: STORAGE | COPY_SRC });
    const hidden = native(2 * 64 * 2);
    const y = await backend.createBuffer(2 * 33 * 4);
    const encoder = device.createCommandEncoder();
    await backend.encode(encoder, { x: x.buffer, weight: first, y: hidden, m: 2, outputType: 'bf16' });
    await backend.encode(encoder, { x: hidden, weight: second, y: y.buffer, m: 2 });
    device.queue.submit([encoder.finish()]);
    const expected = int4PlainMM(int4PlainMM(up.x, up.weight, 'bf16'), down.weight);
    expectBits(expected, f32From(await y.read()), 33);
    hidden.destroy();
    await backend.dispose();
  });
});

// What must hold of the cuda backend, wherever its kernels run: on a device, or from the same sources on the host.

import { beforeAll, describe, expect, type TestContext, test } from 'vitest';
import {
  type Backend,
  CASES,
  CoalescedInt4Tensor,
  CpuBackend,
  type DeviceBuffer,
  type DeviceWeight,
  drawActivations,
  drawWeight,
  type ErrorCode,
  firstDifference,
  formatDifference,
  int4PlainMM,
  type ParityCase,
  type PlanStep,
} from '../../core/index.js';
import type { CudaBackend } from '../../node/cuda_backend.js';

/** Opens the backend, or skips the test that asks. */
export type OpenCuda = (context: TestContext) => Promise<CudaBackend>;

const POISON = 0xa5;
const CANARY_BYTES = 256;

const plainCase = (n: number, k: number, groupSize: number, m: number): ParityCase => ({
  name: `cuda n${n}-k${k}-g${groupSize}-m${m}`,
  n,
  k,
  groupSize,
  m,
  weights: 'real-zero',
  activations: 'outlier',
});

/** Shapes whose rows fill a device without splitting K, in several steps; one row more than a whole tile. */
const WIDE_CASES = [plainCase(13001, 2144, 32, 1), plainCase(13001, 2144, 16, 2), plainCase(7001, 2208, 32, 4)];

/** Device memory filled with POISON, between canaries that must survive. */
async function poisoned(backend: Backend, sizeBytes: number) {
  const before = await backend.createBuffer(CANARY_BYTES);
  const buffer = await backend.createBuffer(sizeBytes);
  const after = await backend.createBuffer(CANARY_BYTES);
  for (const each of [before, buffer, after]) await each.write(new Uint8Array(each.sizeBytes).fill(POISON));
  return { buffer, canaries: [before, after] };
}

async function expectCanaries(canaries: readonly DeviceBuffer[]): Promise<void> {
  for (const canary of canaries) expect((await canary.read()).every((byte) => byte === POISON)).toBe(true);
}

async function bufferOf(backend: Backend, values: Uint16Array): Promise<DeviceBuffer> {
  const buffer = await backend.createBuffer(values.byteLength);
  await buffer.write(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  return buffer;
}

function expectBits(expected: Float32Array | Uint16Array, actual: Float32Array | Uint16Array, n: number): void {
  const difference = firstDifference(expected, actual, n);
  expect(difference === null ? 'equal' : formatDifference(difference)).toBe('equal');
}

const f32From = (bytes: Uint8Array) => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
const bf16From = (bytes: Uint8Array) => new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 2);

const refusal = (code: ErrorCode) => expect.objectContaining({ name: 'SamebitsError', code });

/** One case: linear in both output types, and a plan over both layouts into poisoned memory. */
async function checkCase(backend: CudaBackend, of: ParityCase): Promise<void> {
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
    { m, x: onDevice, weight: before, y: y32.buffer, outputType: 'f32' },
    { m, x: onDevice, weight: coalesced, y: y16.buffer, outputType: 'bf16' },
  ]);
  await plan.run();
  expectBits(f32, f32From(await y32.buffer.read()), n);
  expectBits(bf16, bf16From(await y16.buffer.read()), n);
  await expectCanaries([...y32.canaries, ...y16.canaries]);
  expect(bf16From(await onDevice.read())).toEqual(x);
  for (const owned of [plan, coalesced, before, onDevice, y32.buffer, y16.buffer, ...y32.canaries, ...y16.canaries]) {
    owned.dispose();
  }
}

/** Declares the suite; `open` gives each test the one backend that they share. */
export function cudaSuite(open: OpenCuda, cases: readonly ParityCase[] = [...CASES, ...WIDE_CASES]): void {
  describe('the case table, on both layouts', () => {
    test.for(cases)('$name', async (of, context) => checkCase(await open(context), of));
  });

  describe('calls at the same time', () => {
    test('linears on several weights keep apart', async (context) => {
      const backend = await open(context);
      const runs = CASES.filter(({ k }) => k <= 1024).slice(0, 24);
      const results = await Promise.all(
        runs.map(async (of) => {
          const tensor = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(of));
          const weight = await backend.upload(tensor);
          const x = drawActivations(of);
          const [first, second] = await Promise.all([
            backend.linear(x, weight),
            backend.linear(x, weight, { outputType: 'bf16' }),
          ]);
          weight.dispose();
          return { of, x, tensor, first, second };
        }),
      );
      for (const { of, x, tensor, first, second } of results) {
        expectBits(int4PlainMM(x, tensor), first, of.n);
        expectBits(int4PlainMM(x, tensor, 'bf16'), second, of.n);
      }
    });

    test('x may change as soon as linear has returned its promise', async (context) => {
      const backend = await open(context);
      const { tensor, x, weight } = await upload(backend, plainCase(64, 512, 32, 2));
      const expected = int4PlainMM(x, tensor);
      const result = backend.linear(x, weight);
      x.fill(0x7fc0);
      expectBits(expected, await result, 64);
      weight.dispose();
    });

    test('a weight disposed while calls use it is freed after them', async (context) => {
      const backend = await open(context);
      const { tensor, x, weight } = await upload(backend, plainCase(512, 1024, 32, 4));
      const results = Array.from({ length: 8 }, () => backend.linear(x, weight));
      weight.dispose();
      weight.dispose();
      await expect(backend.linear(x, weight)).rejects.toEqual(refusal('DISPOSED'));
      for (const result of results) expectBits(int4PlainMM(x, tensor), await result, 512);
    });
  });

  describe('plans', () => {
    test('a chain through bf16, with inputs that several steps share, replayed', async (context) => {
      const backend = await open(context);
      const first = await upload(backend, plainCase(256, 320, 32, 3));
      const second = await upload(backend, plainCase(96, 256, 64, 3));
      const third = await upload(backend, plainCase(40, 256, 16, 3));
      const x = await bufferOf(backend, first.x);
      const hidden = await poisoned(backend, 3 * 256 * 2);
      const left = await poisoned(backend, 3 * 96 * 4);
      const right = await poisoned(backend, 3 * 40 * 4);
      const step = (
        m: number,
        from: DeviceBuffer,
        weight: DeviceWeight,
        y: DeviceBuffer,
        isBf16 = false,
      ): PlanStep => ({
        m,
        x: from,
        weight,
        y,
        outputType: isBf16 ? 'bf16' : 'f32',
      });
      const plan = await backend.plan([
        step(3, x, first.weight, hidden.buffer, true),
        step(3, hidden.buffer, second.weight, left.buffer),
        step(3, hidden.buffer, third.weight, right.buffer),
      ]);
      for (const inputs of [first.x, drawActivations({ ...first.of, name: 'another input' })]) {
        // Not awaited one by one: a read must see the run before it, and a run the write before it.
        const written = x.write(new Uint8Array(inputs.buffer));
        const ran = plan.run();
        const leftBytes = left.buffer.read();
        const rightBytes = right.buffer.read();
        await Promise.all([written, ran]);
        const between = int4PlainMM(inputs, first.tensor, 'bf16');
        expectBits(int4PlainMM(between, second.tensor), f32From(await leftBytes), 96);
        expectBits(int4PlainMM(between, third.tensor), f32From(await rightBytes), 40);
      }
      await expectCanaries([...hidden.canaries, ...left.canaries, ...right.canaries]);
      expect(await backend.benchmark.timePlan(plan, 3)).toHaveLength(3);
      plan.dispose();
      await expect(plan.run()).rejects.toEqual(refusal('DISPOSED'));
    });

    test('a step that writes over its own x is quantized anew by the next', async (context) => {
      const backend = await open(context);
      const { tensor, x, weight } = await upload(backend, plainCase(128, 128, 32, 1));
      const state = await bufferOf(backend, x);
      const y = await backend.createBuffer(128 * 4);
      const plan = await backend.plan([
        { m: 1, x: state, weight, y: state, outputType: 'bf16' },
        { m: 1, x: state, weight, y, outputType: 'f32' },
      ]);
      await plan.run();
      expectBits(int4PlainMM(int4PlainMM(x, tensor, 'bf16'), tensor), f32From(await y.read()), 128);
    });

    test('many steps that share scratch, replayed on changing inputs', async (context) => {
      // On a device that starts a kernel while the one before drains, this is where stale activations would show.
      const backend = await open(context);
      const of = plainCase(2048, 512, 32, 1);
      const { tensor, weight } = await upload(backend, of);
      const inputs = Array.from({ length: 5 }, (_, i) => drawActivations({ ...of, name: `input ${i}` }));
      const expected = inputs.map((x) => int4PlainMM(x, tensor));
      const xs = await Promise.all(inputs.map((x) => bufferOf(backend, x)));
      const ys = await Promise.all(inputs.map(() => backend.createBuffer(2048 * 4)));
      const plan = await backend.plan(
        inputs.map((_, i) => ({ m: 1, x: xs[i]!, weight, y: ys[i]!, outputType: 'f32' as const })),
      );
      for (let turn = 0; turn < inputs.length; turn++) {
        await Promise.all(xs.map((x, i) => x.write(new Uint8Array(inputs[(i + turn) % inputs.length]!.buffer))));
        await plan.run();
        for (const [i, y] of ys.entries()) {
          expectBits(expected[(i + turn) % inputs.length]!, f32From(await y.read()), 2048);
        }
      }
      for (const owned of [plan, weight, ...xs, ...ys]) owned.dispose();
    });

    test('sizes, owners and ends are checked', async (context) => {
      const backend = await open(context);
      const { weight } = await upload(backend, plainCase(32, 64, 32, 1));
      const x = await backend.createBuffer(64 * 2);
      const y = await backend.createBuffer(32 * 4);
      const step = { m: 1, x, weight, y, outputType: 'f32' as const };
      await expect(backend.plan([{ ...step, m: 2 }])).rejects.toEqual(refusal('BYTE_LENGTH_MISMATCH'));
      await expect(backend.plan([{ ...step, outputType: 'bf16' }])).rejects.toEqual(refusal('BYTE_LENGTH_MISMATCH'));
      await expect(backend.plan([{ ...step, m: 0 }])).rejects.toEqual(refusal('M_UNSUPPORTED'));
      const cpu = new CpuBackend();
      const foreign = await cpu.createBuffer(64 * 2);
      await expect(backend.plan([{ ...step, x: foreign }])).rejects.toEqual(refusal('BACKEND_MISMATCH'));
      await expect(y.write(new Uint8Array(3))).rejects.toEqual(refusal('BYTE_LENGTH_MISMATCH'));
      const plan = await backend.plan([step]);
      y.dispose();
      await expect(plan.run()).rejects.toEqual(refusal('DISPOSED'));
      await expect(y.read()).rejects.toEqual(refusal('DISPOSED'));
    });
  });

  describe('refusals of a live backend', () => {
    let tensor: CoalescedInt4Tensor;
    beforeAll(() => {
      tensor = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(plainCase(32, 64, 32, 1)));
    });

    test('x that is no whole row', async (context) => {
      const backend = await open(context);
      const weight = await backend.upload(tensor);
      await expect(backend.linear(new Uint16Array(65), weight)).rejects.toEqual(refusal('INPUT_LENGTH_MISMATCH'));
      await expect(backend.linear(new Uint16Array(0), weight)).rejects.toEqual(refusal('INPUT_LENGTH_MISMATCH'));
      weight.dispose();
    });

    test('a weight of another type or another backend', async (context) => {
      const backend = await open(context);
      const native = drawWeight(plainCase(32, 1024, 32, 1));
      expect(native.n).toBe(native.nGroups);
      // @ts-expect-error an Int4Tensor is not a CoalescedInt4Tensor, square or not
      await expect(backend.upload(native)).rejects.toEqual(refusal('LAYOUT_WRONG_TYPE'));
      const foreign = await new CpuBackend().upload(tensor);
      await expect(backend.linear(new Uint16Array(64), foreign)).rejects.toEqual(refusal('BACKEND_MISMATCH'));
    });

    test('operands that were changed or detached after they were validated', async (context) => {
      const backend = await open(context);
      const spoiled = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(plainCase(32, 64, 32, 1)));
      spoiled.groups.scale[3] = 0x7f80;
      await expect(backend.upload(spoiled)).rejects.toEqual(refusal('SCALE_NOT_FINITE'));
      const detached = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(plainCase(32, 64, 32, 1)));
      structuredClone(detached.qdata, { transfer: [detached.qdata.buffer] });
      await expect(backend.upload(detached)).rejects.toEqual(refusal('BYTE_LENGTH_MISMATCH'));
    });

    test('more memory than there is, after which the backend goes on', async (context) => {
      const backend = await open(context);
      await expect(backend.createBuffer(2 ** 49)).rejects.toMatchObject({
        code: 'DEVICE_OUT_OF_MEMORY',
        cause: { cudaError: 'cudaErrorMemoryAllocation' },
      });
      const weight = await backend.upload(tensor);
      const x = drawActivations({ name: 'after', m: 1, k: 64, activations: 'plain' });
      expectBits(int4PlainMM(x, tensor), await backend.linear(x, weight), 32);
      weight.dispose();
    });
  });

  test('the device reads memory at some rate', async (context) => {
    const backend = await open(context);
    expect(await backend.benchmark.readBandwidthGBps(2 ** 20, 3)).toBeGreaterThan(0);
    expect(backend.benchmark.cacheSizeBytes).toBeGreaterThan(0);
  });
}

async function upload(backend: CudaBackend, of: ParityCase) {
  const tensor = CoalescedInt4Tensor.fromInt4Tensor(drawWeight(of));
  return { of, tensor, x: drawActivations(of), weight: await backend.upload(tensor) };
}

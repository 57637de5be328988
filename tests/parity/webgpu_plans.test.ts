// Plans on WebGPU: what is quantized once, what must be quantized again, repeated runs, device time.

import { describe, expect, test } from 'vitest';
import { CpuBackend, int4PlainMM, type OutputType, type PlanStep } from '../../core/index.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { WebGPUPlan } from '../../shaders/plan.js';
import {
  bf16From,
  bytesOf,
  drawSmall,
  expectBits,
  f32From,
  refusal,
  type SmallCase,
  useDawn,
} from './webgpu_device.js';
import { missingFor, VARIANTS } from './webgpu_variants.js';

const dawn = useDawn();

/** A linear with its weight on the device, and buffers for it. */
async function place(backend: WebGPUBackend, of: SmallCase) {
  const drawn = drawSmall(of);
  const weight = await backend.upload(drawn.weight);
  const x = await backend.createBuffer(drawn.x.byteLength);
  await x.write(bytesOf(drawn.x));
  const y = await backend.createBuffer(drawn.m * drawn.n * 4);
  const step: PlanStep = { m: drawn.m, x, weight, y, outputType: 'f32' };
  return { ...drawn, tensor: drawn.weight, step };
}

async function planOf(backend: WebGPUBackend, steps: readonly PlanStep[]): Promise<WebGPUPlan> {
  const plan = await backend.plan(steps);
  if (!(plan instanceof WebGPUPlan)) throw new Error('not a WebGPUPlan');
  return plan;
}

describe('activations', () => {
  test('are quantized once for consecutive steps with the same x', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const a = await place(backend, { n: 12 });
    const b = await place(backend, { n: 20, weights: 'plain' });
    const shared = { ...b.step, x: a.step.x };
    const plan = await planOf(backend, [a.step, shared, b.step]);
    // x of a; a and shared side by side; x of b; b.
    expect(plan.dispatches).toHaveLength(4);
    await plan.run();
    expectBits(int4PlainMM(a.x, a.tensor), f32From(await a.step.y.read()), a.n);
    // b.step writes the same y last, from its own x.
    expectBits(int4PlainMM(b.x, b.tensor), f32From(await b.step.y.read()), b.n);
    const first = await planOf(backend, [a.step, shared]);
    expect(first.dispatches).toHaveLength(2);
    await first.run();
    expectBits(int4PlainMM(a.x, b.tensor), f32From(await b.step.y.read()), b.n);
    await backend.dispose();
  });

  test('are quantized again for runs of another size', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const a = await place(backend, { n: 12, groupSize: 16 });
    const b = await place(backend, { n: 20, groupSize: 32 });
    const plan = await planOf(backend, [a.step, { ...b.step, x: a.step.x }]);
    expect(plan.dispatches).toHaveLength(2 + 2);
    await plan.run();
    expectBits(int4PlainMM(a.x, a.tensor), f32From(await a.step.y.read()), a.n);
    expectBits(int4PlainMM(a.x, b.tensor), f32From(await b.step.y.read()), b.n);
    await backend.dispose();
  });

  test('are quantized again when a step has written them', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const square = await place(backend, { n: 64, k: 64, m: 2 });
    const next = await place(backend, { n: 10, k: 64, m: 2 });
    const inPlace: PlanStep = { ...square.step, y: square.step.x, outputType: 'bf16' };
    const plan = await planOf(backend, [inPlace, { ...next.step, x: square.step.x }]);
    // The second time by the step that writes them.
    expect(plan.dispatches).toHaveLength(2 + 1);
    await plan.run();
    const hidden = int4PlainMM(square.x, square.tensor, 'bf16');
    expectBits(hidden, bf16From(await square.step.x.read()), 64);
    expectBits(int4PlainMM(hidden, next.tensor), f32From(await next.step.y.read()), 10);
    await backend.dispose();
  });
});

describe('linears on the same x', () => {
  /** Weights of n rows each on the first one's x, with buffers for y of their own. */
  async function beside(backend: WebGPUBackend, rows: readonly number[], m: number, outputType: OutputType) {
    const placed: Awaited<ReturnType<typeof place>>[] = [];
    for (const n of rows) placed.push(await place(backend, { n, m }));
    const { x, step } = placed[0]!;
    const steps: PlanStep[] = [];
    for (const { n, step: own } of placed) {
      const y = await backend.createBuffer(m * n * (outputType === 'f32' ? 4 : 2));
      steps.push({ ...own, x: step.x, y, outputType });
    }
    const expectAll = async () => {
      for (const [i, { tensor, n }] of placed.entries()) {
        const bytes = await steps[i]!.y.read();
        expectBits(int4PlainMM(x, tensor, outputType), outputType === 'f32' ? f32From(bytes) : bf16From(bytes), n);
      }
    };
    return { steps, expectAll };
  }

  // Odd numbers of rows: the last tile of each linear but the last is followed by the first of the next.
  test.for([
    [[5, 9], 1, 'f32', 2],
    [[33, 1, 16], 1, 'bf16', 2],
    [[33, 1, 16], 7, 'f32', 3],
    [[3, 5, 7, 11], 2, 'bf16', 3],
  ] as const)('%j rows, m = %i, %s, run side by side', async ([rows, m, outputType, dispatches], context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const { steps, expectAll } = await beside(backend, rows, m, outputType);
    const plan = await planOf(backend, steps);
    expect(plan.dispatches).toHaveLength(dispatches);
    await plan.run();
    await expectAll();
    await backend.dispose();
  });

  test('that are cut into slices of different numbers run side by side', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device, { maxBindingBytes: 2048 });
    const { steps, expectAll } = await beside(backend, [37, 6, 12], 5, 'bf16');
    await (await backend.plan(steps)).run();
    await expectAll();
    await backend.dispose();
  });

  test('run one by one on a device that binds no more', async (context) => {
    const adapter = await dawn(context).keepAlive.gpu.requestAdapter();
    const device = await adapter!.requestDevice();
    const backend = await WebGPUBackend.create(device, { ownsDevice: true });
    expect(backend.device.details['linears']).toBe('up to 1 side by side');
    const { steps, expectAll } = await beside(backend, [5, 9, 2], 1, 'f32');
    const plan = await planOf(backend, steps);
    expect(plan.dispatches).toHaveLength(1 + 3);
    await plan.run();
    await expectAll();
    await backend.dispose();
  });

  test('wait for each other where they share a y, or write to the x', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const square = await place(backend, { n: 64, k: 64, m: 2 });
    const other = await place(backend, { n: 64, k: 64, m: 2, weights: 'plain' });
    const x = square.step.x;
    const y = await backend.createBuffer(2 * 64 * 2);
    const plan = await planOf(backend, [
      { ...square.step, y, outputType: 'bf16' },
      { ...other.step, x, y, outputType: 'bf16' },
      { ...square.step, x, y: x, outputType: 'bf16' },
      { ...other.step, x },
    ]);
    // x; the first; the second with the third, which reads the x from before and quantizes what it writes; the fourth.
    expect(plan.dispatches).toHaveLength(4);
    await plan.run();
    expectBits(int4PlainMM(square.x, other.tensor, 'bf16'), bf16From(await y.read()), 64);
    const hidden = int4PlainMM(square.x, square.tensor, 'bf16');
    expectBits(hidden, bf16From(await x.read()), 64);
    expectBits(int4PlainMM(hidden, other.tensor), f32From(await other.step.y.read()), 64);
    await backend.dispose();
  });
});

describe('activations that a step of the plan makes', () => {
  interface Link extends SmallCase {
    /** Which link's y its x is; the plan's x otherwise. */
    readonly from?: number;
  }

  /** A chain of linears in bf16, and what each must give for the first one's x. */
  async function chain(backend: WebGPUBackend, links: readonly Link[]) {
    const placed: Awaited<ReturnType<typeof place>>[] = [];
    const steps: PlanStep[] = [];
    for (const { from, ...of } of links) {
      const own = await place(backend, of);
      const y = await backend.createBuffer(own.m * own.n * 2);
      steps.push({ ...own.step, x: from === undefined ? own.step.x : steps[from]!.y, y, outputType: 'bf16' });
      placed.push(own);
    }
    const plan = await planOf(backend, steps);
    const expectAll = async (first: Uint16Array) => {
      await steps[0]!.x.write(bytesOf(first));
      await plan.run();
      const outputs: Uint16Array[] = [];
      for (const [i, { tensor, x, n }] of placed.entries()) {
        const { from } = links[i]!;
        const expected = int4PlainMM(from === undefined ? (i === 0 ? first : x) : outputs[from]!, tensor, 'bf16');
        outputs.push(expected);
        expectBits(expected, bf16From(await steps[i]!.y.read()), n);
      }
    };
    return { plan, expectAll, first: placed[0]! };
  }

  // A kernel is compiled for each number of rows in a pass (7 is 4 and 3), of each variant.
  const COMBINATIONS = VARIANTS.flatMap(({ name, ...variant }, i) =>
    (i === 0 ? [1, 2, 7] : [4]).map((m) => ({ name, variant, m })),
  );

  test.for(COMBINATIONS)('$name, m = $m: are quantized where they are made', async ({ variant, m }, context) => {
    const { device } = dawn(context);
    const missing = missingFor(device, variant);
    if (missing) context.skip(missing);
    const backend = await WebGPUBackend.create(device, variant);
    for (const groupSize of [32, 16]) {
      // More blocks than lanes, and fewer.
      const { plan, expectAll, first } = await chain(backend, [
        { n: 96, k: 2112, m, groupSize },
        { n: 64, k: 96, m, groupSize, from: 0 },
        { n: 160, k: 64, m, groupSize, from: 1 },
        { n: 21, k: 160, m, groupSize, from: 2 },
      ]);
      // x, and a dispatch for each linear; above 4 rows one more for the remainder.
      expect(plan.dispatches).toHaveLength(1 + 4 * (m > 4 ? 2 : 1));
      // A larger row before a smaller one: nothing of an earlier run may be left.
      for (const activations of ['huge', 'plain', 'nan-row', 'tiny', 'zero', 'inf-row', 'spread', 'outlier'] as const) {
        await expectAll(drawSmall({ m, k: first.k, groupSize, activations }).x);
      }
      plan.dispose();
    }
    await backend.dispose();
  });

  test('of weights that are cut into slices', async (context) => {
    // K = 512: 256 bytes of codes a row, so 32 rows a slice.
    const backend = await WebGPUBackend.create(dawn(context).device, { maxBindingBytes: 40 * 256 });
    const { plan, expectAll, first } = await chain(backend, [
      { n: 96, m: 2 },
      { n: 40, k: 96, m: 2, from: 0 },
    ]);
    expect(plan.dispatches).toHaveLength(1 + 3 + 1);
    await expectAll(first.x);
    await backend.dispose();
  });

  test('by one of two side by side only; the other is quantized by itself', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const a = await place(backend, { n: 32 });
    const b = await place(backend, { n: 64, weights: 'plain' });
    const after = { a: await place(backend, { n: 9, k: 32 }), b: await place(backend, { n: 9, k: 64 }) };
    const y = { a: await backend.createBuffer(32 * 2), b: await backend.createBuffer(64 * 2) };
    const plan = await planOf(backend, [
      { ...a.step, y: y.a, outputType: 'bf16' },
      { ...b.step, x: a.step.x, y: y.b, outputType: 'bf16' },
      { ...after.b.step, x: y.b },
      { ...after.a.step, x: y.a },
    ]);
    expect(plan.dispatches).toHaveLength(1 + 1 + 1 + 2);
    await plan.run();
    const hidden = { a: int4PlainMM(a.x, a.tensor, 'bf16'), b: int4PlainMM(a.x, b.tensor, 'bf16') };
    expectBits(hidden.a, bf16From(await y.a.read()), 32);
    expectBits(hidden.b, bf16From(await y.b.read()), 64);
    expectBits(int4PlainMM(hidden.a, after.a.tensor), f32From(await after.a.step.y.read()), 9);
    expectBits(int4PlainMM(hidden.b, after.b.tensor), f32From(await after.b.step.y.read()), 9);
    await backend.dispose();
  });

  test.for([
    ['rows that are no whole blocks', { n: 48 }, { k: 96, n: 9 }],
    ['runs of another size', { n: 96 }, { k: 96, n: 9, groupSize: 16 }],
  ] as const)('but not from %s', async ([, made, read], context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const m = made.n === 48 ? 2 : 1;
    const first = await place(backend, { ...made, m });
    const next = await place(backend, { ...read });
    const y = await backend.createBuffer(m * made.n * 2);
    const plan = await planOf(backend, [
      { ...first.step, y, outputType: 'bf16' },
      { ...next.step, x: y },
    ]);
    expect(plan.dispatches).toHaveLength(2 + 2);
    await plan.run();
    const hidden = int4PlainMM(first.x, first.tensor, 'bf16');
    expectBits(int4PlainMM(hidden, next.tensor), f32From(await next.step.y.read()), next.n);
    await backend.dispose();
  });
});

test('a plan runs again on new activations, beside other calls', async (context) => {
  const backend = await WebGPUBackend.create(dawn(context).device);
  const a = await place(backend, { m: 5 });
  const plan = await backend.plan([a.step]);
  for (const activations of ['plain', 'nan-row', 'spread'] as const) {
    const { x } = drawSmall({ m: 5, activations });
    await a.step.x.write(bytesOf(x));
    const [beside] = await Promise.all([backend.linear(a.x, a.step.weight), plan.run(), plan.run()]);
    expectBits(int4PlainMM(x, a.tensor), f32From(await a.step.y.read()), a.n);
    expectBits(int4PlainMM(a.x, a.tensor), beside, a.n);
  }
  await backend.dispose();
});

test('a plan without steps runs', async (context) => {
  const backend = await WebGPUBackend.create(dawn(context).device);
  await (await backend.plan([])).run();
  await backend.dispose();
});

describe('device time', () => {
  test.for([true, false])('of each replay, with timestamps: %s', async (timestamps, context) => {
    const { gpu } = dawn(context).keepAlive;
    const adapter = (await gpu.requestAdapter())!;
    if (timestamps && !adapter.features.has('timestamp-query')) context.skip('this adapter has no timestamps');
    const device = await adapter.requestDevice({ requiredFeatures: timestamps ? ['timestamp-query'] : [] });
    const backend = await WebGPUBackend.create(device, { ownsDevice: true });
    expect(backend.device.details['timing']).toMatch(timestamps ? /timestamp/ : /wall clock/);
    const a = await place(backend, { m: 2 });
    const plan = await backend.plan([a.step]);
    const elapsedUs = await backend.benchmark.timePlan(plan, 5);
    expect(elapsedUs).toHaveLength(5);
    expect(elapsedUs.every((us) => us > 0 && us < 60e6)).toBe(true);
    expectBits(int4PlainMM(a.x, a.tensor), f32From(await a.step.y.read()), a.n);
    const rate = await backend.benchmark.readBandwidthGBps(3 * 2 ** 20 + 16, 2);
    expect(rate > 0 && rate < 1e6).toBe(true);
    await backend.dispose();
  });

  test('is refused for the plan of another backend', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const foreign = await new CpuBackend().plan([]);
    await expect(backend.benchmark.timePlan(foreign, 1)).rejects.toThrow(refusal('BACKEND_MISMATCH'));
    await backend.dispose();
  });
});

// What no caller should pass, on every backend behind the seam: the same typed error from each, and nothing else happens.

import { inspect } from 'node:util';
import { describe, expect, type TestContext, test } from 'vitest';
import {
  type Backend,
  CpuBackend,
  type ErrorCode,
  int4PlainMM,
  type PlanStep,
  SamebitsError,
} from '../../core/index.js';
import { openBackend } from '../../node/open_backend.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { openOnHost } from '../native/open_on_host.js';
import { drawSmall, expectBits, useDawn } from './webgpu_device.js';

const dawn = useDawn();

const BACKENDS: Readonly<Record<string, (context: TestContext) => Promise<Backend>>> = {
  cpu: async () => new CpuBackend(),
  webgpu: (context) => WebGPUBackend.create(dawn(context).device),
  'cuda on the host': openOnHost,
};

/** One of everything: the passing control of every case. */
async function control(backend: Backend) {
  const drawn = drawSmall({ n: 12, k: 64, m: 2 });
  const weight = await backend.upload(drawn.weight);
  const x = await backend.createBuffer(drawn.x.byteLength);
  const y = await backend.createBuffer(2 * drawn.n * 4);
  const step: PlanStep = { m: 2, x, weight, y, outputType: 'f32' };
  return { backend, drawn, weight, x, y, step, plan: await backend.plan([step]) };
}
type Control = Awaited<ReturnType<typeof control>>;

const NOT_OBJECTS = [undefined, null, 0, 1, Number.NaN, 2 ** 31, 2 ** 53, 'cuda', true, Symbol.iterator, () => 1, 1n];
const NOT_ACTIVATIONS = [
  ...NOT_OBJECTS,
  {},
  [1, 2, 3],
  { length: 128 },
  new ArrayBuffer(256),
  new DataView(new ArrayBuffer(256)),
  new Uint8Array(128),
  new Int16Array(128),
  new Float64Array(128),
  new BigInt64Array(128),
];
const NOT_SIZES = [undefined, null, 0, -1, 0.5, Number.NaN, Infinity, -Infinity, 2 ** 53, '4', {}, [4], 4n];
const NOT_COUNTS = [undefined, null, 0, -1, 0.5, Number.NaN, 2 ** 31, 2 ** 53, '1', {}, 1n];

const untyped = (value: unknown): never => value as never;
const detached = <T extends Uint8Array | Uint16Array | Float32Array>(array: T): T => {
  structuredClone(array.buffer, { transfer: [array.buffer as ArrayBuffer] });
  return array;
};

interface Abuse {
  readonly what: string;
  /** Any of these; backends may look at different things first. */
  readonly codes: readonly ErrorCode[];
  readonly values: readonly unknown[];
  readonly call: (control: Control, value: never) => Promise<unknown>;
}

const ABUSES: readonly Abuse[] = [
  {
    what: 'upload of no weight',
    codes: ['LAYOUT_WRONG_TYPE'],
    values: [...NOT_ACTIVATIONS, { layout: 'coalesced' }, { layout: 'coalesced-int4' }],
    call: ({ backend }, value) => backend.upload(value),
  },
  {
    what: 'linear on no activations',
    codes: ['DTYPE_MISMATCH'],
    values: NOT_ACTIVATIONS,
    call: ({ backend, weight }, value) => backend.linear(value, weight),
  },
  {
    what: 'linear on activations of a wrong length',
    codes: ['INPUT_LENGTH_MISMATCH'],
    values: [0, 1, 63, 65, 127, 129].flatMap((length) => [new Uint16Array(length), new Float32Array(length)]),
    call: ({ backend, weight }, value) => backend.linear(value, weight),
  },
  {
    what: 'linear on detached activations',
    codes: ['INPUT_LENGTH_MISMATCH'],
    values: [detached(new Uint16Array(128)), detached(new Float32Array(128))],
    call: ({ backend, weight }, value) => backend.linear(value, weight),
  },
  {
    what: 'linear on more rows than the most',
    codes: ['M_UNSUPPORTED'],
    values: [new Uint16Array(65_536 * 64)],
    call: ({ backend, weight }, value) => backend.linear(value, weight),
  },
  {
    what: 'linear with no weight',
    codes: ['BACKEND_MISMATCH'],
    values: [...NOT_ACTIVATIONS, { n: 12, k: 64, groupSize: 32, nGroups: 2, dispose: () => {} }],
    call: ({ backend, drawn }, value) => backend.linear(drawn.x, value),
  },
  {
    what: 'linear with a buffer for a weight',
    codes: ['BACKEND_MISMATCH'],
    values: [0],
    call: ({ backend, drawn, x }) => backend.linear(drawn.x, untyped(x)),
  },
  {
    what: 'linear to no output type',
    codes: ['ARGUMENT_INVALID'],
    values: [null, '', 'f16', 'F32', 0, {}, ['f32'], new String('f32')],
    call: ({ backend, weight, drawn }, outputType) => backend.linear(drawn.x, weight, { outputType }),
  },
  ...(['linear', 'upload'] as const).map((name) => ({
    what: `${name} with options that are none`,
    codes: ['ARGUMENT_INVALID'] as const,
    values: NOT_OBJECTS.filter((value) => value !== undefined),
    call: ({ backend, weight, drawn }: Control, value: never) =>
      name === 'linear' ? backend.linear(drawn.x, weight, value) : backend.upload(drawn.weight, value),
  })),
  {
    what: 'upload that calls what is no function',
    codes: ['ARGUMENT_INVALID'],
    values: [...NOT_OBJECTS.filter((value) => value !== undefined && typeof value !== 'function'), {}, []],
    call: ({ backend, drawn }, onProgress) => backend.upload(drawn.weight, { onProgress }),
  },
  {
    what: 'a buffer of no size',
    codes: ['ARGUMENT_INVALID'],
    values: NOT_SIZES,
    call: ({ backend }, value) => backend.createBuffer(value),
  },
  {
    what: 'a buffer larger than anything',
    codes: ['DEVICE_OUT_OF_MEMORY', 'DEVICE_LIMIT'],
    values: [2 ** 45, 2 ** 49],
    call: ({ backend }, value) => backend.createBuffer(value),
  },
  {
    what: 'a write of no bytes',
    codes: ['DTYPE_MISMATCH'],
    values: [...NOT_OBJECTS, {}, [1], new ArrayBuffer(256), new Uint16Array(128), new Int8Array(256)],
    call: ({ x }, value) => x.write(value),
  },
  {
    what: 'a write of a wrong length',
    codes: ['BYTE_LENGTH_MISMATCH'],
    values: [new Uint8Array(0), new Uint8Array(255), new Uint8Array(257), detached(new Uint8Array(256))],
    call: ({ x }, value) => x.write(value),
  },
  {
    what: 'a plan of no steps',
    codes: ['ARGUMENT_INVALID'],
    values: [...NOT_OBJECTS, {}, { length: 1 }, [undefined], [null], [1], new Set()],
    call: ({ backend }, value) => backend.plan(value),
  },
  {
    what: 'a plan of no rows',
    codes: ['M_UNSUPPORTED'],
    values: [...NOT_COUNTS, 65_536],
    call: ({ backend, step }, m) => backend.plan([{ ...step, m }]),
  },
  ...(['x', 'y', 'weight'] as const).map((name) => ({
    what: `a plan without ${name}`,
    codes: ['BACKEND_MISMATCH'] as const,
    values: [...NOT_OBJECTS, {}, { sizeBytes: 256 }],
    call: ({ backend, step }: Control, value: never) => backend.plan([{ ...step, [name]: value }]),
  })),
  {
    what: 'a plan to no output type',
    codes: ['ARGUMENT_INVALID'],
    values: [null, 'f16', 1, {}],
    call: ({ backend, step }, outputType) => backend.plan([{ ...step, outputType }]),
  },
  {
    what: 'timing no plan',
    codes: ['BACKEND_MISMATCH'],
    values: [...NOT_OBJECTS, {}, { run: async () => {} }],
    call: ({ backend }, value) => backend.benchmark.timePlan(value, 1),
  },
  {
    what: 'timing no times',
    codes: ['ARGUMENT_INVALID'],
    values: NOT_COUNTS,
    call: ({ backend, plan }, replays) => backend.benchmark.timePlan(plan, replays),
  },
  {
    what: 'reading no bytes',
    codes: ['ARGUMENT_INVALID'],
    values: NOT_SIZES,
    call: ({ backend }, value) => backend.benchmark.readBandwidthGBps(value, 1),
  },
  {
    what: 'reading no times',
    codes: ['ARGUMENT_INVALID'],
    values: NOT_COUNTS,
    call: ({ backend }, value) => backend.benchmark.readBandwidthGBps(1024, value),
  },
];

/** The code of what a call rejects with; what it threw instead of rejecting, or gave, in words. */
async function outcomeOf(call: () => Promise<unknown>): Promise<string> {
  let promise: Promise<unknown>;
  try {
    promise = call();
  } catch (error) {
    return `threw ${String(error)} instead of rejecting`;
  }
  try {
    return `gave ${String(await promise)}`;
  } catch (error) {
    return error instanceof SamebitsError ? error.code : `rejected with ${String(error)}`;
  }
}

describe.for(Object.keys(BACKENDS))('%s', (name) => {
  test(`refuses ${ABUSES.reduce((sum, { values }) => sum + values.length, 0)} wrong arguments, and goes on`, async (context) => {
    const backend = await BACKENDS[name]!(context);
    const made = await control(backend);
    const wrong: string[] = [];
    for (const { what, codes, values, call } of ABUSES) {
      for (const value of values) {
        const outcome = await outcomeOf(() => call(made, untyped(value)));
        if (!codes.some((code) => code === outcome)) wrong.push(`${what}, ${inspect(value)}: ${outcome}`);
      }
    }
    expect(wrong).toEqual([]);
    const { drawn, weight, plan } = made;
    expectBits(int4PlainMM(drawn.x, drawn.weight), await backend.linear(drawn.x, weight), drawn.n);
    await plan.run();
    await backend.dispose();
  });

  test('takes arrays of shared and of resizable memory', async (context) => {
    const backend = await BACKENDS[name]!(context);
    const { drawn, weight } = await control(backend);
    const expected = int4PlainMM(drawn.x, drawn.weight);
    const shared = new Uint16Array(new SharedArrayBuffer(drawn.x.byteLength));
    const resizable = Reflect.construct(ArrayBuffer, [drawn.x.byteLength, { maxByteLength: 4096 }]);
    for (const x of [shared, new Uint16Array(resizable)]) {
      x.set(drawn.x);
      expectBits(expected, await backend.linear(x, weight), drawn.n);
    }
    await backend.dispose();
  });
});

test('the reference refuses an Int4Tensor, f32 values and other look-alikes', () => {
  const { weight, native, x } = drawSmall();
  expect(() => int4PlainMM(x, untyped(native))).toThrow(expect.objectContaining({ code: 'LAYOUT_WRONG_TYPE' }));
  expect(() => int4PlainMM(untyped(new Float32Array(512)), weight)).toThrow(
    expect.objectContaining({ code: 'DTYPE_MISMATCH' }),
  );
  expect(() => int4PlainMM(x, weight, untyped('f16'))).toThrow(expect.objectContaining({ code: 'ARGUMENT_INVALID' }));
});

test.for([null, {}, 'vulkan', 0, []] as const)('openBackend(%j) is refused', async (choice) => {
  await expect(openBackend(untyped(choice))).rejects.toMatchObject({ name: 'SamebitsError', code: 'ARGUMENT_INVALID' });
});

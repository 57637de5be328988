// Every form of a weight on WebGPU: the case table, slices, plans and decoders that mix forms, bit for bit.

import { afterAll, describe, expect, type TestContext, test } from 'vitest';
import { DEFAULT_FORM } from '../../core/forms.js';
import {
  describeForm,
  drawActivations,
  drawFormWeight,
  FORM_CASES,
  type FormCase,
  int4PlainMM,
  type PlanStep,
  type WeightForm,
} from '../../core/index.js';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import type { DecoderSource } from '../../core/model/decoder_backend.js';
import type { DecoderConfig } from '../../core/model/decoder_config.js';
import { linearShape } from '../../core/model/weight_shapes.js';
import { WebGPUBackend, type WebGPUBackendOptions } from '../../shaders/index.js';
import { WebGPUPlan } from '../../shaders/plan.js';
import { DRAWN_CONFIG, drawDecoderSource } from './decoder_source.js';
import { drawnTokens, everyLogit, expectSameBits } from './decoder_suite.js';
import { bf16From, bytesOf, expectBits, refusal, useDawn } from './webgpu_device.js';

const dawn = useDawn();
const FORMS = [...new Map(FORM_CASES.map(({ form }) => [describeForm(form), form])).values()];
const formOf = (name: string): WeightForm => {
  const form = FORMS.find((known) => describeForm(known) === name);
  if (!form) throw new Error(`no cases of the form ${name}`);
  return form;
};
const NESTED_OFFSET = formOf('nested-offset');

/** One backend for all tests of a description, so that its pipelines compile once. */
function useBackend(options: WebGPUBackendOptions, open: (context: TestContext) => Promise<GPUDevice>) {
  let backend: Promise<WebGPUBackend> | null = null;
  afterAll(async () => {
    await (await backend)?.dispose();
  });
  return (context: TestContext): Promise<WebGPUBackend> => {
    backend ??= open(context).then((device) => WebGPUBackend.create(device, options));
    return backend;
  };
}

/**
 * A pass of 1 row and one of 4 stand for those of 2 and 3, and with runs of 16 one of 1 for all, but in one form: a driver on
 * the CPU compiles each of them slowly.
 */
function quickRows({ form, groupSize, m }: FormCase): number {
  if (form.kind === 'nested-offset' && form.center === 8) return groupSize > 16 || m === 1 ? m : 4;
  return m === 1 || groupSize === 16 ? 1 : 4;
}

async function expectLinear(backend: WebGPUBackend, of: FormCase, outputType: 'f32' | 'bf16' = 'f32'): Promise<void> {
  const tensor = drawFormWeight(of);
  const x = drawActivations(of);
  const weight = await backend.upload(tensor);
  expect(weight.sizeBytes).toBeGreaterThanOrEqual(tensor.sizeBytes);
  expectBits(int4PlainMM(x, tensor, outputType), await backend.linear(x, weight, { outputType }), of.n);
  weight.dispose();
}

describe('on all that the adapter offers', () => {
  const backendOf = useBackend({}, async (context) => dawn(context).device);

  test.for(FORM_CASES)('$name', async (of, context) => {
    await expectLinear(await backendOf(context), { ...of, m: quickRows(of) });
  });

  // K = 512: 256 bytes of codes a row, so 1, 8 or 20 rows a slice.
  test.for([256, 2048, 5300])('slices of %i bytes give the same bits', async (maxBindingBytes, context) => {
    const backend = await WebGPUBackend.create(dawn(context).device, { maxBindingBytes });
    const shape = { n: 37, k: 512, groupSize: 32, m: 1, weights: 'plain', activations: 'plain' } as const;
    await expectLinear(backend, { name: `slices of ${maxBindingBytes}`, form: NESTED_OFFSET, ...shape });
    await backend.dispose();
  });

  test('bf16 of 7 rows is that of the f32', async (context) => {
    const shape = { n: 21, k: 512, groupSize: 32, m: 7, weights: 'signed', activations: 'outlier' } as const;
    await expectLinear(await backendOf(context), { name: 'bf16', form: NESTED_OFFSET, ...shape }, 'bf16');
  });
});

describe('on a device with default limits and no features', () => {
  const devices: GPUDevice[] = [];
  afterAll(() => {
    for (const device of devices) device.destroy();
  });
  // The unpacked dot products, which take long to compile, know nothing of forms.
  const backendOf = useBackend({ dot: 'packed' }, async (context) => {
    const adapter = await dawn(context).keepAlive.gpu.requestAdapter();
    const device = await adapter!.requestDevice();
    devices.push(device);
    return device;
  });

  test.for(FORM_CASES.filter(({ m, groupSize }) => m === 1 && groupSize > 16))('$name', async (of, context) => {
    const backend = await backendOf(context);
    expect(backend.device.details['reduction']).toMatch(/^workgroup/);
    await expectLinear(backend, of);
  });
});

describe('plans', () => {
  /** A step of a plan with a weight of a form, in bf16. */
  async function placed(backend: WebGPUBackend, name: string, n: number, k: number, x: PlanStep['x'], m = 1) {
    const tensor = drawFormWeight({ name, form: formOf(name), n, k, groupSize: 32, weights: 'plain' });
    const weight = await backend.upload(tensor);
    const y = await backend.createBuffer(m * n * 2);
    const step: PlanStep = { m, x, weight, y, outputType: 'bf16' };
    const expectY = async (values: Uint16Array) => {
      const expected = int4PlainMM(values, tensor, 'bf16');
      expectBits(expected, bf16From(await y.read()), n);
      return expected;
    };
    return { step, expectY };
  }

  test('forms that share an x go side by side with their own, and hand codes on to any other', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const values = drawActivations({ name: 'a plan of forms', m: 1, k: 512, activations: 'outlier' });
    const x = await backend.createBuffer(values.byteLength);
    await x.write(bytesOf(values));
    const first = await placed(backend, 'nested-offset', 256, 512, x);
    const beside = await placed(backend, 'offset, bf16', 9, 512, x);
    const alike = await placed(backend, 'nested-offset', 5, 512, x);
    const last = await placed(backend, 'nested-zero', 21, 256, first.step.y);
    const plan = await backend.plan([first.step, beside.step, alike.step, last.step]);
    if (!(plan instanceof WebGPUPlan)) throw new Error('not a WebGPUPlan');
    // x; the two nested ones; the one with an offset in bf16; the one on what the first has made, codes and all.
    expect(plan.dispatches).toHaveLength(4);
    await plan.run();
    const hidden = await first.expectY(values);
    await beside.expectY(values);
    await alike.expectY(values);
    await last.expectY(hidden);
    await backend.dispose();
  });
});

describe('a decoder', () => {
  const layers = DRAWN_CONFIG.layers.slice(0, 1);
  const config: DecoderConfig = { ...DRAWN_CONFIG, hiddenSize: 256, intermediateSize: 512, vocabularySize: 75, layers };

  /** Its linears in these forms; the others nested, with an offset. */
  function drawSource(forms: Readonly<Record<string, WeightForm>>): DecoderSource {
    return {
      ...drawDecoderSource(config),
      linear: async (linear, layer) => {
        const form = forms[linear] ?? NESTED_OFFSET;
        const shape = { ...linearShape(config, linear, layer), groupSize: 32, weights: 'plain' } as const;
        return drawFormWeight({ name: `${linear} ${layer}`, form, ...shape });
      },
    };
  }

  test('of nested weights, and of several forms that share an x, has the bits of the reference', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const source = drawSource({ v: formOf('nested-zero'), up: DEFAULT_FORM });
    const tokens = drawnTokens('forms', 3, config.vocabularySize);
    const decoder = await backend.loadDecoder(source);
    const cache = await decoder.openCache(tokens.length);
    const expected = await (await CpuDecoder.load(source)).openCache(tokens.length);
    expectSameBits(await everyLogit(cache, tokens, [1]), await everyLogit(expected, tokens, [1]));
    await backend.dispose();
  });
});

test('a nested weight whose steps have become infinite is refused', async (context) => {
  const backend = await WebGPUBackend.create(dawn(context).device);
  const weight = drawFormWeight({
    name: 'refused',
    form: NESTED_OFFSET,
    n: 3,
    k: 256,
    groupSize: 32,
    weights: 'plain',
  });
  weight.groups.steps?.scale.fill(0x7c00);
  await expect(backend.upload(weight)).rejects.toThrow(refusal('SCALE_NOT_FINITE'));
  await backend.dispose();
});

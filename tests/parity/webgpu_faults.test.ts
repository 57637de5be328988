// Kernels with one planted fault each, compiled from the real sources: the inputs of the suite must catch every one.

import { describe, expect, onTestFinished, test } from 'vitest';
import {
  CASES,
  CoalescedInt4Tensor,
  drawActivations,
  drawWeight,
  firstDifference,
  Int4Tensor,
  int4PlainMM,
  type OutputType,
} from '../../core/index.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { MODULE_SOURCES } from '../../shaders/pipelines.js';
import { drawSmall, refusal, useDawn } from './webgpu_device.js';

const dawn = useDawn();

type Edit = readonly [from: string, to: string];

interface Fault {
  readonly name: string;
  /** Each must occur exactly once in all kernels. */
  readonly edits: readonly Edit[];
  readonly outputType?: OutputType;
  /** The inputs that it is shown to; 1 by default. */
  readonly m?: number;
}

const FAULTS: readonly Fault[] = [
  {
    name: 'f32 accumulation in each lane',
    edits: [
      ['return total + vec2(i32(hi), i32(lo));', 'return vec2(bitcast<i32>(bitcast<f32>(total.x) + c), 0);'],
      [
        'atomicAdd(&partial[slot], total[m].x);',
        'let sum = bitcast<f32>(total[m].x);\n    atomicAdd(&partial[slot], i32(round(sum)));',
      ],
      [
        'atomicAdd(&partial[slot + 1u], total[m].y);',
        'atomicAdd(&partial[slot + 1u], i32(round((sum - round(sum)) * LO_SCALE)));',
      ],
    ],
  },
  { name: 'a sum without its low part', edits: [['vec2(i32(hi), i32(lo))', 'vec2(i32(hi), 0)']] },
  { name: 'a result that is cut off', edits: [['rest > half || (rest == half && (kept & 1u) == 1u)', 'false']] },
  { name: 'ties of the result rounded up', edits: [['(rest == half && (kept & 1u) == 1u)', 'rest == half']] },
  {
    name: 'ties of the codes rounded up',
    edits: [['(twice_rest == denominator && (floored & 1u) == 1u)', 'twice_rest == denominator']],
  },
  {
    name: 'swapped nibbles',
    edits: [
      ['let low = w & LOW_NIBBLES;', 'let low = (w >> vec4(4u)) & LOW_NIBBLES;'],
      ['let high = (w >> vec4(4u)) & LOW_NIBBLES;', 'let high = w & LOW_NIBBLES;'],
    ],
  },
  {
    name: 'scales one group off',
    edits: [
      ['let g = (b * BLOCK_SIZE) >> p.group_shift;', 'let g = (((b + 1u) % p.blocks) * BLOCK_SIZE) >> p.group_shift;'],
    ],
  },
  {
    name: 'scales in the native order',
    edits: [['g * p.n + n, NATIVE_SCALES)];\n      let s ', 'g * p.n + n, true)];\n      let s ']],
  },
  { name: 'subnormal scales that count', edits: [['select(bits, 0u, (', 'select(bits, bits | 0x00800000u, (']] },
  {
    name: 'subnormal results',
    edits: [['if biased < 1 {\n    return sign;', 'if biased < 1 {\n    return sign | 1u;']],
  },
  { name: 'a stale row of activations', edits: [['let row = m_base + m;', 'let row = m_base + min(m, 2u);']], m: 4 },
  { name: 'rows with NaN that count', edits: [['e_x == NAN_ROW)', 'e_x == NAN_ROW - 1)']] },
  {
    name: 'bf16 output that is cut off',
    edits: [['(bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u', 'bits >> 16u']],
    outputType: 'bf16',
  },
];

/** Makes `device` compile edited sources until the test is over. */
function plant(device: GPUDevice, edits: readonly Edit[]): void {
  const real = device.createShaderModule;
  const found = edits.map(() => 0);
  device.createShaderModule = (descriptor) => {
    let code = descriptor.code;
    edits.forEach(([from, to], i) => {
      found[i]! += code.split(from).length - 1;
      code = code.replace(from, () => to);
    });
    return real.call(device, { ...descriptor, code });
  };
  onTestFinished(() => {
    device.createShaderModule = real;
    expect(found).toEqual(edits.map(() => 1));
  });
}

/** Subnormal scales beside the least that E_w allows, where alone they would be seen if they did not count as 0. */
function subnormalScales() {
  const { native, x } = drawSmall({ n: 19, weights: 'smallest', activations: 'plain' });
  const parts = native.parts();
  const scale = native.scale.map((bits, i) => (i % 3 === 0 ? 0x007f : bits));
  const tensor = new Int4Tensor({ ...parts, scale: { ...parts.scale, data: scale } });
  return { name: 'subnormal scales', weight: CoalescedInt4Tensor.fromInt4Tensor(tensor), x };
}

/** Inputs of m rows that SwiftShader gets through quickly. */
function* inputs(m: number) {
  if (m === 1) yield subnormalScales();
  for (const of of CASES) {
    if (of.m !== m || of.n > 300) continue;
    yield { name: of.name, weight: CoalescedInt4Tensor.fromInt4Tensor(drawWeight(of)), x: drawActivations(of) };
  }
}

/** The names of the inputs on which the backend is wrong. */
async function wrongInputs(backend: WebGPUBackend, m: number, outputType: OutputType): Promise<string[]> {
  const wrong: string[] = [];
  for (const { name, weight, x } of inputs(m)) {
    const uploaded = await backend.upload(weight);
    const y = await backend.linear(x, uploaded, { outputType });
    if (firstDifference(int4PlainMM(x, weight, outputType), y, weight.n)) wrong.push(name);
    uploaded.dispose();
  }
  return wrong;
}

describe('planted faults', () => {
  test.for(FAULTS)('$name', async ({ edits, outputType = 'f32', m = 1 }, context) => {
    const { device } = dawn(context);
    plant(device, edits);
    const backend = await WebGPUBackend.create(device);
    expect(await wrongInputs(backend, m, outputType)).not.toEqual([]);
    await backend.dispose();
  });

  test.for([
    [1, 'f32'],
    [4, 'f32'],
    [1, 'bf16'],
  ] as const)('without a fault, m = %i in %s is right on all of these inputs', async ([m, outputType], context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    expect(await wrongInputs(backend, m, outputType)).toEqual([]);
    await backend.dispose();
  });
});

describe('compilation', () => {
  test.for(Object.entries(MODULE_SOURCES))('%s compiles without a message', async ([, code], context) => {
    const module = dawn(context).device.createShaderModule({ code });
    expect((await module.getCompilationInfo()).messages).toEqual([]);
  });

  test('a warning is refused', async (context) => {
    const { device } = dawn(context);
    plant(device, [['fn store(index: u32, bits: u32) {', 'fn store(index: u32, bits: u32) {\n  return;']]);
    await expect(WebGPUBackend.create(device, { dot: 'packed' })).rejects.toThrow(refusal('DEVICE_FAILURE'));
  });

  test('auto takes the unpacked variant where the packed one does not compile, and says why', async (context) => {
    const { device } = dawn(context);
    plant(device, [['requires packed_4x8_integer_dot_product;', 'requires a_feature_of_no_browser;']]);
    const backend = await WebGPUBackend.create(device);
    expect(backend.device.details['dot']).toMatch(/^unpacked .*a_feature_of_no_browser/);
    const { weight, x, n } = drawSmall();
    const y = await backend.linear(x, await backend.upload(weight));
    expect(firstDifference(int4PlainMM(x, weight), y, n)).toBeNull();
    await backend.dispose();
  });

  test('an explicit packed variant does not fall back', async (context) => {
    const { device } = dawn(context);
    plant(device, [['requires packed_4x8_integer_dot_product;', 'requires a_feature_of_no_browser;']]);
    await expect(WebGPUBackend.create(device, { dot: 'packed' })).rejects.toThrow(refusal('DEVICE_FAILURE'));
  });
});

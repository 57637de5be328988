// Kernels with one planted fault each, compiled from the real sources: the inputs of the suite must catch every one.

import { describe, expect, test } from 'vitest';
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
import { type KernelVariant, WebGPUBackend } from '../../shaders/index.js';
import { MAX_LINEARS, matmulSource, QUANTIZE_SOURCE, READ_SOURCE } from '../../shaders/kernel_sources.js';
import { hasFixedSubgroups } from '../../shaders/variant_choice.js';
import { drawSmall, ownDawn, refusal, useDawn } from './webgpu_device.js';
import { type Edit, plant } from './webgpu_planted.js';
import { missingFor, VARIANTS } from './webgpu_variants.js';

const dawn = useDawn();

interface Fault {
  readonly name: string;
  /** Each must occur in a kernel, and never twice. */
  readonly edits: readonly Edit[];
  readonly outputType?: OutputType;
  /** The inputs that it is shown to; 1 by default. */
  readonly m?: number;
}

const FAULTS: readonly Fault[] = [
  {
    name: 'f32 accumulation in each lane',
    edits: [
      [
        'return total + vec2(bitcast<i32>(hi) - ROUNDER_BITS, bitcast<i32>(lo) - ROUNDER_BITS);',
        'return vec2(bitcast<i32>(bitcast<f32>(total.x) + c), 0);',
      ],
      [
        'totals_0[m] = add_lanes(team, lane, first, totals_0[m] + totals_2[m]);',
        'totals_0[m] = add_lanes(team, lane, first, split(totals_0[m]) + split(totals_2[m]));',
      ],
      [
        'totals_1[m] = add_lanes(team, lane, first + 1u, totals_1[m] + totals_3[m]);',
        'totals_1[m] = add_lanes(team, lane, first + 1u, split(totals_1[m]) + split(totals_3[m]));',
      ],
      [
        '/// The bits of an output from its sum.',
        `fn split(total: vec2<i32>) -> vec2<i32> {
          let sum = bitcast<f32>(total.x);
          return vec2(i32(round(sum)), i32(round((sum - round(sum)) * LO_SCALE)));
        }`,
      ],
    ],
  },
  { name: 'a sum without its low part', edits: [[', bitcast<i32>(lo) - ROUNDER_BITS)', ', 0)']] },
  { name: 'a result that is cut off', edits: [['rest > half || (rest == half && (kept & 1u) == 1u)', 'false']] },
  { name: 'ties of the result rounded up', edits: [['(rest == half && (kept & 1u) == 1u)', 'rest == half']] },
  {
    name: 'ties of the codes rounded up',
    edits: [['(twice_rest == denominator && (floored & 1) == 1)', 'twice_rest == denominator']],
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
    edits: [['select((first + block) >> shift,', 'select((first + (block + 1u) % p_1.blocks) >> shift,']],
  },
  {
    name: 'scales in the native order',
    edits: [['p_1.n + row, NATIVE_SCALES)], 0u)', 'p_1.n + row, true)], 0u)']],
  },
  {
    name: 'subnormal results',
    edits: [['if biased < 1 {\n    return sign;', 'if biased < 1 {\n    return sign | 1u;']],
  },
  {
    name: 'a stale row of activations',
    edits: [['store_1((m_base + m) * p_1', 'store_1((m_base + min(m, 2u)) * p_1']],
    m: 4,
  },
  {
    name: 'quotients that are guessed badly',
    edits: [['return 1.0 / f32(significand_of(block_max));', 'return 0.99 / f32(significand_of(block_max));']],
  },
  { name: 'the block after the last', edits: [['counts && bits >= MIN', 'bits >= MIN']] },
  {
    name: 'one row of weights twice',
    edits: [['vec4(0u, 1u, 2u, 3u) % WEIGHT_ROWS', 'vec4(0u, 0u, 2u, 3u) % WEIGHT_ROWS']],
  },
  { name: 'rows with NaN that count', edits: [['e_x == NAN_ROW)', 'e_x == NAN_ROW - 1)']] },
  { name: 'E_x of the first block', edits: [['u32(scale_word_of(row_largest)) +', 'u32(scale_word_of(block_max)) +']] },
  {
    name: 'bf16 output that is cut off',
    edits: [['(bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u', 'bits >> 16u']],
    outputType: 'bf16',
  },
];

/** Faults in what only one variant has. */
const VARIANT_FAULTS: readonly (Fault & KernelVariant)[] = [
  {
    name: 'subgroup sums: a low part that is not summed',
    reduction: 'subgroup',
    dot: 'packed',
    edits: [['subgroupAdd(total.y)', 'total.y']],
  },
  {
    name: 'workgroup sums: a low part that is not shared',
    reduction: 'workgroup',
    dot: 'packed',
    edits: [['atomicAdd(&partial[slot + 1u], total.y);', '']],
  },
  {
    name: 'workgroup sums: a partial that is left out',
    reduction: 'workgroup',
    dot: 'packed',
    edits: [['i < PARTIALS_PER_ROW;', 'i < PARTIALS_PER_ROW - 1u;']],
  },
  {
    name: 'unpacked dot products: a byte without its sign',
    reduction: 'workgroup',
    dot: 'unpacked',
    edits: [['extractBits(q, 24u, 8u);', 'i32(b >> 24u);']],
  },
];

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

/** The variant that SwiftShader is quick with, where the device has it. */
function quickVariant(device: GPUDevice): KernelVariant {
  return hasFixedSubgroups(device)
    ? { reduction: 'subgroup', dot: 'packed' }
    : { reduction: 'workgroup', dot: 'packed' };
}

describe('planted faults', () => {
  test.for(FAULTS)('$name', async ({ edits, outputType = 'f32', m = 1 }, context) => {
    const { device } = dawn(context);
    plant(device, edits);
    const backend = await WebGPUBackend.create(device, quickVariant(device));
    expect(await wrongInputs(backend, m, outputType)).not.toEqual([]);
    await backend.dispose();
  });

  test.for(VARIANT_FAULTS)('$name', async ({ edits, outputType = 'f32', m = 1, reduction, dot }, context) => {
    const { device } = dawn(context);
    const missing = missingFor(device, { reduction, dot });
    if (missing) context.skip(missing);
    plant(device, edits);
    const backend = await WebGPUBackend.create(device, { reduction, dot });
    expect(await wrongInputs(backend, m, outputType)).not.toEqual([]);
    await backend.dispose();
  });

  test.for([
    [1, 'f32'],
    [4, 'f32'],
    [1, 'bf16'],
  ] as const)('without a fault, m = %i in %s is right on all of these inputs', async ([m, outputType], context) => {
    const { device } = dawn(context);
    const backend = await WebGPUBackend.create(device, quickVariant(device));
    expect(await wrongInputs(backend, m, outputType)).toEqual([]);
    await backend.dispose();
  });
});

describe('compilation', () => {
  const modules = VARIANTS.flatMap(({ name, ...variant }) =>
    Array.from({ length: MAX_LINEARS }, (_, i) => ({
      name: `int4_plain_mm, ${name}, ${i + 1} side by side`,
      code: matmulSource(variant, i + 1),
      variant,
    })),
  );

  test.for(modules)('$name: no message', async ({ code, variant }, context) => {
    const { device } = dawn(context);
    const missing = missingFor(device, variant);
    if (missing) context.skip(missing);
    const module = device.createShaderModule({ code });
    expect((await module.getCompilationInfo()).messages).toEqual([]);
  });

  test.for([
    ['quantize_activations', QUANTIZE_SOURCE],
    ['read_bandwidth', READ_SOURCE],
  ] as const)('%s: no message', async ([, code], context) => {
    const module = dawn(context).device.createShaderModule({ code });
    expect((await module.getCompilationInfo()).messages).toEqual([]);
  });

  test('a warning is refused', async (context) => {
    const { device } = dawn(context);
    const signature = 'fn store_1(index: u32, bits: u32) {';
    plant(device, [[signature, `${signature}\n  return;`]]);
    const backend = WebGPUBackend.create(device, { reduction: 'workgroup', dot: 'packed' });
    await expect(backend).rejects.toThrow(refusal('DEVICE_FAILURE'));
  });

  test('auto takes the unpacked variant where the packed one does not compile, and says why', async (context) => {
    const { device, keepAlive } = await ownDawn(context);
    const real = device.createShaderModule;
    device.createShaderModule = ({ code }) =>
      real.call(device, { code: code.replace('packed_4x8_integer_dot_product', 'a_feature_of_no_browser') });
    const backend = await WebGPUBackend.create(device, { keepAlive });
    expect(backend.device.details['dot']).toMatch(/^unpacked /);
    expect(backend.device.details['variant']).toMatch(/packed does not compile: .*a_feature_of_no_browser/);
    const { weight, x, n } = drawSmall();
    const y = await backend.linear(x, await backend.upload(weight));
    expect(firstDifference(int4PlainMM(x, weight), y, n)).toBeNull();
    await backend.dispose();
    device.destroy();
  });

  test('an explicit packed variant does not fall back', async (context) => {
    const { device } = dawn(context);
    plant(device, [['requires packed_4x8_integer_dot_product;', 'requires a_feature_of_no_browser;']]);
    const backend = WebGPUBackend.create(device, { reduction: 'workgroup', dot: 'packed' });
    await expect(backend).rejects.toThrow(refusal('DEVICE_FAILURE'));
  });
});

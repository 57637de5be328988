// The operations of the decoder on WebGPU, each alone with hard values; and with one planted fault each, which these
// values must catch.

import { describe, expect, test } from 'vitest';
import { DECODER_KERNELS } from '../../shaders/decoder_kernels.js';
import { CHECKS } from './decoder_operations.js';
import { useDawn } from './webgpu_device.js';
import { KernelRunner } from './webgpu_kernels.js';

const dawn = useDawn();
const NAMES = Object.keys(CHECKS) as (keyof typeof CHECKS)[]; // the keys of a constant

interface Fault {
  readonly of: keyof typeof CHECKS;
  readonly name: string;
  readonly edit: readonly [found: string, put: string];
}

/** a * b + c rounded once, or nearly always: SwiftShader's own fma rounds twice. */
const FUSED = `
fn split_f32(v: f32) -> vec2<f32> {
  let high = 4097.0 * v - (4097.0 * v - v);
  return vec2(high, v - high);
}
fn fused(a: f32, b: f32, c: f32) -> f32 {
  let product = a * b;
  let x = split_f32(a);
  let y = split_f32(b);
  let lost = ((x.x * y.x - product) + x.x * y.y + x.y * y.x) + x.y * y.y;
  let sum = product + c;
  let taken = sum - product;
  return sum + ((product - (sum - taken)) + (c - taken) + lost);
}
`;

/** Each must occur once in a kernel. */
const FAULTS: readonly Fault[] = [
  {
    of: 'elementary',
    name: 'exp without its low part of ln 2',
    edit: [
      'add(add(x, -mul(n, bitcast<f32>(0x3f317000u))), -mul(n, bitcast<f32>(0x3805fdf4u)))',
      'add(x, -mul(n, bitcast<f32>(0x3f317218u)))',
    ],
  },
  { of: 'elementary', name: 'exp that goes on below -87', edit: ['x > -87.0', 'x > -87.3'] },
  { of: 'elementary', name: 'rcp of two steps', edit: ['i < 3; i++', 'i < 2; i++'] },
  { of: 'elementary', name: 'rsqrt of three steps', edit: ['i < 4; i++', 'i < 3; i++'] },
  {
    of: 'elementary',
    name: 'fused products of exp',
    edit: ['y = add(mul(y, r), 0.5);', 'y = fused(y, r, 0.5);'],
  },
  { of: 'embed', name: 'rows without their scale', edit: [' * p.scale;', ' * 1.0;'] },
  { of: 'embed', name: 'rows of the first part', edit: ['token - p.first', 'token'] },
  { of: 'embed', name: 'rows of another part', edit: ['row < p.count && ', ''] },
  { of: 'embed', name: 'lanes beyond a row', edit: [' && id.x < p.pairs', ''] },
  { of: 'embed', name: 'the first token for all', edit: ['step.tokens[id.y]', 'step.tokens[0]'] },
  { of: 'embed', name: 'only tokens of the host', edit: ['select(asked, last_token, asked == LAST_TOKEN)', 'asked'] },
  {
    of: 'norm',
    name: 'squares in another order',
    edit: [
      'let four = fence4(fence4(slots[0] + slots[2]) + fence4(slots[1] + slots[3]));',
      'let four = fence4(fence4(slots[0] + slots[1]) + fence4(slots[2] + slots[3]));',
    ],
  },
  {
    of: 'norm',
    name: 'squares that are fused',
    edit: [
      'for (var j = 0u; j < LOADS; j++) {\n        squares = add(squares, mul(values[j], values[j]));',
      'for (var j = 0u; j < LOADS; j++) {\n        squares = fused(values[j], values[j], squares);',
    ],
  },
  { of: 'norm', name: 'no epsilon', edit: ['p.epsilon));', '0.0));'] },
  {
    of: 'norm',
    name: 'no layer scalar',
    edit: ['branch_weight_of(at))), p.scalar);', 'branch_weight_of(at))), 1.0);'],
  },
  {
    of: 'norm',
    name: 'the weight first',
    edit: ['mul(mul(y[first + at], r), branch_weight_of(at))', 'mul(mul(y[first + at], branch_weight_of(at)), r)'],
  },
  {
    of: 'norm',
    name: 'the weight of a neighbour',
    edit: [
      '>> (16u * (i & 1u))) << 16u);\n}\n\n/// The next norm',
      '>> (16u * (~i & 1u))) << 16u);\n}\n\n/// The next norm',
    ],
  },
  {
    of: 'norm',
    name: 'a largest word that was not cleared',
    edit: ['atomicStore(&run_terms[row * term_words(blocks)], 0u);', ''],
  },
  { of: 'norm', name: 'later terms that were not cleared', edit: ['later_terms[row * p.later_words] = 0u;', ''] },
  {
    of: 'norm',
    name: 'bf16 that is cut off',
    edit: ['return (bits + 0x7fffu + ((bits >> 16u) & 1u)) >> 16u;', 'return bits >> 16u;'],
  },
  { of: 'norm', name: 'runs of one lane less', edit: ['i < lanes_per_run; i++', 'i + 1u < lanes_per_run; i++'] },
  {
    of: 'heads',
    name: 'a sine of the other sign',
    edit: ['-mul(normed[i + half], turn.y)', 'mul(normed[i + half], turn.y)'],
  },
  {
    of: 'heads',
    name: 'a rotation that is fused',
    edit: [
      'return add(mul(normed[i], turn.x), mul(normed[i - half], turn.y));',
      'return fused(normed[i], turn.x, mul(normed[i - half], turn.y));',
    ],
  },
  { of: 'heads', name: 'the norm of the queries for keys', edit: ['select(HEAD_SIZE, 0u, is_query)', '0u'] },
  { of: 'heads', name: 'values with a weight', edit: ['select(mul(x, weight), x, is_value)', 'mul(x, weight)'] },
  {
    of: 'heads',
    name: 'values that are rotated',
    edit: ['packed_bf16(normed[i], normed[i + 1u]);', 'packed_bf16(rotated(i, table), rotated(i + 1u, table));'],
  },
  {
    of: 'heads',
    name: 'a table of the first token',
    edit: ['let table = token * (HEAD_SIZE / 2u);', 'let table = 0u;'],
  },
  {
    of: 'heads',
    name: 'a cache that does not begin again',
    edit: ['(step.position + token) % p.slots', 'min(step.position + token, p.slots - 1u)'],
  },
  {
    of: 'heads',
    name: 'keys in the order of values',
    edit: [
      'keys[((tile * (HEAD_SIZE / 8u) + i / 8u) * 32u + slot % 32u) * 4u + i % 8u / 2u] = pair;',
      'keys[((head * p.slots + slot) * HEAD_SIZE + i) / 2u] = pair;',
    ],
  },
  {
    of: 'attention',
    name: 'a window that is one too long',
    edit: [
      'select(0u, t - (WINDOW - 1u), t >= WINDOW);\n  let begin',
      'select(0u, t - WINDOW, t > WINDOW);\n  let begin',
    ],
  },
  {
    of: 'attention',
    name: 'the next token seen',
    edit: ['let last = min(t, begin + CHUNK - 1u);', 'let last = min(t + 1u, begin + CHUNK - 1u);'],
  },
  {
    of: 'attention',
    name: 'another head of keys',
    edit: ['head * KEY_VALUE_HEADS / HEADS;', '(head + 1u) % HEADS * KEY_VALUE_HEADS / HEADS;'],
  },
  {
    of: 'attention',
    name: 'partial sums in another order',
    edit: [
      'let four = fence4(fence4(a[0] + a[2]) + fence4(a[1] + a[3]));',
      'let four = fence4(fence4(a[0] + a[1]) + fence4(a[2] + a[3]));',
    ],
  },
  {
    of: 'attention',
    name: 'shares that are not rounded',
    edit: ['share = low_bf16(bf16_bits(exponential(add(score, -m))));', 'share = exponential(add(score, -m));'],
  },
  {
    of: 'attention',
    name: 'a softmax without its largest score',
    edit: ['exponential(add(score, -m))', 'exponential(score)'],
  },
  {
    of: 'attention',
    name: 'a sum of shares that are not rounded',
    edit: [
      'let l = tree_sum(share, lane);',
      'let l = tree_sum(select(0.0, exponential(add(score, -m)), is_visible), lane);',
    ],
  },
  {
    of: 'attention',
    name: 'values of two positions at once',
    edit: [
      'o = vec2(add(o.x, e * low_bf16(words[i])), add(o.y, e * high_bf16(words[i])));',
      'o = vec2(add(o.x, e * low_bf16(words[i])), add(o.y, e * low_bf16(words[i])));',
    ],
  },
  {
    of: 'attention',
    name: 'a ring that is not followed',
    edit: ['select(place, place - p.slots, place >= p.slots)', 'min(place, p.slots - 1u)'],
  },
  { of: 'attention', name: 'chunks that are not scaled', edit: ['let f = factors[i].x;', 'let f = 1.0;'] },
  {
    of: 'combine',
    name: 'fused products of chunks',
    edit: [
      'low = fence4(low + fence4(outputs[place] * f));',
      'low.x = fused(outputs[place].x, f, low.x);\n      low = vec4(low.x, fence4(low + fence4(outputs[place] * f)).yzw);',
    ],
  },
  {
    of: 'attention',
    name: 'the last chunk left out',
    edit: ['i < min(THREADS, chunks - begin); i++', 'i + 1u < min(THREADS, chunks - begin); i++'],
  },
  {
    of: 'gelu',
    name: 'a cubic that is fused',
    edit: ['add(g, cubic)', 'fused(bitcast<f32>(0x3d372713u), mul(mul(g, g), g), g)'],
  },
  {
    of: 'gelu',
    name: 'no clamp',
    edit: [
      'clamp(mul(bitcast<f32>(0x3fcc422au), add(g, cubic)), -80.0, 80.0)',
      'clamp(mul(bitcast<f32>(0x3fcc422au), add(g, cubic)), -87.5, 88.0)',
    ],
  },
  { of: 'gelu', name: 'gate for up', edit: ['mul(gelu(g.y), u.y)', 'mul(gelu(u.y), g.y)'] },
  { of: 'softCap', name: 'a cap without the product', edit: ['mul(p.cap, add(1.0', 'mul(29.0, add(1.0'] },
  {
    of: 'softCap',
    name: 'no clamp',
    edit: ['clamp(mul(logits[i], p.two_over_cap), -80.0, 80.0)', 'clamp(mul(logits[i], p.two_over_cap), -80.0, 1e9)'],
  },
  { of: 'softCap', name: 'a grid that stops', edit: ['i += 256u * workgroups.x', 'i += p.count'] },
  {
    of: 'argMax',
    name: 'the highest among equals of two lanes',
    edit: ['other_index < indices[lane]', 'other_index > indices[lane]'],
  },
  { of: 'argMax', name: 'the last among equals of one lane', edit: ['loaded[j] > value', 'loaded[j] >= value'] },
];

test.for(NAMES)('%s has the bits of the reference', async (name, context) => {
  const runner = new KernelRunner(dawn(context).device);
  expect(await CHECKS[name](runner, runner)).toEqual([]);
});

describe('planted faults', () => {
  test.for(FAULTS)('$of: $name', async ({ of, edit: [found, put] }, context) => {
    const { device } = dawn(context);
    let most = 0;
    const edit = (code: string) => {
      most = Math.max(most, code.split(found).length - 1);
      return code.replace(found, () => put) + (put.includes('fused(') ? FUSED : '');
    };
    expect(await CHECKS[of](new KernelRunner(device, edit), new KernelRunner(device))).not.toEqual([]);
    expect(most).toBe(1);
  });
});

test.for(Object.entries(DECODER_KERNELS))('%s compiles without a message', async ([, { code }], context) => {
  const module = dawn(context).device.createShaderModule({ code });
  expect((await module.getCompilationInfo()).messages).toEqual([]);
});

// Every form of a packed weight: its bits against exact rationals, what its codes stand for, and what is refused.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CoalescedInt4Tensor,
  CpuBackend,
  dequantize,
  describeForm,
  drawActivations,
  drawFormWeight,
  FORM_CASES,
  type FormWeightKind,
  firstDifference,
  formatDifference,
  int4PlainMM,
  type WeightForm,
} from '../../core/index.js';
import { SEED } from '../soak_arbitrary.js';
import { codeOf } from './checkpoint_bytes.js';
import { secondFormulation, secondWeightExponent } from './second_formulation.js';

function expectSame(x: Uint16Array, weight: CoalescedInt4Tensor): void {
  const { f32, bf16 } = secondFormulation(x, weight);
  const tell = (difference: ReturnType<typeof firstDifference>) => difference && formatDifference(difference);
  expect(secondWeightExponent(weight)).toBe(weight.weightExponent);
  expect(tell(firstDifference(new Float32Array(f32.buffer), int4PlainMM(x, weight), weight.n))).toBeNull();
  expect(tell(firstDifference(bf16, int4PlainMM(x, weight, 'bf16'), weight.n))).toBeNull();
}

const FORMS = [...new Map(FORM_CASES.map(({ form }) => [describeForm(form), form])).values()];
const SHAPE = { n: 3, k: 512, groupSize: 32 };
const draw = (form: WeightForm, weights: FormWeightKind = 'plain') =>
  drawFormWeight({ name: describeForm(form), form, weights, ...SHAPE });

describe('against the second formulation', () => {
  test('the case table', () => {
    const small = FORM_CASES.filter(({ n, k, m }) => n * k * m <= 60_000);
    expect(new Set(small.map(({ form, weights }) => `${describeForm(form)} ${weights}`)).size).toBeGreaterThan(40);
    for (const of of small) expectSame(drawActivations(of), drawFormWeight(of));
  });

  test(`2000 mean cases, seed ${SEED}`, () => {
    const cases = fc.record({
      name: fc.string(),
      form: fc.constantFrom(...FORMS),
      n: fc.integer({ min: 1, max: 3 }),
      k: fc.constantFrom(256, 512),
      groupSize: fc.constantFrom(16, 32, 64, 256),
      m: fc.integer({ min: 1, max: 2 }),
      weights: fc.constantFrom<FormWeightKind>('plain', 'signed', 'subnormal', 'wide', 'largest', 'saturated', 'zero'),
      activations: fc.constantFrom('plain', 'outlier', 'ties', 'spread', 'any-finite', 'tiny', 'max-finite'),
    });
    fc.assert(
      fc.property(cases, (of) => {
        expectSame(drawActivations(of), drawFormWeight(of));
      }),
      { numRuns: 2000, seed: SEED },
    );
  });

  test.each(FORMS.map((form) => [describeForm(form), form] as const))('%s with one slip is told', (_, form) => {
    const weight = draw(form);
    const { n, k, groupSize, qdata, groups } = weight;
    const second = groups.second.map((bits) => bits ^ 1);
    const x = drawActivations({ name: 'a slip', m: 1, k, activations: 'plain' });
    const { f32 } = secondFormulation(x, { n, k, groupSize, qdata, form, groups: { ...groups, second } });
    expect(firstDifference(new Float32Array(f32.buffer), int4PlainMM(x, weight), n)).not.toBeNull();
  });
});

describe('what codes stand for', () => {
  const K = 256;
  const codes = { dtype: 'u8' as const, shape: [1, K / 2], data: new Uint8Array(K / 2).fill(0x5f) };
  const halves = (dtype: 'bf16' | 'f16', bits: number) => ({ dtype, shape: [1, 1], data: Uint16Array.of(bits) });
  const step = (bits: number) => ({ dtype: 'f16' as const, shape: [1, 1], data: Uint16Array.of(bits) });
  const byte = (value: number) => ({ dtype: 'u8' as const, shape: [1, 1], data: Uint8Array.of(value) });
  const base = { layout: 'coalesced-int4' as const, qdata: codes, groupSize: K };
  const first = (weight: CoalescedInt4Tensor) => [...dequantize(weight).slice(0, 2)];

  test('f16 subnormals are values', () => {
    // (15 - 8) and (5 - 8) times 3 * 2^-24
    const weight = new CoalescedInt4Tensor({ ...base, scale: halves('f16', 3), zeroPoint: halves('f16', 0x4800) });
    expect(first(weight)).toEqual([21 * 2 ** -24, -9 * 2 ** -24]);
    expect(weight.form).toEqual({ kind: 'zero', dtype: 'f16', center: 0 });
  });

  test('an offset is added', () => {
    const [scale, offset] = [halves('bf16', 0x4000), halves('bf16', 0xc040)];
    expect(first(new CoalescedInt4Tensor({ ...base, form: 'offset', center: 0, scale, offset }))).toEqual([27, 7]);
    expect(first(new CoalescedInt4Tensor({ ...base, form: 'offset', center: 8, scale, offset }))).toEqual([11, -9]);
  });

  test('codes of scales and of what is added count steps', () => {
    const nested = { ...base, scale: byte(3), scaleStep: step(0x3800) };
    const offset = { offset: byte(63), offsetStep: step(0xb400) };
    const zero = { zeroPoint: byte(17), zeroPointStep: step(0x3800) };
    const withOffset = new CoalescedInt4Tensor({ ...nested, ...offset, form: 'nested-offset', center: 0 });
    expect(first(withOffset)).toEqual([15 * 1.5 - 15.75, 5 * 1.5 - 15.75]);
    expect(first(new CoalescedInt4Tensor({ ...nested, ...zero, form: 'nested-zero' }))).toEqual([9.75, -5.25]);
  });
});

describe('refusals', () => {
  const [zero, offset, nested] = [FORMS[0]!, FORMS[1]!, FORMS.find(({ kind }) => kind === 'nested-zero')!];
  const k = 160;

  test.each<[string, string, () => unknown]>([
    ['a form of another name', 'FORM_UNKNOWN', () => build(draw(zero), { form: 'affine' })],
    ['a center that is neither 0 nor 8', 'FORM_UNKNOWN', () => build(draw(offset), { center: 4 })],
    ['no center beside an offset', 'FORM_UNKNOWN', () => build(draw(offset), { center: undefined })],
    ['an offset in another type', 'DTYPE_MISMATCH', () => build(draw(offset), { scale: draw(zero).parts().scale })],
    ['a missing offset', 'DTYPE_MISMATCH', () => build(draw(offset), { offset: undefined })],
    ['missing steps', 'DTYPE_MISMATCH', () => build(draw(nested), { scaleStep: undefined })],
    ['steps of another shape', 'SHAPE_MISMATCH', () => build(draw(nested), { scaleStep: steps([3, 3], 0x3c00) })],
    ['native steps', 'LAYOUT_NATIVE_SCALE', () => build(draw(nested), { scaleStep: steps([2, 3], 0x3c00) })],
    ['an infinite step', 'SCALE_NOT_FINITE', () => build(draw(nested), { scaleStep: steps([3, 2], 0x7c00) })],
    [
      'a step that is NaN',
      'ZERO_POINT_NOT_FINITE',
      () => build(draw(nested), { zeroPointStep: steps([3, 2], 0x7e00) }),
    ],
    [
      'a zero point too far',
      'ZERO_POINT_OUT_OF_RANGE',
      () => build(draw(nested), { zeroPointStep: steps([3, 2], 0x7bff) }),
    ],
    [
      'K without whole steps',
      'K_UNSUPPORTED',
      () => drawFormWeight({ name: '', form: nested, weights: 'plain', n: 1, k, groupSize: 32 }),
    ],
    [
      'groups larger than a step',
      'GROUP_SIZE_UNSUPPORTED',
      () => drawFormWeight({ name: '', form: nested, weights: 'plain', ...SHAPE, groupSize: 512 }),
    ],
  ])('%s: %s', async (_, code, attempt) => {
    expect(await codeOf(attempt)).toBe(code);
  });

  const steps = (shape: readonly number[], bits: number) => ({
    dtype: 'f16',
    shape,
    data: new Uint16Array(shape.reduce((a, b) => a * b)).fill(bits),
  });

  /** The parts of a weight, some of them changed in ways that types would not let pass. */
  function build(weight: CoalescedInt4Tensor, changes: Readonly<Record<string, unknown>>): CoalescedInt4Tensor {
    return Reflect.construct(CoalescedInt4Tensor, [{ ...weight.parts(), ...changes }]);
  }
});

test('the cpu backend takes every form', async () => {
  const backend = new CpuBackend();
  for (const form of FORMS) {
    const weight = draw(form);
    const x = drawActivations({ name: 'upload', m: 2, k: weight.k, activations: 'plain' });
    const uploaded = await backend.upload(weight);
    expect(uploaded.sizeBytes).toBe(weight.sizeBytes);
    expect(await backend.linear(x, uploaded)).toEqual(int4PlainMM(x, weight));
  }
});

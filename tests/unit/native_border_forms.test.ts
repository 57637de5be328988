// The native border and every form of a weight: it judges as the constructor of CoalescedInt4Tensor does.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CoalescedInt4Tensor,
  describeForm,
  drawActivations,
  drawFormWeight,
  FORM_CASES,
  type FormWeightKind,
  firstDifference,
  int4PlainMM,
  type WeightForm,
} from '../../core/index.js';
import type { NativeAddon, NativeWeightDescription } from '../../node/cuda_addon.js';
import { describeParts } from '../../node/cuda_upload.js';
import { codeOfRefusal, loadAddonOnHost, refusalOf } from '../native/border_calls.js';
import { SEED } from '../soak_arbitrary.js';

const FORMS = [...new Map(FORM_CASES.map(({ form }) => [describeForm(form), form])).values()];
const SHAPE = { n: 3, k: 512, groupSize: 32 };
const draw = (form: WeightForm, weights: FormWeightKind = 'plain') =>
  drawFormWeight({ name: describeForm(form), form, weights, ...SHAPE });

function validate(native: NativeAddon, description: NativeWeightDescription, weight: CoalescedInt4Tensor) {
  const { scale, second, steps } = weight.groups;
  return native.validateWeight(description, scale, second, steps?.scale, steps?.second);
}

test.for(FORMS.map((form) => [describeForm(form), form] as const))(
  '%s is taken, with its E_w',
  async ([, form], context) => {
    const native = await loadAddonOnHost(context);
    for (const kind of ['plain', 'signed', 'subnormal', 'wide', 'largest', 'saturated', 'zero'] as const) {
      const weight = draw(form, kind);
      const { n, k, groupSize, nGroups, weightExponent } = weight;
      const actual = validate(native, describeParts(weight.parts()), weight);
      expect([kind, actual]).toEqual([kind, { n, k, groupSize, nGroups, weightExponent }]);
    }
  },
);

describe('refusals', () => {
  const [zero, offset, nested] = [FORMS[0]!, FORMS[1]!, FORMS.find(({ kind }) => kind === 'nested-offset')!];
  const nestedZero = FORMS.find(({ kind }) => kind === 'nested-zero')!;
  const steps = { dtype: 'f16', shape: [2, 3], sizeBytes: 12 };
  const small = (groupSize: number, k: number) => {
    const operand = (dtype: string, columns: number, bytes: number) => ({
      dtype,
      shape: [1, columns],
      sizeBytes: columns * bytes,
    });
    return {
      groupSize,
      qdata: operand('u8', k / 2, 1),
      scale: operand('u8', k / groupSize, 1),
      offset: operand('u8', k / groupSize, 1),
    };
  };

  test.for<[string, string, WeightForm, object]>([
    ['a form of another name', 'FORM_UNKNOWN', zero, { form: 'affine' }],
    ['a center that is neither 0 nor 8', 'FORM_UNKNOWN', offset, { center: 4 }],
    ['a center beside a zero point', 'FORM_UNKNOWN', zero, { center: 8 }],
    ['a nested form of bf16', 'DTYPE_MISMATCH', nested, { scale: { dtype: 'bf16', shape: [3, 16], sizeBytes: 96 } }],
    ['offsets of another type', 'DTYPE_MISMATCH', offset, { offset: { dtype: 'f16', shape: [3, 16], sizeBytes: 96 } }],
    ['steps of another type', 'DTYPE_MISMATCH', nested, { offsetStep: { ...steps, dtype: 'bf16' } }],
    ['native steps', 'LAYOUT_NATIVE_SCALE', nested, { scaleStep: steps }],
    ['steps of every group', 'SHAPE_MISMATCH', nested, { scaleStep: { ...steps, shape: [3, 16], sizeBytes: 96 } }],
    ['codes of two bytes', 'BYTE_LENGTH_MISMATCH', nested, { scale: { dtype: 'u8', shape: [3, 16], sizeBytes: 96 } }],
    ['K without whole steps', 'K_UNSUPPORTED', nested, small(32, 160)],
    ['groups larger than a step', 'GROUP_SIZE_UNSUPPORTED', nested, small(512, 512)],
    ['a form in no string', 'ARGUMENT_INVALID', zero, { form: 7 }],
    ['no offset', 'ARGUMENT_INVALID', offset, { offset: undefined }],
    ['no steps', 'ARGUMENT_INVALID', nested, { scaleStep: undefined }],
  ])('%s: %s', async ([, code, form, change], context) => {
    const native = await loadAddonOnHost(context);
    const weight = draw(form);
    const refusal = refusalOf(() => validate(native, { ...describeParts(weight.parts()), ...change }, weight));
    expect(refusal).toMatchObject({ code, rule: expect.stringMatching(/./), fix: expect.stringMatching(/\.$/) });
  });

  test.for<[string, string, WeightForm, 'scale' | 'second', number]>([
    ['an infinite f16 scale', 'SCALE_NOT_FINITE', zero, 'scale', 0x7c00],
    ['an offset that is NaN', 'OFFSET_NOT_FINITE', offset, 'second', 0x7fc0],
    ['an infinite step', 'SCALE_NOT_FINITE', nested, 'scale', 0xfc00],
    ['an infinite step of offsets', 'OFFSET_NOT_FINITE', nested, 'second', 0x7c00],
    ['an infinite step of zero points', 'ZERO_POINT_NOT_FINITE', nestedZero, 'second', 0x7c00],
    ['a zero point of many steps', 'ZERO_POINT_OUT_OF_RANGE', nestedZero, 'second', 0x7bff],
  ])('%s: %s', async ([, code, form, which, bits], context) => {
    const native = await loadAddonOnHost(context);
    const weight = draw(form);
    const halves = weight.groups.steps ?? weight.groups;
    halves[which][halves[which].length - 1] = bits;
    if (weight.groups.steps !== null) weight.groups[which].fill(200);
    const refusal = refusalOf(() => validate(native, describeParts(weight.parts()), weight));
    expect(codeOfRefusal(refusal)).toBe(code);
  });
});

test('refuses and accepts exactly what the constructor does', async (context) => {
  const native = await loadAddonOnHost(context);
  const usualBits = [0x1800, 0x2c00, 0x3000, 0x3800, 0x3c00, 0x4000, 0x9800, 0xb800] as const;
  const bits = fc.constantFrom(
    ...usualBits,
    ...usualBits,
    0,
    1,
    0x3c00,
    0x4780,
    0x4781,
    0x5c00,
    0x7bff,
    0x7c00,
    0x7f00,
    0x7f80,
    0x8001,
    0xffc0,
  );
  const dtype = fc.constantFrom<'bf16' | 'f16' | 'u8' | null>('bf16', 'f16', 'u8', ...new Array<null>(9).fill(null));
  const drawn = fc.record({
    form: fc.constantFrom('zero', 'offset', 'nested-zero', 'nested-offset', 'affine', undefined),
    center: fc.constantFrom(0, 0, 0, 8, 8, 4, undefined),
    n: fc.integer({ min: 1, max: 3 }),
    k: fc.constantFrom(32, 160, 256, 256, 512, 1024),
    groupSize: fc.constantFrom(8, 16, 32, 64, 256, 512),
    halves: fc.constantFrom<'bf16' | 'f16'>('bf16', 'f16'),
    dtypes: fc.tuple(dtype, dtype, dtype, dtype),
    isTransposed: fc.tuple(...[0, 1, 2, 3].map(() => fc.constantFrom(false, false, false, false, false, false, true))),
    isShort: fc.tuple(...[0, 1, 2, 3].map(() => fc.constantFrom(false, false, false, false, false, false, true))),
    values: fc.tuple(bits, bits, bits, bits),
  });
  const counts = { accepted: 0, refused: 0 };
  fc.assert(
    fc.property(drawn, ({ form, center, n, k, groupSize, halves, dtypes, isTransposed, isShort, values }) => {
      const isNested = form?.startsWith('nested') ?? false;
      const second = form?.endsWith('offset') ? 'offset' : 'zeroPoint';
      const operand = (i: number, usual: 'u8' | 'bf16' | 'f16', span: number) => {
        const columns = Math.floor(k / span);
        const type = dtypes[i] ?? usual;
        const length = Math.max(0, n * columns - (isShort[i] ? 1 : 0));
        const data = type === 'u8' ? new Uint8Array(length) : new Uint16Array(length);
        return { dtype: type, shape: isTransposed[i] ? [columns, n] : [n, columns], data: data.fill(values[i]!) };
      };
      const usual = isNested ? 'u8' : halves;
      const own = {
        scale: operand(0, usual, groupSize),
        [second]: operand(1, usual, groupSize),
        ...(isNested ? { scaleStep: operand(2, 'f16', 256), [`${second}Step`]: operand(3, 'f16', 256) } : {}),
      };
      const base = {
        layout: 'coalesced-int4',
        groupSize,
        ...(form === undefined ? {} : { form }),
        ...(center === undefined ? {} : { center }),
      };
      const qdata = { dtype: 'u8', shape: [n, k / 2], data: new Uint8Array((n * k) / 2) };
      const expected = refusalOf(() => Reflect.construct(CoalescedInt4Tensor, [{ ...base, qdata, ...own }]));
      const sized = Object.fromEntries(
        Object.entries({ qdata, ...own }).map(([name, { dtype: type, shape, data }]) => [
          name,
          { dtype: type, shape, sizeBytes: data.byteLength },
        ]),
      );
      const steps = isNested ? [operand(2, 'f16', 256).data, operand(3, 'f16', 256).data] : [];
      const call = () =>
        Reflect.apply(native.validateWeight, native, [
          { ...base, ...sized },
          own.scale.data,
          own[second]!.data,
          ...steps,
        ]);
      expect(codeOfRefusal(refusalOf(call))).toBe(codeOfRefusal(expected));
      counts[expected === 'accepted' ? 'accepted' : 'refused']++;
    }),
    { numRuns: 6000, seed: SEED },
  );
  expect(counts.accepted).toBeGreaterThan(300);
  expect(counts.refused).toBeGreaterThan(3000);
});

describe('an upload of a nested weight', () => {
  test('arrives in pieces of whole steps, and pieces that are refused leave no trace', async (context) => {
    const native = await loadAddonOnHost(context);
    const form = FORMS.find(({ kind }) => kind === 'nested-offset')!;
    const weight = draw(form);
    const { scale, second, steps } = weight.groups;
    if (steps === null) throw new Error('a nested form has steps');
    const { handle: device } = await native.openDevice(0);
    const { handle } = await native.beginUpload(device, describeParts(weight.parts()), false);
    const refused = expect.objectContaining({ code: 'BYTE_LENGTH_MISMATCH' });
    const send = (from: number, to: number, lastStep = to / 8) =>
      native.appendNestedScales(
        handle,
        scale.subarray(from, to),
        second.subarray(from, to),
        steps.scale.subarray(from / 8, lastStep),
        steps.second.subarray(from / 8, lastStep),
      );
    await native.appendQdata(handle, weight.qdata);
    await send(0, 16);
    await expect(send(16, 24, 4)).rejects.toEqual(refused);
    await expect(send(16, 20, 3)).rejects.toEqual(refused);
    await send(16, 24);
    await expect(native.appendScales(handle, new Uint16Array(24), new Uint16Array(24))).rejects.toEqual(refused);
    await expect(send(0, 48)).rejects.toEqual(refused);
    expect(refusalOf(() => native.finishUpload(handle))).toEqual(refused);
    const spoiled = steps.scale.map((bits, i) => (i === 5 ? 0x7c00 : bits));
    const [lastScale, lastSecond] = [scale.subarray(24), second.subarray(24)];
    const last = native.appendNestedScales(
      handle,
      lastScale,
      lastSecond,
      spoiled.subarray(3),
      steps.second.subarray(3),
    );
    await expect(last).rejects.toEqual(expect.objectContaining({ code: 'SCALE_NOT_FINITE' }));
    await send(24, 48);
    native.finishUpload(handle);
    const x = drawActivations({ name: 'pieces', m: 1, k: weight.k, activations: 'plain' });
    const y = new Float32Array(await native.linear(handle, x, false));
    expect(firstDifference(int4PlainMM(x, new CoalescedInt4Tensor(weight.parts())), y, weight.n)).toBeNull();
    await native.release(handle);
    await native.release(device);
  });

  test('the benchmark’s baseline has the default form only', async (context) => {
    const native = await loadAddonOnHost(context);
    const { handle: device } = await native.openDevice(0);
    const weight = draw(FORMS[0]!);
    const refusal = refusalOf(() => native.beginUpload(device, describeParts(weight.parts()), false, true));
    expect(codeOfRefusal(refusal)).toBe('FORM_UNSUPPORTED');
    await native.release(device);
  });
});

// Every rule of the native border, in the C++ that every upload passes: each case breaks one rule of a passing control.

import * as fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { defaultParts } from '../../core/coalesced_parts.js';
import { DEFAULT_FORM } from '../../core/forms.js';
import { COALESCED_LAYOUT, CoalescedInt4Tensor, drawWeight, type ErrorCode, SamebitsError } from '../../core/index.js';
import { type ScaleLayout, validateParts } from '../../core/validate.js';
import { weightExponent } from '../../core/weight_exponent.js';
import type { NativeAddon, NativeWeightDescription } from '../../node/cuda_addon.js';
import { codeOfRefusal as codeOf, loadAddonOnHost as load, refusalOf } from '../native/border_calls.js';

const N = 6;
const K = 128;
const N_GROUPS = 4;

interface Control {
  description: NativeWeightDescription;
  scale: Uint16Array;
  zeroPoint: Uint16Array;
}

function control(n = N, k = K, groupSize = K / N_GROUPS): Control {
  const nGroups = k / groupSize;
  const operand = { dtype: 'bf16', shape: [n, nGroups], sizeBytes: n * nGroups * 2 };
  return {
    description: {
      layout: COALESCED_LAYOUT,
      groupSize,
      qdata: { dtype: 'u8', shape: [n, k / 2], sizeBytes: (n * k) / 2 },
      scale: operand,
      zeroPoint: operand,
    },
    scale: new Uint16Array(n * nGroups).fill(0x3c00),
    zeroPoint: new Uint16Array(n * nGroups).fill(0x4100),
  };
}

type Name = 'qdata' | 'scale' | 'zeroPoint';

/** The control with other words for one operand. */
const operand = (name: Name, change: Partial<NativeWeightDescription['qdata']>) => () => {
  const passing = control();
  const changed = { ...passing.description[name], ...change };
  return { ...passing, description: { ...passing.description, [name]: changed } };
};

const described = (change: Partial<NativeWeightDescription>) => () => {
  const passing = control();
  return { ...passing, description: { ...passing.description, ...change } };
};

/** The control with one element of scale or zeroPoint replaced, the last one. */
const element = (name: 'scale' | 'zeroPoint', bits: number) => () => {
  const passing = control();
  passing[name][N * N_GROUPS - 1] = bits;
  return passing;
};

type BorderCode = Extract<
  ErrorCode,
  | 'LAYOUT_NATIVE_SCALE'
  | 'LAYOUT_WRONG_TYPE'
  | 'DTYPE_MISMATCH'
  | 'SHAPE_MISMATCH'
  | 'BYTE_LENGTH_MISMATCH'
  | 'N_UNSUPPORTED'
  | 'K_UNSUPPORTED'
  | 'GROUP_SIZE_UNSUPPORTED'
  | 'SCALE_NOT_FINITE'
  | 'ZERO_POINT_NOT_FINITE'
  | 'ZERO_POINT_OUT_OF_RANGE'
  | 'WEIGHT_EXPONENT_OUT_OF_RANGE'
  | 'ARGUMENT_INVALID'
>;

const native = { shape: [N_GROUPS, N] };

const CASES: Record<BorderCode, Record<string, () => Control>> = {
  LAYOUT_NATIVE_SCALE: {
    'scale [nGroups, N]': operand('scale', native),
    'zeroPoint [nGroups, N]': operand('zeroPoint', native),
  },
  LAYOUT_WRONG_TYPE: {
    'the native tag': described({ layout: 'native-int4' }),
    'no tag': described({ layout: '' }),
    'a longer tag': described({ layout: `${COALESCED_LAYOUT}-2` }),
    // N = nGroups: no shape can tell the layouts apart.
    'a square weight with the native tag': () => {
      const square = control(32, 1024, 32);
      return { ...square, description: { ...square.description, layout: 'native-int4' } };
    },
  },
  DTYPE_MISMATCH: {
    'qdata i8': operand('qdata', { dtype: 'i8' }),
    'scale f16': operand('scale', { dtype: 'f16' }),
    'zeroPoint i32': operand('zeroPoint', { dtype: 'i32' }),
    'a dtype of 1000 letters': operand('scale', { dtype: 'b'.repeat(1000) }),
  },
  SHAPE_MISMATCH: {
    'qdata of rank 3': operand('qdata', { shape: [1, N, K / 2] }),
    'qdata of rank 0': operand('qdata', { shape: [] }),
    'one group too many': operand('scale', { shape: [N, N_GROUPS + 1] }),
    'one row too few': operand('zeroPoint', { shape: [N - 1, N_GROUPS] }),
    'negative rows': operand('scale', { shape: [-N, -N_GROUPS] }),
  },
  BYTE_LENGTH_MISMATCH: {
    'qdata a byte short': operand('qdata', { sizeBytes: (N * K) / 2 - 1 }),
    'qdata a byte long': operand('qdata', { sizeBytes: (N * K) / 2 + 1 }),
    'scale detached': operand('scale', { sizeBytes: 0 }),
    'zeroPoint in bytes of f32': operand('zeroPoint', { sizeBytes: N * N_GROUPS * 4 }),
    'a size that wraps in 32 bits': operand('scale', { sizeBytes: 2 ** 32 + N * N_GROUPS * 2 }),
    'an array that is not what was described': () => ({ ...control(), scale: new Uint16Array(3) }),
  },
  N_UNSUPPORTED: {
    'no rows': operand('qdata', { shape: [0, K / 2] }),
    'negative rows': operand('qdata', { shape: [-1, K / 2] }),
    'a row more than the most': operand('qdata', { shape: [2 ** 24 + 1, K / 2] }),
    'rows that wrap in 32 bits': operand('qdata', { shape: [2 ** 32 + N, K / 2] }),
  },
  K_UNSUPPORTED: {
    'no columns': operand('qdata', { shape: [N, 0] }),
    'half a block': operand('qdata', { shape: [N, 8] }),
    'a block and a half': operand('qdata', { shape: [N, 24] }),
    'a block more than the most': operand('qdata', { shape: [N, 32752 + 16] }),
    'columns whose product with rows wraps in 64 bits': operand('qdata', { shape: [N, 2 ** 52] }),
  },
  GROUP_SIZE_UNSUPPORTED: {
    zero: described({ groupSize: 0 }),
    negative: described({ groupSize: -32 }),
    8: described({ groupSize: 8 }),
    48: described({ groupSize: 48 }),
    'larger than K': described({ groupSize: 256 }),
    'a power of two beyond 32 bits': described({ groupSize: 2 ** 37 }),
  },
  SCALE_NOT_FINITE: {
    infinity: element('scale', 0x7f80),
    '-infinity': element('scale', 0xff80),
    NaN: element('scale', 0x7fc1),
  },
  ZERO_POINT_NOT_FINITE: { infinity: element('zeroPoint', 0x7f80), NaN: element('zeroPoint', 0xffff) },
  ZERO_POINT_OUT_OF_RANGE: {
    'the next above 65536': element('zeroPoint', 0x4781),
    'and below': element('zeroPoint', 0xc781),
  },
  WEIGHT_EXPONENT_OUT_OF_RANGE: {
    'scales around 2^127': element('scale', 0x7f00),
    'only scales around 2^-120': () => ({ ...control(), scale: new Uint16Array(N * N_GROUPS).fill(0x0380) }),
  },
  ARGUMENT_INVALID: {
    'a shape that is no array': operand('scale', { shape: 24 as unknown as number[] }),
    'half a row': operand('qdata', { shape: [N + 0.5, K / 2] }),
    'NaN columns': operand('qdata', { shape: [N, Number.NaN] }),
    'a size that is no number': operand('qdata', { sizeBytes: '384' as unknown as number }),
    'no operand': described({ scale: undefined as unknown as NativeWeightDescription['scale'] }),
    'f32 scales': () => ({ ...control(), scale: new Float32Array(N * N_GROUPS) as unknown as Uint16Array }),
  },
};

function exponentOf(scale: Uint16Array, zeroPoint: Uint16Array): number {
  return weightExponent(DEFAULT_FORM, { groupSize: 32 }, { scale, second: zeroPoint, steps: null });
}

describe('validateWeight', () => {
  test('the control passes', async (context) => {
    const { description, scale, zeroPoint } = control();
    const native = await load(context);
    expect(native.validateWeight(description, scale, zeroPoint)).toEqual({
      n: N,
      k: K,
      groupSize: 32,
      nGroups: N_GROUPS,
      weightExponent: exponentOf(scale, zeroPoint),
    });
  });

  test.for(
    Object.entries(CASES).flatMap(([code, cases]) =>
      Object.entries(cases).map(([what, make]) => [code, what, make] as const),
    ),
  )('%s: %s', async ([code, , make], context) => {
    const native = await load(context);
    const { description, scale, zeroPoint } = make();
    const refusal = refusalOf(() => native.validateWeight(description, scale, zeroPoint));
    expect(refusal).toBeInstanceOf(SamebitsError);
    expect(refusal).toMatchObject({ code, rule: expect.stringMatching(/./), fix: expect.stringMatching(/\.$/) });
  });

  test('a native scale names the shapes and the way out', async (context) => {
    const native = await load(context);
    const { description, scale, zeroPoint } = operand('scale', { shape: [N_GROUPS, N] })();
    expect(refusalOf(() => native.validateWeight(description, scale, zeroPoint))).toMatchObject({
      rule: 'scale must be bf16[N, K/groupSize]',
      expected: `[${N}, ${N_GROUPS}]`,
      got: `[${N_GROUPS}, ${N}], torchao's native layout`,
      fix: expect.stringContaining('samebits convert'),
    });
  });

  test('E_w is the reference’s for every kind of weight', async (context) => {
    const native = await load(context);
    for (const weights of [
      'plain',
      'real-zero',
      'signed',
      'wide',
      'far-zero',
      'smallest',
      'largest',
      'zero',
    ] as const) {
      const tensor = CoalescedInt4Tensor.fromInt4Tensor(
        drawWeight({ name: weights, n: 9, k: 256, groupSize: 16, weights }),
      );
      const { description } = control(9, 256, 16);
      const { scale, zeroPoint } = defaultParts(tensor, 'this test');
      const { weightExponent } = native.validateWeight(description, scale.data, zeroPoint.data);
      expect([weights, weightExponent]).toEqual([weights, tensor.weightExponent]);
    }
  });

  test('refuses and accepts exactly what the TypeScript border does', async (context) => {
    const native = await load(context);
    const dimension = fc.oneof(
      fc.integer({ min: -2, max: 40 }),
      fc.constantFrom(16, 32, 48, 64, 32752, 2 ** 24, 2 ** 40),
    );
    const groupSize = fc.constantFrom(0, 8, 16, 32, 48, 64, 128);
    const shape = fc.tuple(dimension, dimension);
    const values = fc.constantFrom(0x0000, 0x0001, 0x3c00, 0x4780, 0x4781, 0x7f00, 0x7f80, 0x8000, 0xffc0);
    fc.assert(
      fc.property(
        shape,
        groupSize,
        fc.option(shape),
        fc.boolean(),
        values,
        values,
        (rows, size, other, short, s, z) => {
          const [n, halfK] = rows;
          const own = size > 0 ? [n, (halfK * 2) / size] : [n, 1];
          const scaleShape = (other ?? own).map((length) => Math.floor(length));
          const count = Math.max(0, Math.min(4096, scaleShape[0]! * scaleShape[1]!));
          const scale = new Uint16Array(count).fill(s);
          const zeroPoint = new Uint16Array(count).fill(z);
          const qdata = new Uint8Array(Math.max(0, Math.min(2 ** 20, n * halfK - (short ? 1 : 0))));
          const parts = {
            layout: COALESCED_LAYOUT as typeof COALESCED_LAYOUT,
            groupSize: size,
            qdata: { dtype: 'u8' as const, shape: rows, data: qdata },
            scale: { dtype: 'bf16' as const, shape: scaleShape, data: scale },
            zeroPoint: { dtype: 'bf16' as const, shape: scaleShape, data: zeroPoint },
          };
          const layout: ScaleLayout = 'coalesced';
          const expected = refusalOf(() => {
            validateParts(parts, layout);
            exponentOf(scale, zeroPoint);
          });
          const sized = ({ dtype, shape, data }: (typeof parts)['qdata'] | (typeof parts)['scale']) => ({
            dtype,
            shape,
            sizeBytes: data.byteLength,
          });
          const description = {
            layout: parts.layout,
            groupSize: size,
            qdata: sized(parts.qdata),
            scale: sized(parts.scale),
            zeroPoint: sized(parts.zeroPoint),
          };
          const actual = refusalOf(() => native.validateWeight(description, scale, zeroPoint));
          expect(codeOf(actual)).toBe(codeOf(expected));
        },
      ),
      { numRuns: 3000, seed: 4 },
    );
  });
});

describe('handles', () => {
  async function begin(native: NativeAddon) {
    const device = await native.openDevice(0);
    const { description, scale, zeroPoint } = control();
    const { handle } = await native.beginUpload(device.handle, description, false);
    return { device: device.handle, handle, scale, zeroPoint, qdata: new Uint8Array((N * K) / 2) };
  }

  const code = (expected: ErrorCode) => expect.objectContaining({ code: expected });

  test('an upload takes exactly its bytes, and is used only when it has them', async (context) => {
    const native = await load(context);
    const { handle, qdata, scale, zeroPoint } = await begin(native);
    expect(refusalOf(() => native.finishUpload(handle))).toEqual(code('BYTE_LENGTH_MISMATCH'));
    expect(refusalOf(() => native.linear(handle, new Uint16Array(K), false))).toEqual(code('BYTE_LENGTH_MISMATCH'));
    // Pieces are whole blocks of 16 bytes.
    await expect(native.appendQdata(handle, qdata.subarray(1))).rejects.toEqual(code('BYTE_LENGTH_MISMATCH'));
    await native.appendQdata(handle, qdata.subarray(16));
    await expect(native.appendQdata(handle, qdata.subarray(0, 32))).rejects.toEqual(code('BYTE_LENGTH_MISMATCH'));
    await native.appendQdata(handle, qdata.subarray(0, 16));
    await expect(native.appendScales(handle, scale, zeroPoint.subarray(1))).rejects.toEqual(
      code('BYTE_LENGTH_MISMATCH'),
    );
    scale[2] = 0x7f80;
    await expect(native.appendScales(handle, scale, zeroPoint)).rejects.toEqual(code('SCALE_NOT_FINITE'));
    scale[2] = 0;
    await native.appendScales(handle, scale, zeroPoint);
    native.finishUpload(handle);
    expect(refusalOf(() => native.linear(handle, new Uint16Array(K + 1), false))).toEqual(
      code('INPUT_LENGTH_MISMATCH'),
    );
    const tooMany = new Uint16Array(65_536 * K);
    expect(refusalOf(() => native.linear(handle, tooMany, false))).toEqual(code('M_UNSUPPORTED'));
    expect((await native.linear(handle, new Uint16Array(2 * K), true)).byteLength).toBe(2 * N * 2);
  });

  test('a coalesced upload refuses the native tag, and the other way round', async (context) => {
    const native = await load(context);
    const { device } = await begin(native);
    const { description } = control();
    expect(refusalOf(() => native.beginUpload(device, description, true))).toEqual(code('LAYOUT_WRONG_TYPE'));
    const before = { ...description, layout: 'native-int4' };
    expect(refusalOf(() => native.beginUpload(device, before, false))).toEqual(code('LAYOUT_WRONG_TYPE'));
    expect(refusalOf(() => native.beginUpload(device, before, true))).toEqual(code('SHAPE_MISMATCH'));
  });

  test('only live handles of the right kind are taken', async (context) => {
    const native = await load(context);
    const { device, handle } = await begin(native);
    const look = {} as unknown as typeof handle;
    expect(refusalOf(() => native.finishUpload(look))).toEqual(code('ARGUMENT_INVALID'));
    expect(refusalOf(() => native.finishUpload(device as unknown as typeof handle))).toEqual(code('ARGUMENT_INVALID'));
    expect(refusalOf(() => native.release(look))).toEqual(code('ARGUMENT_INVALID'));
    await native.release(handle);
    await native.release(handle);
    expect(refusalOf(() => native.finishUpload(handle))).toEqual(code('DISPOSED'));
    expect(refusalOf(() => native.createBuffer(device, -1))).toEqual(code('ARGUMENT_INVALID'));
    expect(refusalOf(() => native.openDevice(0.5))).toEqual(code('ARGUMENT_INVALID'));
    await expect(native.openDevice(1)).rejects.toEqual(code('BACKEND_UNAVAILABLE'));
  });
});

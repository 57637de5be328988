// Every rule of the core border: each case breaks exactly one rule of a control that passes, and names its code.

import { describe, expect, test } from 'vitest';
import { defaultParts } from '../../core/coalesced_parts.js';
import {
  CoalescedInt4Tensor,
  CpuBackend,
  type ErrorCode,
  Int4Tensor,
  linear,
  MAX_M,
  quantizeInt4,
  SamebitsError,
} from '../../core/index.js';

const N = 6;
const K = 128;
const GROUP_SIZE = 32;
const N_GROUPS = 4;

/** A passing control, coalesced, whose operands a case may change. */
function control() {
  return {
    layout: 'coalesced-int4' as const,
    groupSize: GROUP_SIZE,
    qdata: { dtype: 'u8' as const, shape: [N, K / 2], data: new Uint8Array((N * K) / 2) },
    scale: { dtype: 'bf16' as const, shape: [N, N_GROUPS], data: new Uint16Array(N * N_GROUPS).fill(0x3c00) },
    zeroPoint: { dtype: 'bf16' as const, shape: [N, N_GROUPS], data: new Uint16Array(N * N_GROUPS).fill(0x4100) },
  };
}

type Parts = ReturnType<typeof control>;
const native = [N_GROUPS, N];

/** Codes that the core raises with any engine, device and file; those have tests of their own. */
type CoreCode = Exclude<
  ErrorCode,
  | `FILE_${string}`
  | `MODEL_${string}`
  | `DEVICE_${string}`
  | 'CONTEXT_FULL'
  | 'SESSION_BUSY'
  | 'BACKEND_UNAVAILABLE'
  | 'WEBASSEMBLY_UNAVAILABLE'
  | 'ARGUMENT_INVALID'
>;

const CASES: Record<CoreCode, () => unknown> = {
  LAYOUT_NATIVE_SCALE: () => construct((parts) => ({ ...parts, scale: { ...parts.scale, shape: native } })),
  LAYOUT_WRONG_TYPE: () => construct((parts) => ({ ...parts, layout: 'native-int4' as 'coalesced-int4' })),
  DTYPE_MISMATCH: () => construct((parts) => ({ ...parts, scale: { ...parts.scale, dtype: 'f16' as 'bf16' } })),
  SHAPE_MISMATCH: () => construct((parts) => ({ ...parts, scale: { ...parts.scale, shape: [N, N_GROUPS + 1] } })),
  BYTE_LENGTH_MISMATCH: () =>
    construct((parts) => ({ ...parts, qdata: { ...parts.qdata, data: parts.qdata.data.subarray(1) } })),
  N_UNSUPPORTED: () => construct((parts) => ({ ...parts, qdata: { ...parts.qdata, shape: [0, K / 2] } })),
  K_UNSUPPORTED: () => construct((parts) => ({ ...parts, qdata: { ...parts.qdata, shape: [N, K / 2 + 1] } })),
  GROUP_SIZE_UNSUPPORTED: () => construct((parts) => ({ ...parts, groupSize: 48 })),
  FORM_UNKNOWN: () => construct((parts) => ({ ...parts, form: 'affine' as 'zero' })),
  FORM_UNSUPPORTED: () => defaultParts(new CoalescedInt4Tensor(offsetParts(0x3c00)), 'this test'),
  SCALE_NOT_FINITE: () => construct((parts) => withElement(parts, 'scale', 0x7f80)),
  ZERO_POINT_NOT_FINITE: () => construct((parts) => withElement(parts, 'zeroPoint', 0xffc0)),
  ZERO_POINT_OUT_OF_RANGE: () => construct((parts) => withElement(parts, 'zeroPoint', 0x4781)),
  OFFSET_NOT_FINITE: () => new CoalescedInt4Tensor(offsetParts(0x7c00)),
  WEIGHT_EXPONENT_OUT_OF_RANGE: () => construct((parts) => withElement(parts, 'scale', 0x7f00)),
  WEIGHT_NOT_FINITE: () => quantizeInt4(new Float32Array(32).fill(Number.NaN), { n: 1, k: 32, groupSize: 32 }),
  M_UNSUPPORTED: () =>
    linear(
      new Uint16Array((MAX_M + 1) * K),
      construct((parts) => parts),
    ),
  INPUT_LENGTH_MISMATCH: () =>
    linear(
      new Uint16Array(K + 1),
      construct((parts) => parts),
    ),
  HOST_OUT_OF_MEMORY: () => {
    const n = 2 ** 20;
    const scale = { dtype: 'bf16' as const, shape: [n, 1], data: new Uint16Array(n) };
    const qdata = { dtype: 'u8' as const, shape: [n, 16], data: new Uint8Array(n * 16) };
    const tall = new CoalescedInt4Tensor({ ...control(), qdata, scale, zeroPoint: scale });
    return linear(new Uint16Array(MAX_M * 32), tall);
  },
  DISPOSED: async () => {
    const backend = new CpuBackend();
    const weight = await backend.upload(construct((parts) => parts));
    weight.dispose();
    await backend.linear(new Uint16Array(K), weight);
  },
  BACKEND_MISMATCH: async () => {
    const weight = await new CpuBackend().upload(construct((parts) => parts));
    await new CpuBackend().linear(new Uint16Array(K), weight);
  },
};

/** The control with an offset in f16 in the place of a zero point. */
function offsetParts(bits: number) {
  const { layout, groupSize, qdata } = control();
  const shape = [N, N_GROUPS];
  const ofGroups = (value: number) => ({
    dtype: 'f16' as const,
    shape,
    data: new Uint16Array(N * N_GROUPS).fill(value),
  });
  return {
    layout,
    groupSize,
    qdata,
    form: 'offset',
    center: 0,
    scale: ofGroups(0x2000),
    offset: ofGroups(bits),
  } as const;
}

function construct(change: (parts: Parts) => Parts): CoalescedInt4Tensor {
  return new CoalescedInt4Tensor(change(control()));
}

function withElement(parts: Parts, name: 'scale' | 'zeroPoint', bits: number): Parts {
  const data = parts[name].data.slice();
  data[7] = bits;
  return { ...parts, [name]: { ...parts[name], data } };
}

test('the control passes', () => {
  expect(construct((parts) => parts)).toMatchObject({ n: N, k: K, groupSize: GROUP_SIZE, nGroups: N_GROUPS });
});

describe('each broken rule has its code, and says the rule, what was expected, what came and the fix', () => {
  test.each(Object.entries(CASES))('%s', async (code, breakRule) => {
    const error = await caught(breakRule);
    expect(error).toBeInstanceOf(SamebitsError);
    expect(error).toMatchObject({ code });
    const { rule, expected, got, fix, message } = error as SamebitsError;
    for (const part of [code, rule, expected, got, fix]) expect(message).toContain(part);
  });
});

describe('limits, from both sides', () => {
  const shaped = (n: number, k: number, groupSize: number) => () =>
    quantizeInt4(new Float32Array(n * k), { n, k, groupSize });
  test.each([
    [1, 32, 16],
    [1, 32, 32],
    [1, 65_504, 32],
    [1, 65_504, 16],
    [2, 4096, 4096],
  ])('N = %i, K = %i, groupSize = %i is taken', (n, k, groupSize) => {
    expect(shaped(n, k, groupSize)()).toMatchObject({ n, k, groupSize });
  });
  test.each([
    [1, 0, 32, 'K_UNSUPPORTED'],
    [1, 48, 16, 'K_UNSUPPORTED'],
    [1, 65_536, 32, 'K_UNSUPPORTED'],
    [1, 32, 8, 'GROUP_SIZE_UNSUPPORTED'],
    [1, 32, 64, 'GROUP_SIZE_UNSUPPORTED'],
    [1, 96, 96, 'GROUP_SIZE_UNSUPPORTED'],
    [1, 32, Number.NaN, 'GROUP_SIZE_UNSUPPORTED'],
    [0.5, 64, 32, 'N_UNSUPPORTED'],
    [2 ** 24 + 1, 32, 32, 'N_UNSUPPORTED'],
  ])('N = %d, K = %i, groupSize = %d is refused: %s', async (n, k, groupSize, code) => {
    const weights = new Float32Array(0);
    expect(await caught(() => quantizeInt4(weights, { n, k, groupSize }))).toMatchObject({ code });
  });
  test('E_w = -100 and 100 are taken, one more is not', async () => {
    const withScale = (bits: number) => () =>
      construct((parts) => ({
        ...parts,
        scale: { ...parts.scale, data: new Uint16Array(N * N_GROUPS).fill(bits) },
      }));
    // zero point 8: R = 8 |s|, so s = 2^(E_w - 3)
    const scaleFor = (exponent: number) => (exponent - 3 + 127) << 7;
    expect(withScale(scaleFor(100))().weightExponent).toBe(100);
    expect(withScale(scaleFor(-100))().weightExponent).toBe(-100);
    for (const bits of [scaleFor(100) + 1, scaleFor(-101)]) {
      expect(await caught(withScale(bits))).toMatchObject({ code: 'WEIGHT_EXPONENT_OUT_OF_RANGE' });
    }
  });
  test('a zero point of 65536 is taken', () => {
    expect(construct((parts) => withElement(parts, 'zeroPoint', 0xc780)).groups.second[7]).toBe(0xc780);
  });
});

describe('the old layout, when no shape can tell: N = nGroups', () => {
  const n = 4;
  const square = () =>
    quantizeInt4(
      new Float32Array(n * K).map((_, i) => Math.sin(i)),
      { n, k: K, groupSize: 32 },
    );

  test('an Int4Tensor is never taken for a CoalescedInt4Tensor, nor the other way round', () => {
    const old = square();
    expect(old.nGroups).toBe(old.n);
    expect(CoalescedInt4Tensor.is(old)).toBe(false);
    expect(Int4Tensor.is(CoalescedInt4Tensor.fromInt4Tensor(old))).toBe(false);
  });

  test('its parts are refused without the tag, its instance with or without', async () => {
    const parts = square().parts();
    // @ts-expect-error the parts of an Int4Tensor carry no layout tag
    expect(await caught(() => new CoalescedInt4Tensor(parts))).toMatchObject({ code: 'LAYOUT_WRONG_TYPE' });
    // @ts-expect-error neither does an Int4Tensor
    expect(await caught(() => new CoalescedInt4Tensor(square()))).toMatchObject({ code: 'LAYOUT_WRONG_TYPE' });
  });

  test('upload refuses it, and so does repacking what is packed already', async () => {
    const backend = new CpuBackend();
    // @ts-expect-error an Int4Tensor is not what upload takes
    expect(await caught(() => backend.upload(square()))).toMatchObject({ code: 'LAYOUT_WRONG_TYPE' });
    const packed = CoalescedInt4Tensor.fromInt4Tensor(square());
    // @ts-expect-error nor is a CoalescedInt4Tensor what fromInt4Tensor takes
    expect(await caught(() => CoalescedInt4Tensor.fromInt4Tensor(packed))).toMatchObject({ code: 'LAYOUT_WRONG_TYPE' });
  });

  test('linear multiplies it plainly, and so differs from the product with its scales misread', () => {
    const old = square();
    const x = new Float32Array(K).fill(1);
    const misread = new CoalescedInt4Tensor({ ...old.parts(), layout: 'coalesced-int4' });
    expect(linear(x, old)).not.toEqual(linear(x, misread));
    const right = linear(x, CoalescedInt4Tensor.fromInt4Tensor(old));
    linear(x, old).forEach((y, i) => {
      expect(Math.abs(y - right[i]!)).toBeLessThan(1e-3);
    });
  });

  test('a look-alike without the class is refused', async () => {
    const lookAlike = Object.assign(Object.create(CoalescedInt4Tensor.prototype), control());
    expect(await caught(() => linear(new Float32Array(K), lookAlike))).toMatchObject({ code: 'LAYOUT_WRONG_TYPE' });
  });
});

async function caught(run: () => unknown): Promise<unknown> {
  try {
    await run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

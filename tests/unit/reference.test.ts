// The reference against small cases that can be followed by hand, and against the plain product.

import { describe, expect, test } from 'vitest';
import {
  bf16FromF32Array,
  bf16FromNumber,
  CASES,
  CoalescedInt4Tensor,
  dequantizeAndMultiply,
  drawActivations,
  drawWeight,
  int4PlainMM,
  numberFromBf16,
  outputDigest,
  Random,
} from '../../core/index.js';
import { quantizeActivations } from '../../core/reference.js';

/** One row whose weights are all (code - zeroPoint) * scale. */
function constantRow(k: number, code: number, zeroPoint: number, scale: number, groupSize = 32): CoalescedInt4Tensor {
  const shape = [1, k / groupSize];
  return new CoalescedInt4Tensor({
    layout: 'coalesced-int4',
    groupSize,
    qdata: { dtype: 'u8', shape: [1, k / 2], data: new Uint8Array(k / 2).fill(code * 17) },
    scale: { dtype: 'bf16', shape, data: new Uint16Array(k / groupSize).fill(bf16FromNumber(scale)) },
    zeroPoint: { dtype: 'bf16', shape, data: new Uint16Array(k / groupSize).fill(bf16FromNumber(zeroPoint)) },
  });
}

const bf16 = (...values: number[]) => bf16FromF32Array(Float32Array.from(values));

describe('activations', () => {
  test('127 for the largest of a block, ties to even, sign kept', () => {
    const x = bf16(127, 0.5, 1.5, -2.5, 3.5, -126.5, ...new Array<number>(26).fill(0));
    expect([...quantizeActivations(x, 32).codes.subarray(0, 6)]).toEqual([127, 0, 2, -2, 4, -126]);
  });

  test('blocks scale by themselves; E_x belongs to the row', () => {
    const x = bf16(...new Array<number>(32).fill(4), ...new Array<number>(32).fill(-0.5));
    const { codes, exponent, blockScale, runSum } = quantizeActivations(x, 16);
    expect(exponent).toBe(2);
    expect([codes[0], codes[32]]).toEqual([127, -127]);
    expect(blockScale[1]! / blockScale[0]!).toBe(1 / 8);
    expect([...runSum]).toEqual([2032, 2032, -2032, -2032]);
  });

  test('a block 2^-100 below the row stays, one further down is zero', () => {
    const at = (exponent: number) => (exponent + 127) << 7;
    const x = new Uint16Array(96);
    x[0] = at(60);
    x[32] = at(-40);
    x[64] = at(-41);
    const { codes, blockScale } = quantizeActivations(x, 32);
    expect([codes[0], codes[32], codes[64]]).toEqual([127, 127, 0]);
    expect(blockScale[2]).toBe(0);
  });

  test('subnormals count as zero, Inf and NaN make the row NaN', () => {
    expect(quantizeActivations(new Uint16Array(32).fill(0x007f), 32)).toMatchObject({ exponent: 0, isNaN: false });
    for (const bits of [0x7f80, 0xff80, 0x7fc0, 0xff81]) {
      expect(quantizeActivations(new Uint16Array(32).fill(bits), 32).isNaN).toBe(true);
    }
  });
});

describe('products', () => {
  test('a sum that is exact comes out exact', () => {
    // x = 127 everywhere: codes 127, d_b = RN32(RN32(127/64) * RN32(1/127)) (relative to 2^6)
    const y = int4PlainMM(bf16(...new Array<number>(64).fill(127)), constantRow(64, 9, 8, 0.5));
    expect(y[0]).toBeCloseTo(64 * 127 * 0.5, 2);
  });

  test('signed zeros and NaN bits are as defined', () => {
    const bitsOf = (x: Uint16Array, w: CoalescedInt4Tensor) => new Uint32Array(int4PlainMM(x, w).buffer)[0];
    expect(bitsOf(new Uint16Array(32).fill(0x8000), constantRow(32, 15, 8, 1))).toBe(0);
    const tiny = new Uint16Array(32).fill(0x0080);
    expect(bitsOf(tiny, constantRow(32, 15, 8, 2 ** -20))).toBe(0);
    expect(bitsOf(tiny, constantRow(32, 0, 8, 2 ** -20))).toBe(0x80000000);
    expect(bitsOf(new Uint16Array(32).fill(0xffff), constantRow(32, 1, 8, 1))).toBe(0x7fc00000);
    expect([...int4PlainMM(new Uint16Array(32).fill(0x7f80), constantRow(32, 1, 8, 1), 'bf16')]).toEqual([0x7fc0]);
  });

  test('splitting K across two tensors of one reach adds up: the sum is one of integers', () => {
    const x = drawActivations({ name: 'split', m: 1, k: 128, activations: 'constant' });
    const whole = int4PlainMM(x, constantRow(128, 11, 8, 0.25));
    const half = int4PlainMM(x.subarray(0, 64), constantRow(64, 11, 8, 0.25));
    expect(whole[0]).toBe(2 * half[0]!);
  });

  test('rows are independent of each other', () => {
    const weight = CoalescedInt4Tensor.fromInt4Tensor(
      drawWeight({ name: 'rows', n: 9, k: 256, groupSize: 16, weights: 'real-zero' }),
    );
    const x = drawActivations({ name: 'rows', m: 5, k: 256, activations: 'outlier' });
    const together = int4PlainMM(x, weight);
    for (let m = 0; m < 5; m++) {
      expect(int4PlainMM(x.subarray(m * 256, (m + 1) * 256), weight)).toEqual(together.subarray(m * 9, (m + 1) * 9));
    }
  });

  test('only the int8 activation is lost: within 1.5 % of the plain product in the norm', () => {
    const weight = CoalescedInt4Tensor.fromInt4Tensor(
      drawWeight({ name: 'accuracy', n: 64, k: 2048, groupSize: 32, weights: 'symmetric' }),
    );
    const x = drawActivations({ name: 'accuracy', m: 1, k: 2048, activations: 'plain' });
    const exact = dequantizeAndMultiply(Float32Array.from(x, numberFromBf16), weight);
    const y = int4PlainMM(x, weight);
    const norm = (values: Float32Array) => Math.hypot(...values);
    expect(norm(y.map((v, i) => v - exact[i]!)) / norm(exact)).toBeLessThan(0.015);
  });
});

describe('the case table', () => {
  test('names are unique, and a case is drawn from its name alone', () => {
    expect(new Set(CASES.map(({ name }) => name)).size).toBe(CASES.length);
    const [first] = CASES;
    expect(drawActivations(first!)).toEqual(drawActivations(first!));
    expect(drawWeight(first!)).toEqual(drawWeight(first!));
  });

  test('the generator draws the published sequence of sfc32 for its seed', () => {
    const draws = Array.from(
      { length: 3 },
      (
        (random) => () =>
          random.u32()
      )(new Random(1)),
    );
    expect(draws).toEqual(sfc32(1, 0, 0x9e3779b9, 3));
  });

  test.each(CASES.filter(({ k }) => k <= 1024))('$name: finite, infinite or NaN where it should be', (parityCase) => {
    const y = int4PlainMM(drawActivations(parityCase), CoalescedInt4Tensor.fromInt4Tensor(drawWeight(parityCase)));
    const { n, m, activations } = parityCase;
    const lastRow = y.subarray((m - 1) * n);
    const isPoisoned = activations === 'nan-row' || activations === 'inf-row';
    expect(lastRow.every(Number.isNaN)).toBe(isPoisoned);
    expect(y.subarray(0, (m - 1) * n).some(Number.isNaN)).toBe(false);
    expect(
      outputDigest(
        y,
        int4PlainMM(drawActivations(parityCase), CoalescedInt4Tensor.fromInt4Tensor(drawWeight(parityCase)), 'bf16'),
      ),
    ).toMatch(/^[0-9a-f]{64}$/);
  });
});

/** sfc32 in BigInt, after the published recurrence. */
function sfc32(seedA: number, seedB: number, seedC: number, count: number): number[] {
  const mask = 0xffffffffn;
  let [a, b, c, counter] = [BigInt(seedA), BigInt(seedB), BigInt(seedC), 1n];
  const draws: number[] = [];
  for (let i = 0; i < 15 + count; i++) {
    const sum = (a + b + counter) & mask;
    counter += 1n;
    a = b ^ (b >> 9n);
    b = (c + (c << 3n)) & mask;
    c = ((((c << 21n) | (c >> 11n)) & mask) + sum) & mask;
    if (i >= 15) draws.push(Number(sum));
  }
  return draws;
}

// Min/max quantization: what the codes, scales and zero points of a group must be.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { bf16FromF32Array, bf16FromNumber, dequantize, numberFromBf16, quantizeInt4 } from '../../core/index.js';

describe('one group, by hand', () => {
  const ramp = Float32Array.from({ length: 32 }, (_, i) => (i % 16) * 0.5 - 2);

  test('asymmetric: 15 steps from -2 to 5.5, integer zero point, even k in the low nibble', () => {
    const { scale, zeroPoint, qdata } = quantizeInt4(ramp, { n: 1, k: 32, groupSize: 32 });
    expect(numberFromBf16(scale[0]!)).toBe(0.5);
    expect(numberFromBf16(zeroPoint[0]!)).toBe(4);
    expect([...qdata.subarray(0, 8)]).toEqual([0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe]);
    expect(dequantize(quantizeInt4(ramp, { n: 1, k: 32, groupSize: 32 }))).toEqual(ramp);
  });

  test('symmetric: zero point 8, 7.5 steps to the largest magnitude', () => {
    const { scale, zeroPoint } = quantizeInt4(ramp, { n: 1, k: 32, groupSize: 16, symmetric: true });
    expect([...zeroPoint]).toEqual([0x4100, 0x4100]);
    expect(numberFromBf16(scale[0]!)).toBe(numberFromBf16(bf16FromNumber(5.5 / 7.5)));
  });

  test('a group of zeros, and one too small for bf16, dequantizes to zeros', () => {
    for (const value of [0, 1e-42]) {
      const tensor = quantizeInt4(new Float32Array(32).fill(value), { n: 1, k: 32, groupSize: 32 });
      expect(dequantize(tensor)).toEqual(new Float32Array(32));
    }
  });

  test('scale and zeroPoint lie in [nGroups, N]', () => {
    const weights = new Float32Array(2 * 64);
    weights.set([15], 0); // row 0, group 0
    weights.set([30], 64 + 32); // row 1, group 1
    const { scale } = quantizeInt4(weights, { n: 2, k: 64, groupSize: 32 });
    expect([...scale].map(numberFromBf16)).toEqual([1, 0, 0, 2]);
  });
});

test.each([false, true])('no weight moves by more than half a step and its bf16 slack (symmetric: %s)', (symmetric) => {
  const finite = fc.float({ noNaN: true, noDefaultInfinity: true, min: Math.fround(-1e30), max: Math.fround(1e30) });
  fc.assert(
    fc.property(
      fc.array(finite, { minLength: 64, maxLength: 64 }),
      fc.constantFrom(16, 32, 64),
      (values, groupSize) => {
        const weights = Float32Array.from(values);
        const tensor = quantizeInt4(weights, { n: 1, k: 64, groupSize, symmetric });
        const restored = dequantize(tensor);
        for (let i = 0; i < 64; i++) {
          const s = numberFromBf16(tensor.scale[Math.floor(i / groupSize)]!);
          // bf16 moves the step by 2^-9 of itself: 15 steps by at most 0.03 of one, and a group below bf16 is zero.
          const bound = s === 0 ? 15 * 2 ** -126 : 0.54 * s;
          expect(Math.abs(restored[i]! - weights[i]!)).toBeLessThanOrEqual(bound);
        }
      },
    ),
  );
});

test('bf16 weights and the same in f32 give the same tensor', () => {
  const values = Float32Array.from({ length: 4 * 96 }, (_, i) => numberFromBf16(bf16FromNumber(Math.cos(i * i))));
  const options = { n: 4, k: 96, groupSize: 32 };
  expect(quantizeInt4(bf16FromF32Array(values), options)).toEqual(quantizeInt4(values, options));
});

// The elementary functions of DECODER.md within the errors that it states, and the rotary tables against exact arithmetic.

import { describe, expect, test } from 'vitest';
import { add, bitsFromFloat, exp, floatFromBits, mul, rcp, rsqrt, treeSum } from '../../core/model/elementary.js';
import { rotaryFrequencies, rotaryTable } from '../../core/model/rotary.js';

/** The largest relative error of `actual` over `inputs`. */
function worstError(inputs: Iterable<number>, actual: (x: number) => number, exact: (x: number) => number): number {
  let worst = 0;
  for (const x of inputs) {
    const error = Math.abs(actual(x) / exact(x) - 1);
    if (!(error <= worst)) worst = error;
  }
  return worst;
}

/** Positive f32: for each exponent, significands `stride` apart, and the largest. */
function* floats(exponents: readonly number[], stride: number): Generator<number> {
  for (const exponent of exponents) {
    for (let m = 0; m < 1 << 23; m += stride) yield floatFromBits(((exponent + 127) << 23) | m);
    yield floatFromBits(((exponent + 127) << 23) | 0x7fffff);
  }
}

const range = (first: number, last: number) => Array.from({ length: last - first + 1 }, (_, i) => first + i);

/** Not far below the error that is stated: the inputs reach it. */
const expectStated = (worst: number, stated: number) => {
  expect(worst).toBeLessThan(stated);
  expect(worst).toBeGreaterThan(stated * 0.9);
};

describe('errors as stated', () => {
  test('rcp: 9e-8', () => {
    expectStated(
      worstError(floats([0], 13), rcp, (x) => 1 / x),
      9e-8,
    );
    expect(worstError(floats(range(-60, 60), 8191), rcp, (x) => 1 / x)).toBeLessThan(9e-8);
  });

  test('rsqrt: 1.1e-7', () => {
    expectStated(
      worstError(floats([0, 1], 13), rsqrt, (x) => 1 / Math.sqrt(x)),
      1.1e-7,
    );
    expect(worstError(floats(range(-126, 126), 8191), rsqrt, (x) => 1 / Math.sqrt(x))).toBeLessThan(1.1e-7);
  });

  test('exp: 2.5e-7', () => {
    const linear = (function* () {
      for (let i = 0; i <= 1 << 20; i++) yield Math.fround(-87 + (i * 167) / 2 ** 20 + 2 ** -17);
    })();
    expectStated(worstError(linear, exp, Math.exp), 2.5e-7);
    const small = [...floats(range(-40, 5), 65521)].flatMap((x) => [x, -x]);
    expect(worstError(small, exp, Math.exp)).toBeLessThan(2.5e-7);
    expect(exp(0)).toBe(1);
    for (const x of [-87, -88, -1e30, Number.NEGATIVE_INFINITY, Number.NaN]) expect(exp(x)).toBe(0);
    expect(exp(floatFromBits(bitsFromFloat(-87) - 1))).toBeGreaterThan(0);
  });

  test('a sum by halves has one order', () => {
    const slots = Float32Array.of(1, 2 ** -24, 2 ** -24, 2 ** -24);
    expect(treeSum(slots)).toBe(add(add(1, 2 ** -24), add(2 ** -24, 2 ** -24)));
    expect(mul(1 + 2 ** -23, 1 + 2 ** -23)).toBe(1 + 2 ** -22);
  });
});

const layer = {
  attention: 'full',
  heads: 1,
  keyValueHeads: 1,
  hasValueProjection: true,
  window: null,
} as const;

/** [theta, head size, real frequencies] of the small model and of the large ones. */
const ROTARY: [number, number, number][] = [
  [1e4, 64, 32],
  [1e4, 256, 128],
  [1e6, 128, 16],
  [1e6, 512, 64],
];

describe('rotary tables', () => {
  test.each(ROTARY)('theta %d, head size %d: frequencies are the nearest f32', (theta, headSize, real) => {
    const half = headSize / 2;
    const found = rotaryFrequencies({ ...layer, headSize, rotaryTheta: theta, rotaryFrequencies: real });
    expect(found).toHaveLength(half);
    expect(found[0]).toBe(1);
    for (let i = 1; i < half; i++) {
      if (i >= real) {
        expect(found[i]).toBe(0);
        continue;
      }
      // f = theta^(-i / half) lies within half a unit of its last place, because f^half * theta^i = 1 lies between its bounds'.
      const bits = bitsFromFloat(found[i]!);
      const twice = 2n * BigInt((bits & 0x7fffff) | 0x800000);
      const shift = BigInt(1 + 23 + 127 - (bits >>> 23)) * BigInt(half);
      const isBelowOne = (bound: bigint) => bound ** BigInt(half) * BigInt(theta) ** BigInt(i) < 1n << shift;
      expect([isBelowOne(twice - 1n), isBelowOne(twice + 1n)]).toEqual([true, false]);
    }
  });

  test.each(ROTARY)('theta %d, head size %d: cosines and sines are the nearest f32', (theta, headSize, real) => {
    const frequencies = rotaryFrequencies({ ...layer, headSize, rotaryTheta: theta, rotaryFrequencies: real });
    const positions = [0, 1, 2, 3, 127, 128, 255, 1023, 8191, 65_537, 131_071, 262_143];
    for (const position of positions) {
      const { cos, sin } = rotaryTable(frequencies, position);
      for (let i = 0; i < headSize / 2; i += i < 8 ? 1 : 7) {
        const [exactCos, exactSin] = exactCosSin(Math.fround(frequencies[i]! * position));
        expect([cos[i], sin[i]], `position ${position}, ${i}`).toEqual([Math.fround(exactCos), Math.fround(exactSin)]);
      }
    }
  });

  test('the computation that they are compared with knows a few angles', () => {
    expect(exactCosSin(0)).toEqual([1, 0]);
    const [cos, sin] = exactCosSin(Math.PI / 6);
    expect(Math.abs(cos - Math.sqrt(0.75))).toBeLessThan(2e-16);
    expect(Math.abs(sin - 0.5)).toBeLessThan(2e-16);
  });
});

const FRACTION = 256n;
const ONE = 1n << FRACTION;
const HALVINGS = 40n;

/** e^ix = (e^(ix / 2^40))^(2^40) in integers of 2^-256, without pi: every squaring costs a bit or two of some 250. */
function exactCosSin(x: number): readonly [number, number] {
  const angle = (BigInt(x * 2 ** 60) << (FRACTION - 60n)) >> HALVINGS;
  let [re, im] = [0n, 0n];
  let term: readonly [bigint, bigint] = [ONE, 0n];
  for (let n = 1n; term[0] !== 0n || term[1] !== 0n; n++) {
    re += term[0];
    im += term[1];
    // times i angle / n; division by integers goes towards 0, so that terms end.
    term = [-(term[1] * angle) / ONE / n, (term[0] * angle) / ONE / n];
  }
  for (let i = 0n; i < HALVINGS; i++) [re, im] = [(re * re - im * im) / ONE, (2n * re * im) / ONE];
  return [Number(re / (ONE >> 100n)) / 2 ** 100, Number(im / (ONE >> 100n)) / 2 ** 100];
}

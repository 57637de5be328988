// What WebGPU reads of a weight's groups: the words of every form, whole and in pieces, of all rows and of a slice.

import { describe, expect, test } from 'vitest';
import { describeForm, drawFormWeight, drawWeight, FORM_CASES, type WeightForm } from '../../core/index.js';
import { groupWords, groupWordsPerRow, nativeData, stepWords, type WeightData } from '../../shaders/group_words.js';

const FORMS = [...new Map(FORM_CASES.map(({ form }) => [describeForm(form), form])).entries()];
const draw = (form: WeightForm, groupSize = 32) =>
  drawFormWeight({ name: describeForm(form), form, n: 5, k: 512, groupSize, weights: 'signed' });

function allWords(weight: WeightData, exponent: number, rows = { nFirst: 0, n: weight.n }): Uint32Array {
  return groupWords(weight, exponent, rows, 0, rows.n * groupWordsPerRow(weight));
}

describe.each(FORMS)('%s', (_, form) => {
  test('pieces of any length, and slices, are ranges of the whole', () => {
    const weight = draw(form);
    const whole = allWords(weight, weight.weightExponent);
    const perRow = groupWordsPerRow(weight);
    const slice = { nFirst: 2, n: 3 };
    expect(allWords(weight, weight.weightExponent, slice)).toEqual(whole.subarray(2 * perRow));
    for (const [first, end] of [
      [0, 1],
      [1, 8],
      [perRow - 1, perRow + 2],
      [7, 2 * perRow],
    ] as const) {
      expect(groupWords(weight, weight.weightExponent, slice, first, end)).toEqual(
        whole.subarray(2 * perRow + first, 2 * perRow + end),
      );
    }
  });
});

test.each([
  [16, 9],
  [32, 5],
  [64, 3],
  [128, 2],
  [256, 2],
])('nested groups of %i take %i words of 256 weights: steps first, then codes', (groupSize, words) => {
  const weight = draw({ kind: 'nested-offset', dtype: 'f16', center: 0 }, groupSize);
  const { scale, second, steps } = weight.groups;
  expect(stepWords(weight)).toBe(words);
  expect(groupWordsPerRow(weight)).toBe(2 * words);
  const halves = new Uint16Array(allWords(weight, weight.weightExponent).buffer);
  const perStep = 256 / groupSize;
  for (let step = 0; step < 10; step++) {
    const at = step * words * 2;
    expect([halves[at], halves[at + 1]]).toEqual([steps!.scale[step], steps!.second[step]]);
    for (let i = 0; i < perStep; i++) {
      const group = step * perStep + i;
      expect(halves[at + 2 + i]).toBe(scale[group]! | (second[group]! << 8));
    }
  }
});

describe('plain groups', () => {
  const low = (word: number) => word & 0xffff;
  const high = (word: number) => word >>> 16;

  test('of f16 are as they are', () => {
    const weight = draw({ kind: 'offset', dtype: 'f16', center: 8 });
    const words = allWords(weight, weight.weightExponent);
    expect(Uint16Array.from(words, low)).toEqual(weight.groups.scale);
    expect(Uint16Array.from(words, high)).toEqual(weight.groups.second);
  });

  test('of bf16 have scales and offsets times 2^-E_w, zero points as they are, and no subnormals', () => {
    const offset = draw({ kind: 'offset', dtype: 'bf16', center: 0 });
    const expected = (bits: number) => ((bits & 0x7f80) === 0 ? bits & 0x8000 : bits - 0x80 * offset.weightExponent);
    const words = allWords(offset, offset.weightExponent);
    expect(Uint16Array.from(words, low)).toEqual(Uint16Array.from(offset.groups.scale, expected));
    expect(Uint16Array.from(words, high)).toEqual(Uint16Array.from(offset.groups.second, expected));
    const native = drawWeight({ name: 'native', n: 5, k: 512, groupSize: 32, weights: 'real-zero' });
    expect(Uint16Array.from(allWords(nativeData(native), -3), high)).toEqual(native.zeroPoint);
  });

  test('of a slice in the native layout are the columns of its rows', () => {
    const native = drawWeight({ name: 'native', n: 5, k: 128, groupSize: 32, weights: 'plain' });
    const words = allWords(nativeData(native), 0, { nFirst: 3, n: 2 });
    const at = (source: Uint16Array) => [0, 1, 2, 3].flatMap((group) => [3, 4].map((row) => source[group * 5 + row]!));
    expect([...words].map(low)).toEqual(at(native.scale));
    expect([...words].map(high)).toEqual(at(native.zeroPoint));
  });
});

// The decode step that the benchmark times: its shapes and bytes, its chain, weights that keep values in range.

import { describe, expect, test } from 'vitest';
import { describeForm, weightForm } from '../../core/forms.js';
import { CoalescedInt4Tensor, int4PlainMM, numberFromBf16 } from '../../core/index.js';
import {
  DECODE_GROUP_SIZE,
  decodeInput,
  decodeLinears,
  decodeWeight,
  decodeWeightBytes,
  fittingLayers,
  isChained,
  MINIATURE,
} from '../../node/bench/decode_step.js';
import { formWeight } from '../../node/bench/form_weight.js';
import { sampleRows } from '../../node/bench/synthetic_weight.js';

describe('the linears of a step', () => {
  const linears = decodeLinears();

  test('are those of 50 sliding layers, 10 full ones and the head', () => {
    expect(linears).toHaveLength(50 * 7 + 10 * 6 + 1);
    const count = (n: number, k: number) => linears.filter((linear) => linear.n === n && linear.k === k).length;
    expect([count(8192, 5376), count(4096, 5376), count(16_384, 5376), count(2048, 5376)]).toEqual([50, 100, 10, 10]);
    expect([count(5376, 8192), count(5376, 16_384)]).toEqual([50, 10]);
    expect([count(21_504, 5376), count(5376, 21_504), count(262_144, 5376)]).toEqual([120, 60, 1]);
  });

  test('read 19.19 GB of weights', () => {
    const bytes = linears.reduce((sum, linear) => sum + decodeWeightBytes(linear), 0);
    expect((bytes / 1e9).toFixed(2)).toBe('19.19');
  });

  test('form a chain', () => {
    expect(isChained(linears)).toBe(true);
    expect(isChained(decodeLinears(MINIATURE.layers, MINIATURE.divisor))).toBe(true);
    expect(isChained(decodeLinears(0))).toBe(true);
    expect(linears.filter(({ xFrom }) => xFrom === null).map(({ name }) => name)).toEqual([
      'layer 0 q',
      'layer 0 k',
      'layer 0 v',
    ]);
    const head = linears.at(-1)!;
    expect(linears[head.xFrom!]!.name).toBe('layer 59 down');
  });

  test('a chain with a gap is none', () => {
    expect(isChained(linears.map((linear) => ({ ...linear, xFrom: null })))).toBe(false);
    expect(isChained(linears.slice(1))).toBe(false);
  });
});

const FORMS = (['bf16', 'f16'] as const).flatMap((dtype) => [
  weightForm('zero', dtype, 0),
  weightForm('offset', dtype, 0),
  ...(dtype === 'f16' ? [weightForm('nested-zero', dtype, 0), weightForm('nested-offset', dtype, 0)] : []),
]);

describe.each(FORMS.map((form) => [describeForm(form), form] as const))('a weight of the form %s', (_, form) => {
  const isDefault = form.kind === 'zero' && form.dtype === 'bf16';
  const draw = (n: number, k: number) =>
    isDefault ? CoalescedInt4Tensor.fromInt4Tensor(decodeWeight(n, k)) : formWeight(form, n, k, DECODE_GROUP_SIZE);

  test('keeps the size of what goes through it', () => {
    const meanSquare = (x: Uint16Array) => x.reduce((sum, bits) => sum + numberFromBf16(bits) ** 2, 0) / x.length;
    const x = decodeInput(5376);
    const y = int4PlainMM(x, draw(512, x.length), 'bf16');
    expect(meanSquare(y) / meanSquare(x)).toBeGreaterThan(0.8);
    expect(meanSquare(y) / meanSquare(x)).toBeLessThan(1.25);
  });

  test('takes the bytes that it is rated by', () => {
    expect(draw(33, 768).sizeBytes).toBe(decodeWeightBytes({ n: 33, k: 768, form }));
  });

  test('has the bits of its rows in a sample of them', () => {
    const weight = draw(40, 512);
    const { rows, sample } = sampleRows(weight, 5);
    const x = decodeInput(512);
    const y = int4PlainMM(x, weight);
    expect([sample.form, sample.weightExponent]).toEqual([form, weight.weightExponent]);
    expect(int4PlainMM(x, sample)).toEqual(Float32Array.from(rows, (row) => y[row]!));
  });
});

test('the miniature of a nested form is made of whole steps', () => {
  const nested = decodeLinears(MINIATURE.layers, MINIATURE.divisor, weightForm('nested-zero', 'f16', 0));
  expect(isChained(nested)).toBe(true);
  expect(nested.every(({ k }) => k % 256 === 0)).toBe(true);
  expect(nested.length).toBe(decodeLinears(MINIATURE.layers, MINIATURE.divisor).length);
  expect(decodeLinears(6, 1, weightForm('nested-zero', 'f16', 0)).map(({ n, k }) => [n, k])).toEqual(
    decodeLinears(6).map(({ n, k }) => [n, k]),
  );
});

test('the layers that fit are counted with the head, and no more than there are', () => {
  const linears = decodeLinears(7);
  const head = decodeWeightBytes({ n: 262_144, k: 5376 });
  const upTo = (layers: number) =>
    linears.reduce((sum, linear) => sum + ((linear.layer ?? 99) < layers ? decodeWeightBytes(linear) : 0), head);
  for (const layers of [0, 1, 5, 6, 7]) expect(fittingLayers(linears, upTo(layers))).toBe(layers);
  expect(fittingLayers(linears, upTo(6) - 1)).toBe(5);
  expect(fittingLayers(linears, head - 1)).toBe(0);
  expect(fittingLayers(linears, Number.POSITIVE_INFINITY)).toBe(7);
});

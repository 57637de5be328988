// The decode step that the benchmark times: its shapes and bytes, its chain, weights that keep values in range.

import { describe, expect, test } from 'vitest';
import { CpuBackend, int4PlainMM, numberFromBf16 } from '../../core/index.js';
import {
  decodeInput,
  decodeLinears,
  decodeWeight,
  decodeWeightBytes,
  isChained,
} from '../../node/bench/decode_step.js';
import { measureDecodeStep } from '../../node/bench/decode_step_measure.js';

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

test('a weight keeps the size of what goes through it', () => {
  const meanSquare = (x: Uint16Array) => x.reduce((sum, bits) => sum + numberFromBf16(bits) ** 2, 0) / x.length;
  const x = decodeInput();
  const y = int4PlainMM(x, decodeWeight(512, x.length), 'bf16');
  expect(meanSquare(y) / meanSquare(x)).toBeGreaterThan(0.8);
  expect(meanSquare(y) / meanSquare(x)).toBeLessThan(1.25);
});

test('a step that does not fit is refused with the layers that would', async () => {
  const backend = new CpuBackend();
  const call = measureDecodeStep(backend, { layers: 100_000, replays: 1, roofGBps: 1 });
  await expect(call).rejects.toThrow(expect.objectContaining({ code: 'DEVICE_OUT_OF_MEMORY' }));
  await expect(call).rejects.toThrow(/--layers \d+/);
  await backend.dispose();
});

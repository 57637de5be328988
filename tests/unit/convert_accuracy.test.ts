// The figures of `samebits convert --report`: against sums taken here, and in the order that they must have.

import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, expect, test, vi } from 'vitest';
import {
  dequantize,
  type LinearAccuracy,
  measureAccuracy,
  memoryFolder,
  openModelCheckpoint,
  quantizeInt4,
} from '../../core/index.js';
import { registerConvert } from '../../node/commands/convert.js';
import { refusal } from './checkpoint_bytes.js';
import { safetensors } from './import_bytes.js';

const MODEL = join(import.meta.dirname, '../data/gemma4-kjv-6m');

afterEach(() => {
  vi.restoreAllMocks();
});

async function measure(weights: Float32Array, n: number, k: number): Promise<LinearAccuracy> {
  const bytes = safetensors([{ name: 'a.up_proj.weight', dtype: 'F32', shape: [n, k], values: weights }]);
  const model = await openModelCheckpoint(memoryFolder(new Map([['model.safetensors', bytes]])));
  for await (const linear of measureAccuracy(model)) return linear;
  throw new Error('no linear');
}

test('the noise of the weights is that of their dequantized values', async () => {
  const [n, k] = [8, 128];
  const weights = Float32Array.from({ length: n * k }, (_, i) => Math.sin(i * i));
  const { settings } = await measure(weights, n, k);
  for (const { groupSize, symmetric, weightSnrDb, productSnrDb } of settings) {
    const restored = dequantize(quantizeInt4(weights, { n, k, groupSize, symmetric }));
    const error = Math.hypot(...restored.map((w, i) => w - weights[i]!));
    expect(weightSnrDb).toBeCloseTo(20 * Math.log10(Math.hypot(...weights) / error), 3);
    // The product adds the noise of int8 activations, some 40 dB, to that of the weights.
    expect(Math.abs(productSnrDb! - weightSnrDb!)).toBeLessThan(4);
  }
});

test('weights that 4 bits hold exactly leave only the noise of the activations', async () => {
  const weights = Float32Array.from({ length: 4 * 128 }, (_, i) => (i % 16) - 8);
  const { settings } = await measure(weights, 4, 128);
  const asymmetric = settings.find(({ groupSize, symmetric }) => groupSize === 32 && !symmetric)!;
  expect(asymmetric.weightSnrDb).toBe(Number.POSITIVE_INFINITY);
  expect(asymmetric.productSnrDb).toBeGreaterThan(35);
  expect(asymmetric.productSnrDb).toBeLessThan(60);
});

test('on the real model: 42 linears, smaller groups and free zero points are better on the whole', async () => {
  let text = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    text += String(chunk);
    return true;
  });
  const program = new Command().exitOverride();
  registerConvert(program);
  await program.parseAsync(['convert', MODEL, '--report', '--json'], { from: 'user' });
  const { linears }: { linears: LinearAccuracy[] } = JSON.parse(text);
  expect(linears).toHaveLength(42);
  const mean = (i: number, of: 'weightSnrDb' | 'productSnrDb') =>
    linears.reduce((sum, { settings }) => sum + settings[i]![of]!, 0) / linears.length;
  for (const of of ['weightSnrDb', 'productSnrDb'] as const) {
    expect(mean(0, of)).toBeGreaterThan(mean(2, of));
    expect(mean(2, of)).toBeGreaterThan(mean(4, of));
    expect(mean(0, of)).toBeGreaterThan(mean(1, of));
    expect(mean(0, of)).toBeGreaterThan(18);
  }
});

test('without OUT, only a dry run or a report is possible', async () => {
  const program = new Command().exitOverride();
  registerConvert(program);
  const attempt = () => program.parseAsync(['convert', MODEL], { from: 'user' });
  expect((await refusal(attempt)).code).toBe('ARGUMENT_INVALID');
});

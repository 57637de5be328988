// What the groups of every form say and a run of them contributes, in the code of the CUDA kernels compiled for the host, against
// the rules of NUMERICS.md written out in f64.

import { expect, test } from 'vitest';
import { flushedNumberFromBf16 } from '../../core/bf16.js';
import { ceilLog2, powerOfTwo, roundTiesToEven } from '../../core/exact.js';
import { numberFromF16 } from '../../core/f16.js';
import { Random } from '../../core/parity/random.js';
import { filterRecords, Mismatches } from './arithmetic_records.js';

test('every f16 and every byte is the number that it stands for', async (context) => {
  const count = 65_536;
  const records = new DataView(new ArrayBuffer(count * 4));
  for (let bits = 0; bits < count; bits++) records.setUint32(bits * 4, bits + (65_535 - bits) * count, true);
  const results = await filterRecords(context, 'halves', records, count, 12);
  const mismatches = new Mismatches();
  for (let bits = 0; bits < count; bits++) {
    const isNumber = (half: number) => (half & 0x7c00) !== 0x7c00;
    for (const [i, half] of [bits, 65_535 - bits].entries()) {
      if (!isNumber(half)) continue;
      const actual = results.getFloat32(bits * 12 + 4 * i, true);
      mismatches.check(Object.is(actual, numberFromF16(half)), () => `f16 0x${half.toString(16)}: ${actual}`);
    }
    mismatches.check(results.getFloat32(bits * 12 + 8, true) === bits % 256, () => `byte ${bits % 256}`);
  }
  expect(mismatches).toMatchObject({ count: 0, first: '' });
});

/** In the order of SamebitsFormKind. */
const FORMS = ['zero bf16', 'zero f16', 'offset bf16', 'offset f16', 'nested-zero', 'nested-offset'] as const;
const COUNT = 60_000;
const fround = Math.fround;

test.for(FORMS.map((form, kind) => [form, kind] as const))('%s: C of a run', async ([form, kind], context) => {
  const random = Random.named(`runs of ${form}`);
  const isNested = form.startsWith('nested');
  const hasOffset = form.includes('offset');
  const decode = form.endsWith('bf16') ? flushedNumberFromBf16 : numberFromF16;
  const drawHalf = () => drawFinite(form.endsWith('bf16'), random);
  const records = new DataView(new ArrayBuffer(COUNT * 32));
  const expected = new Float64Array(COUNT);
  for (let i = 0; i < COUNT; i++) {
    const asum = random.below(8129) - 4064;
    const center = hasOffset && random.below(2) ? 8 : 0;
    // Codes are 0..15, so that their sum, less that of the center, is between these times the sum of magnitudes.
    const centered = random.below(2) ? random.below(60_961 - 8128) - 26_416 : (15 - center) * asum;
    const dp = centered + center * asum;
    const [scaleBits, secondBits] = [drawHalf(), drawHalf()];
    const [ks, ko] = isNested ? [random.below(256), random.below(256)] : [1, 1];
    const [step, secondStep] = [decode(scaleBits), decode(secondBits)];
    const [s, second] = [ks * step, ko * secondStep];
    const isNear = hasOffset || Math.abs(second) <= 65_536;
    const reach = hasOffset
      ? 2 * Math.max(Math.abs(s) * Math.max(center, 15 - center), Math.abs(second))
      : Math.abs(s) * Math.max(Math.abs(second), Math.abs(15 - second));
    const exponent = reach === 0 ? 0 : ceilLog2(reach) + random.below(3);
    const d = fround(fround(1 + random.below(128) / 128) * fround(1 / 127)) * powerOfTwo(-random.below(40));
    const at = i * 32;
    if (!isNear || Math.abs(exponent) > 100) continue; // a record of zeros, whose C is 0
    records.setInt32(at, kind, true);
    records.setInt32(at + 4, dp, true);
    records.setFloat32(at + 8, asum, true);
    records.setFloat32(at + 12, center, true);
    const word = scaleBits + secondBits * 65_536;
    records.setUint32(at + 16, isNested ? ks + ko * 256 : word, true);
    records.setUint32(at + 20, isNested ? word : 0, true);
    records.setInt32(at + 24, exponent, true);
    records.setFloat32(at + 28, d, true);
    const relative = powerOfTwo(-exponent);
    const inUnits = (c: number) => roundTiesToEven(c * 2 ** 32);
    expected[i] = hasOffset
      ? inUnits(fround(fround(step * relative * d) * (ks * (dp - center * asum)))) +
        inUnits(fround(fround(secondStep * relative * d) * (ko * asum)))
      : inUnits(fround(fround(s * relative * d) * fround(dp - fround(second * asum))));
  }
  const results = await filterRecords(context, 'forms', records, COUNT, 8);
  const mismatches = new Mismatches();
  for (let i = 0; i < COUNT; i++) {
    const actual = results.getBigInt64(i * 8, true);
    mismatches.check(actual === BigInt(expected[i]!), () => `run ${i}: expected ${expected[i]}, got ${actual}`);
  }
  expect(mismatches).toMatchObject({ count: 0, first: '' });
  expect(expected.filter((value) => value !== 0).length).toBeGreaterThan(COUNT / 4);
});

/** Mostly of a size that weights have, now and then a subnormal, which of bf16 are zeros after an upload, or anything finite. */
function drawFinite(isBf16: boolean, random: Random): number {
  const [fractionBits, bias, largest] = isBf16 ? [7, 127, 254] : [10, 15, 30];
  const sign = random.below(2) << 15;
  const fraction = random.below(2 ** fractionBits);
  const choice = random.below(8);
  if (choice === 0) return isBf16 ? sign : sign | fraction;
  const exponent = choice === 1 ? 1 + random.below(largest) : bias - 8 + random.below(12);
  return sign | (exponent << fractionBits) | fraction;
}

// The arithmetic that the CUDA kernels are made of, compiled for the host, against the reference: every bit.

import { expect, type TestContext, test } from 'vitest';
import { bf16FromF32Bits, flushedNumberFromBf16 } from '../../core/bf16.js';
import { powerOfTwo, roundTiesToEven } from '../../core/exact.js';
import { Random } from '../../core/parity/random.js';
import { quantizeActivations } from '../../core/reference.js';
import { filterRecords, Mismatches } from './arithmetic_records.js';

const NAN_ROW = 0x7fffffff;

async function checkRows(context: TestContext, rows: readonly Uint16Array[]): Promise<void> {
  const records = new DataView(new ArrayBuffer(rows.length * 128));
  rows.forEach((row, r) => {
    row.forEach((bits, i) => {
      records.setUint16(r * 128 + 2 * i, bits, true);
    });
  });
  const results = await filterRecords(context, 'rows', records, rows.length, 76);
  const mismatches = new Mismatches();
  rows.forEach((row, r) => {
    const expected = quantizeActivations(row, 32);
    const at = r * 76;
    const tell = () => `row ${r}: ${[...row].map((bits) => bits.toString(16))}`;
    const exponent = expected.isNaN ? NAN_ROW : expected.exponent;
    mismatches.check(results.getInt32(at, true) === exponent, tell);
    if (expected.isNaN) return;
    for (let b = 0; b < 2; b++) {
      mismatches.check(results.getFloat32(at + 4 + 4 * b, true) === expected.blockScale[b], tell);
    }
    for (let i = 0; i < 64; i++) {
      mismatches.check(results.getInt8(at + 12 + i) === Math.abs(expected.codes[i]!), tell);
    }
  });
  expect(mismatches).toMatchObject({ count: 0, first: '' });
}

test('quantize_code: every significand over every significand, at every shift', async (context) => {
  const rows: Uint16Array[] = [];
  const exponent = 140;
  for (let shift = 0; shift <= 18; shift++) {
    for (let max = 0; max < 128; max++) {
      for (let first = 0; first < 128; first += 62) {
        const row = new Uint16Array(64);
        for (let i = 0; i < 62; i++) row[i + (i >= 31 ? 1 : 0)] = ((exponent - shift) << 7) | ((first + i) % 128);
        row[31] = row[63] = (exponent << 7) | max;
        rows.push(shift === 0 ? row.map((bits) => Math.min(bits, row[31]!)) : row);
      }
    }
  }
  await checkRows(context, rows);
});

test('quantized rows: random bit patterns, blocks far apart, zeros, subnormals, NaN and Inf', async (context) => {
  const random = Random.named('quantized rows');
  const rows = Array.from({ length: 20_000 }, () => {
    const exponents = [random.below(255), random.below(255)];
    const span = random.below(24);
    const isSpecial = random.below(50) === 0;
    return Uint16Array.from({ length: 64 }, (_, i) => {
      if (isSpecial && random.below(64) === 0) return 0x7f80 | (random.below(2) << 15) | random.below(128);
      const biased = Math.max(0, exponents[i < 32 ? 0 : 1]! - random.below(span + 1));
      return (random.below(2) << 15) | (biased << 7) | random.below(128);
    });
  });
  await checkRows(context, rows);
});

test('run_contribution: C = RNE(RN32(RN32(s * 2^-E_w * d_b) * RN32(dp - z * asum)) * 2^32)', async (context) => {
  const random = Random.named('run contributions');
  const count = 200_000;
  const records = new DataView(new ArrayBuffer(count * 24));
  const expected = new Float64Array(count);
  for (let i = 0; i < count; i++) {
    const asum = random.below(8129) - 4064;
    const dp = random.below(2) ? random.below(121_921) - 60_960 : 0;
    const zero = random.below(3)
      ? (random.below(2) << 15) | ((120 + random.below(24)) << 7) | random.below(128)
      : 0x4100;
    const z = Math.abs(flushedNumberFromBf16(zero)) > 65536 ? 0x4780 : zero;
    const exponent = random.below(201) - 100;
    const zValue = flushedNumberFromBf16(z);
    // |s| * max(|z|, |15 - z|) <= 2^E_w, as E_w is defined; often far below.
    const reach = Math.max(Math.abs(zValue), Math.abs(15 - zValue));
    const largest = exponent - Math.ceil(Math.log2(reach)) - 1;
    const biased = largest - (random.below(2) ? random.below(4) : random.below(120)) + 127;
    const s = biased < 1 ? 0 : (random.below(2) << 15) | (biased << 7) | random.below(128);
    const d =
      Math.fround(Math.fround(1 + random.below(128) / 128) * Math.fround(1 / 127)) *
      powerOfTwo(-random.below(random.below(2) ? 12 : 101));
    const at = i * 24;
    records.setInt32(at, dp, true);
    records.setFloat32(at + 4, asum, true);
    records.setUint32(at + 8, s + z * 65_536, true);
    records.setInt32(at + 12, exponent, true);
    records.setFloat32(at + 16, d, true);
    const t = Math.fround(dp - zValue * asum);
    const c = Math.fround(Math.fround(flushedNumberFromBf16(s) * powerOfTwo(-exponent) * d) * t);
    expected[i] = roundTiesToEven(c * 2 ** 32);
  }
  const results = await filterRecords(context, 'runs', records, count, 8);
  const mismatches = new Mismatches();
  for (let i = 0; i < count; i++) {
    const actual = results.getBigInt64(i * 8, true);
    mismatches.check(actual === BigInt(expected[i]!), () => `run ${i}: expected ${expected[i]}, got ${actual}`);
  }
  expect(mismatches).toMatchObject({ count: 0, first: '' });
  expect(expected.filter((value) => value !== 0).length).toBeGreaterThan(count / 4);
});

test('result_bits: every exponent, ties, signed zeros, infinities, NaN rows; and bf16 of them', async (context) => {
  const random = Random.named('results');
  const totals: bigint[] = [0n, 1n, -1n, 2n ** 24n + 1n, 2n ** 24n + 3n, 2n ** 25n - 1n, -(2n ** 51n), 2n ** 51n - 1n];
  for (let i = 0; i < 60; i++) totals.push(BigInt(random.u32()) * BigInt(random.below(2 ** 16)) - BigInt(random.u32()));
  // A tie of the f32 rounding: 24 bits, then a one, then zeros.
  for (let i = 0; i < 12; i++) totals.push((((BigInt(random.u32()) | 0x80000000n) >> 8n) << 9n) | 256n);
  const inputs: { total: bigint; weightExponent: number; rowExponent: number }[] = [];
  for (const total of totals) {
    for (let p = -258; p <= 195; p++) {
      const weightExponent = Math.max(-100, Math.min(100, p + 32));
      inputs.push({ total, weightExponent, rowExponent: p + 32 - weightExponent });
    }
    inputs.push({ total, weightExponent: 100, rowExponent: NAN_ROW });
  }
  const records = new DataView(new ArrayBuffer(inputs.length * 16));
  inputs.forEach(({ total, weightExponent, rowExponent }, i) => {
    records.setBigInt64(i * 16, total, true);
    records.setInt32(i * 16 + 8, weightExponent, true);
    records.setInt32(i * 16 + 12, rowExponent, true);
  });
  const results = await filterRecords(context, 'results', records, inputs.length, 8);
  const mismatches = new Mismatches();
  inputs.forEach((input, i) => {
    const bits = expectedBits(input);
    const actual = [results.getUint32(i * 8, true), results.getUint32(i * 8 + 4, true)];
    const isEqual = actual[0] === bits && actual[1] === bf16FromF32Bits(bits);
    mismatches.check(
      isEqual,
      () => `T = ${input.total}, E_w ${input.weightExponent}, E_x ${input.rowExponent}: ${actual}`,
    );
  });
  expect(mismatches).toMatchObject({ count: 0, first: '' });
});

/** Section 4 in f64, where T and the power of two are exact. */
function expectedBits(of: { total: bigint; weightExponent: number; rowExponent: number }): number {
  if (of.rowExponent === NAN_ROW) return 0x7fc00000;
  const y = Math.fround(Number(of.total)) * powerOfTwo(of.weightExponent + of.rowExponent - 32);
  const view = new DataView(new ArrayBuffer(4));
  view.setFloat32(0, Math.abs(y) >= 2 ** -126 ? y : y < 0 ? -0 : 0);
  return view.getUint32(0);
}

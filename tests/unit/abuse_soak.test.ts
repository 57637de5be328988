// The soak itself: what it draws, that it finds one wrong bit, and that its report leads back to the case.

import { describe, expect, test } from 'vitest';
import { type Backend, CpuBackend, type DeviceWeight, type LinearOptions } from '../../core/index.js';
import {
  drawSoakActivations,
  drawSoakWeight,
  SOAK_FINITE_KINDS,
  SOAK_WEIGHT_KINDS,
  soakCase,
} from '../../core/parity/soak_cases.js';
import { formatSoak, soak } from '../../node/soak.js';

/** The reference, but for one bit of one output of each f32 result that `isWrong` picks. */
function faulty(isWrong: (weight: DeviceWeight) => boolean): Backend {
  const cpu = new CpuBackend();
  const linear = async (x: Uint16Array, weight: DeviceWeight, options?: LinearOptions) => {
    const y = await cpu.linear(x, weight, options);
    if (y instanceof Float32Array && isWrong(weight)) new Uint32Array(y.buffer)[y.length - 1]! ^= 1;
    return y;
  };
  return Object.assign(Object.create(cpu), { upload: cpu.upload.bind(cpu), linear });
}

describe('the cases', () => {
  test('are drawn from a seed and a number alone, and differ', () => {
    expect(soakCase(5, 17)).toEqual(soakCase(5, 17));
    expect(drawSoakActivations(soakCase(5, 17))).toEqual(drawSoakActivations(soakCase(5, 17)));
    expect(drawSoakWeight(soakCase(5, 17)).groups.scale).toEqual(drawSoakWeight(soakCase(5, 17)).groups.scale);
    expect(soakCase(5, 18)).not.toEqual({ ...soakCase(5, 17), name: 'soak 5:18' });
    expect(soakCase(6, 17)).not.toEqual({ ...soakCase(5, 17), name: 'soak 6:17' });
  });

  test('20 000 of them are valid, have every kind, every M from 1 to 9 and every group size up to 512', () => {
    const cases = Array.from({ length: 20_000 }, (_, index) => soakCase(1, index));
    for (const of of cases) drawSoakWeight(of);
    const distinct = (values: readonly (string | number)[]) => [...new Set(values)].sort();
    expect(distinct(cases.map(({ weights }) => weights))).toEqual([...SOAK_WEIGHT_KINDS, 'mixed'].sort());
    const activations = [...SOAK_FINITE_KINDS, 'mixed', 'nan-row', 'inf-row'].sort();
    expect(distinct(cases.map((of) => of.activations))).toEqual(activations);
    expect(distinct(cases.map(({ m }) => m))).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(distinct(cases.map(({ groupSize }) => groupSize))).toEqual([16, 32, 64, 128, 256, 512].sort());
  });
});

test('the reference equals itself', async () => {
  const backend = new CpuBackend();
  const report = await soak([backend], { count: 300, seed: 2 });
  expect(report).toMatchObject({ seed: 2, cases: 300, mismatchCount: 0, mismatches: [] });
  expect(report.outputs).toBeGreaterThan(2 * 300);
  expect(formatSoak(report, [backend])).toMatch(
    /300 cases, seed 2, \d+ outputs .* every bit equals the reference\.\n$/,
  );
});

test('one wrong bit is found, and named by what draws it again', async () => {
  const backend = faulty(({ n, k }) => n === soakCase(2, 7).n && k === soakCase(2, 7).k);
  const report = await soak([backend], { count: 40, seed: 2 });
  expect(report.mismatchCount).toBeGreaterThan(0);
  const wrong = report.mismatches.find(({ name }) => name === 'soak 2:7');
  expect(wrong).toMatchObject({ ...soakCase(2, 7), outputType: 'f32', difference: { count: 1 } });
  expect(formatSoak(report, [backend])).toContain('soak 2:7 on cpu: f32');
});

test('a backend that refuses ends the soak with its error', async () => {
  const backend = new CpuBackend();
  await backend.dispose();
  await expect(soak([backend], { count: 3, seed: 1 })).rejects.toMatchObject({ code: 'DISPOSED' });
});

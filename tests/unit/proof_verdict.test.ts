// The page's verdict over results with planted faults: of the device, and of a recorded run.

import { describe, expect, test } from 'vitest';
import type { ParityResult } from '../../core/index.js';
import type { CudaRecord } from '../../web/records.js';
import { proofReport } from '../../web/sections/proof_report.js';
import { judge } from '../../web/sections/proof_verdict.js';

const result = (name: string, difference: ParityResult['outcomes'][0]['difference'] = null): ParityResult => ({
  name,
  m: 2,
  n: 5,
  k: 64,
  groupSize: 32,
  sha256: `digest of ${name}`,
  outcomes: [{ backend: 'webgpu', difference }],
});

const record = (
  digests: Readonly<Record<string, string>>,
  backends: readonly string[] = ['cpu', 'cuda'],
): CudaRecord => ({
  device: 'Recorded GPU',
  driver: '1.0',
  recordedAt: '2026-01-01T00:00:00Z',
  cudaSourcesSha256: '',
  shaderSourcesSha256: '',
  cases: Object.fromEntries(Object.entries(digests).map(([name, sha256]) => [name, { sha256, backends }])),
});

const difference = { m: 1, n: 3, expected: '0x3f80', actual: '0x3f81', count: 2, outputType: 'bf16' } as const;

describe('judge', () => {
  test('counts the bits of both outputs when every result is equal', () => {
    const { state, sentence, records } = judge([result('a'), result('b')], 'GPU', []);
    expect(state).toBe('equal');
    expect(sentence).toBe('All 2 results equal the CPU reference’s, bit for bit: 960 output bits, computed on GPU.');
    expect(records).toEqual([]);
  });

  test('names the first input, element and bits that differ on the device', () => {
    const { state, sentence, firstDifferent } = judge([result('a'), result('b', difference)], 'GPU', []);
    expect(state).toBe('different');
    expect(firstDifferent).toBe(1);
    expect(sentence).toContain('1 input of 2');
    expect(sentence).toContain('b, bf16 y[m=1, n=3]: expected 0x3f80, got 0x3f81');
  });

  test('says which recorded device agrees, and over how many inputs', () => {
    const whole = judge([result('a')], 'GPU', [record({ a: 'digest of a' })]);
    expect(whole.sentence).toContain('All 1 results equal the Recorded GPU’s, bit for bit');
    expect(whole.records).toEqual([{ device: 'Recorded GPU', compared: 1, equal: 1 }]);
    const part = judge([result('a'), result('b')], 'GPU', [record({ a: 'digest of a' })]);
    expect(part.sentence).toContain('equal the CPU reference’s and 1 of them the Recorded GPU’s');
  });

  test('a record with another digest is a difference, though device and reference agree', () => {
    const verdict = judge([result('a'), result('b')], 'GPU', [record({ a: 'digest of a', b: 'other' })]);
    expect(verdict.state).toBe('different');
    expect(verdict.firstDifferent).toBe(1);
    expect(verdict.sentence).toContain('recorded on Recorded GPU gave other bits for b');
    expect(verdict.records).toEqual([{ device: 'Recorded GPU', compared: 2, equal: 1 }]);
  });

  test('a digest that CUDA did not give is no recorded CUDA run', () => {
    const { state, records } = judge([result('a')], 'GPU', [record({ a: 'other' }, ['cpu', 'webgpu'])]);
    expect(state).toBe('equal');
    expect(records).toEqual([]);
  });

  test('without a device, the reference alone is held against the record', () => {
    const alone = { ...result('a'), outcomes: [] };
    const { state, sentence } = judge([alone], null, [record({ a: 'digest of a' })]);
    expect(state).toBe('equal');
    expect(sentence).toContain('by the CPU reference in this browser');
    expect(judge([alone], null, [record({ a: 'other' })]).state).toBe('different');
    expect(judge([alone], null, []).state).toBe('uncompared');
  });
});

describe('proofReport', () => {
  const device = {
    info: { name: 'GPU', isSoftware: false, details: { driver: '9' } },
    limits: {},
    features: [],
    languageFeatures: [],
    coldStart: { deviceMs: 1, kernelsMs: 2, firstMatvecMs: 3 },
  };
  const base = { device, userAgent: 'agent', version: '1.2.3', shaderSourcesSha256: 'hash' };

  test('says what ran where, and against which record', () => {
    const results = [result('a')];
    const records = [record({ a: 'digest of a' })];
    const text = proofReport({ ...base, results, records, verdict: judge(results, 'GPU', records) });
    expect(text).toContain('samebits 1.2.3: equal\n');
    expect(text).toContain('device: GPU\n  driver: 9\nbrowser: agent\nshaders: hash\n');
    expect(text).toContain('recorded CUDA run: Recorded GPU, driver 1.0, 2026-01-01: 1 of 1 equal');
    expect(text).not.toContain('differences');
  });

  test('lists the differences with n, m and both bit patterns', () => {
    const results = [result('a', difference), result('b')];
    const records = [record({ b: 'other' })];
    const text = proofReport({ ...base, results, records, verdict: judge(results, 'GPU', records) });
    expect(text).toContain('  a: webgpu, bf16 y[m=1, n=3]: expected 0x3f80, got 0x3f81');
    expect(text).toContain("  b: the reference's digest digest of b is not that of Recorded GPU");
  });
});

// The page's verdict over results with planted faults: of the device, and of a recorded run.

import { describe, expect, test } from 'vitest';
import type { ParityResult } from '../../core/index.js';
import type { CudaRecord } from '../../web/records.js';
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
    expect(sentence).toBe('All 960 output bits of 2 inputs on GPU are the bits of the CPU reference.');
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
    expect(whole.sentence).toMatch(/and the bits recorded on Recorded GPU\.$/);
    expect(whole.records).toEqual([{ device: 'Recorded GPU', compared: 1, equal: 1 }]);
    const part = judge([result('a'), result('b')], 'GPU', [record({ a: 'digest of a' })]);
    expect(part.sentence).toContain('Recorded GPU (1 of 2 inputs)');
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
});

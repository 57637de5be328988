// The recorded abuse of a GPU: what RELIABILITY.md says of it is what the file of the run says, and the run is a whole one.

import { describe, expect, test } from 'vitest';
import { formatRun, readRun, recordedSection } from '../../scripts/abuse-report.mjs';
import { skipWithout } from '../backend_report.js';

const SAMPLE = {
  date: '2031-02-03T04:05:06.000Z',
  cudaSourcesSha256: '0123456789abcdef',
  threads: 6,
  parts: [
    { name: 'no visible device', outcome: 'passed', elapsedSeconds: 0.3, detail: 'said | on\none line' },
    {
      ...{ name: 'cycles', outcome: 'passed', elapsedSeconds: 20.1 },
      figures: { device: 'A GPU', cycles: 10_000, before: { freeMiB: 7, rssMB: 70 }, after: { freeMiB: 7, rssMB: 71 } },
    },
    { name: 'compute-sanitizer memcheck', outcome: 'not done', elapsedSeconds: 0, detail: 'it is not here' },
    ...[1, 2].map((seed) => ({
      ...{ name: `soak of seed ${seed}`, outcome: 'passed', elapsedSeconds: 30 },
      figures: { seed, cases: 500_000, outputs: 31_000_000, mismatchCount: 0, elapsedSeconds: 29.25 },
    })),
    { name: 'soak of seed 3', outcome: 'FAILED', elapsedSeconds: 9, detail: 'exit 1' },
  ],
};

describe('a run in words', () => {
  test('has every part, its outcome and its figures, and adds up the soaks that passed', () => {
    expect(
      formatRun(SAMPLE, SAMPLE.cudaSourcesSha256),
    ).toBe(`A GPU, 2031-02-03, CUDA sources 0123456789ab. Soak: **1 000 000 cases**, \
62 000 000 outputs, 0 wrong bits, 6 threads, 59 s (seeds 1, 2).

| part | outcome | seconds | figures |
|---|---|---|---|
| no visible device | passed | 0.3 | said \\| on one line |
| cycles | passed | 20.1 | cycles 10 000, before (freeMiB 7, rssMB 70), after (freeMiB 7, rssMB 71) |
| compute-sanitizer memcheck | not done | 0 | it is not here |
| soak of seed 1 | passed | 30 | seed 1, cases 500 000, outputs 31 000 000, mismatchCount 0, elapsedSeconds 29.3 |
| soak of seed 2 | passed | 30 | seed 2, cases 500 000, outputs 31 000 000, mismatchCount 0, elapsedSeconds 29.3 |
| soak of seed 3 | FAILED | 9 | exit 1 |
`);
  });

  test('says whether the kernels have changed since', () => {
    expect(formatRun(SAMPLE, 'fedcba9876543210')).toContain('CUDA sources 0123456789ab, **which have changed since**.');
  });

  test('says when there is none', () => {
    expect(formatRun(null)).toBe('No run is recorded yet.\n');
  });
});

test('RELIABILITY.md has the figures of the recorded run', () => {
  expect(recordedSection()).toBe(formatRun(readRun()));
});

test('the recorded run failed nowhere, and soaked a million cases', (context) => {
  const run = readRun();
  if (run === null) skipWithout(context, 'recorded (abuse of a GPU)', 'no run is recorded');
  expect(run.parts.filter(({ outcome }) => outcome === 'FAILED')).toEqual([]);
  const soaks = run.parts.filter(({ name, outcome }) => name.startsWith('soak') && outcome === 'passed');
  const cases = soaks.reduce((sum, { figures }) => sum + Number(figures?.['cases']), 0);
  expect(cases).toBeGreaterThanOrEqual(1_000_000);
});

// What of a record the page is built with: the cases that it runs.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { CASES, FORM_CASES } from '../../core/index.js';
import { pageRecords } from '../../scripts/page-records.mjs';

test('the page has the recorded cases of the default form, and none of the others', () => {
  const folder = mkdtempSync(join(tmpdir(), 'samebits-page-'));
  const path = join(folder, 'tests/data/records/a.json');
  const cases = Object.fromEntries([...CASES, ...FORM_CASES].map(({ name }) => [name, { sha256: name }]));
  mkdirSync(join(path, '..'), { recursive: true });
  writeFileSync(path, JSON.stringify({ device: 'a GPU', cases }));
  try {
    const { load } = pageRecords();
    if (typeof load !== 'function') throw new Error('the plugin loads by a function');
    const text = Reflect.apply(load, undefined, [path]);
    const { device, cases: own } = JSON.parse(text);
    expect(device).toBe('a GPU');
    expect(Object.keys(own)).toEqual(CASES.map(({ name }) => name));
    expect(Reflect.apply(load, undefined, [join(folder, 'benchmarks/a.json')])).toBeNull();
  } finally {
    rmSync(folder, { recursive: true });
  }
});

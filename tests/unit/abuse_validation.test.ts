// The C header's validation under generated input, with AddressSanitizer and UndefinedBehaviorSanitizer, for bounded time.

import { spawnSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { skipWithout } from '../backend_report.js';
import { buildProgramOnHost } from '../native/build_on_host.js';
import { SEED } from '../soak_arbitrary.js';

const SECONDS = Number(process.env['SAMEBITS_FUZZ_SECONDS'] ?? 5);

test(`validate.cc judges as the rules say, for ${SECONDS} s, seed ${SEED}`, async (context) => {
  const build = await buildProgramOnHost('fuzz_validation.cc', {
    sources: ['validate.cc'],
    flags: ['-g', '-fsanitize=address,undefined'],
  });
  if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
  const { status, signal, stdout, stderr } = spawnSync(build.path, [String(SECONDS), String(SEED)], {
    encoding: 'utf8',
    timeout: 60_000 + SECONDS * 1000,
  });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  expect(stdout).not.toContain('FAILED');
  const counts = [...stdout.matchAll(/^(\w+): (\d+) accepted, (\d+) refused$/gm)];
  expect(counts.map(([, name]) => name)).toEqual(['descriptions', 'values', 'exponents', 'rows']);
  for (const [line, , accepted, refused] of counts) {
    expect([line, Number(accepted) > 100, Number(refused) > 100]).toEqual([line, true, true]);
  }
});

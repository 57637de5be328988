// The abuse of scripts/abuse-cuda.mjs on the host, where every byte of device memory is counted and nothing is too much.

import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { skipWithout } from '../backend_report.js';
import { buildAddonOnHost } from '../native/build_on_host.js';

const script = join(import.meta.dirname, '../native/abuse_cuda.mjs');

test.for([
  ['out-of-memory', '20', { attempts: 20 }],
  ['concurrent', '', { calls: 200, different: 0 }],
  ['cycles', '10000', { cycles: 10_000 }],
] as const)('%s %s', async ([part, count, figures], context) => {
  const build = await buildAddonOnHost();
  if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
  const args = ['--expose-gc', script, build.path, part, ...(count === '' ? [] : [count])];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  expect(JSON.parse(stdout)).toMatchObject(figures);
});

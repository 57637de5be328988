// The abuse of scripts/abuse-cuda.mjs on the host, where every byte of device memory is counted and nothing is too much.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { setUp } from '../../scripts/setup.mjs';
import { skipWithout } from '../backend_report.js';
import { buildAddonOnHost } from '../native/build_on_host.js';

const script = join(import.meta.dirname, '../native/abuse_cuda.mjs');

test.for([
  ['out-of-memory', '20', { attempts: 20 }],
  ['concurrent', '', { calls: 200, different: 0 }],
  // Five times as many are recorded on a GPU. 24 MB of host memory, or 1 MiB of a device, are seen.
  ['cycles', '2000', { cycles: 2000 }],
] as const)('%s %s', async ([part, count, figures], context) => {
  const build = await buildAddonOnHost();
  if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
  const args = ['--expose-gc', script, build.path, part, ...(count === '' ? [] : [count])];
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  expect(JSON.parse(stdout)).toMatchObject(figures);
});

describe('abuse-cuda.mjs', () => {
  const folder = mkdtempSync(join(tmpdir(), 'samebits-abuse-'));
  const out = join(folder, 'abuse.json');
  const whole = join(import.meta.dirname, '../../scripts/abuse-cuda.mjs');
  beforeAll(() => setUp(() => {}), 300_000);
  afterAll(() => rmSync(folder, { recursive: true }));

  interface Parts {
    readonly parts: readonly { readonly name: string; readonly outcome: string }[];
  }
  const written = (): Parts => JSON.parse(readFileSync(out, 'utf8'));

  test('begins nothing that it has no time for, and does not call that passed', async (context) => {
    const build = await buildAddonOnHost();
    if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
    const { status, stdout } = spawnSync(process.execPath, [whole, '--minutes', '0.01', '--out', out], {
      encoding: 'utf8',
      env: { ...process.env, SAMEBITS_CUDA_ADDON: build.path },
    });
    const { parts } = written();
    expect(parts.map(({ outcome }) => outcome)).toEqual(parts.map(() => 'not done'));
    expect(parts.filter(({ name }) => name.startsWith('soak of seed'))).toHaveLength(4);
    expect({ status, lines: stdout.trim().split('\n').length }).toEqual({ status: 0, lines: parts.length + 1 });
    expect(stdout).toMatch(new RegExp(`^0 passed, 0 failed, ${parts.length} not done$`, 'm'));
  });

  test('leaves the figures of what it did when it is interrupted', async (context) => {
    const build = await buildAddonOnHost();
    if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
    rmSync(out);
    const env = { ...process.env, SAMEBITS_CUDA_ADDON: build.path };
    const child = spawn(process.execPath, [whole, '--out', out], { env, stdio: ['ignore', 'pipe', 'inherit'] });
    let said = '';
    for await (const text of child.stdout.setEncoding('utf8')) {
      said += text;
      if (/^left with calls in flight .*\n/m.test(said)) break;
    }
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([130, null]);
    expect(written().parts.map(({ name }) => name)).toEqual(['no visible device', 'left with calls in flight']);
  });
});

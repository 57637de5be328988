// The soak on threads: the report of one thread, whatever the number; one wrong bit, refusals and interrupts come through.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import { CpuBackend } from '../../core/index.js';
import { mergedReport, type SoakReport, soak } from '../../node/soak.js';
import { soakOnThreads } from '../../node/soak_threads.js';
import { setUp } from '../../scripts/setup.mjs';
import { skipWithout } from '../backend_report.js';
import { buildAddonOnHost } from '../native/build_on_host.js';

const cli = resolve(import.meta.dirname, '../../dist/node/cli.js');
const faulty = join(import.meta.dirname, '../native/faulty_addon.cjs');

/** What does not depend on the clock. */
const timeless = ({ elapsedSeconds: _, ...report }: SoakReport) => report;

async function hostAddon(context: TestContext): Promise<string> {
  const build = await buildAddonOnHost();
  if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
  return build.path;
}

// The threads run what was built.
beforeAll(() => setUp(() => {}), 300_000);

afterEach(() => {
  delete process.env['SAMEBITS_CUDA_ADDON'];
  delete process.env['FAULTY_ADDON_OF'];
});

describe('a soak on threads', () => {
  test.for([1, 2, 5, 64])('of %i has the report of one thread, and says how far it is', async (threads) => {
    const expected = await soak([new CpuBackend()], { count: 40, seed: 4 });
    const seen: number[] = [];
    const options = { count: 40, seed: 4, onProgress: (done: number) => seen.push(done) };
    expect(timeless(await soakOnThreads(['cpu'], threads, options))).toEqual(timeless(expected));
    expect(seen).toEqual([...seen].sort((a, b) => a - b));
    expect(Math.max(...seen)).toBeLessThanOrEqual(40);
  });

  test('finds every wrong bit, and names the same ones first whatever their number', async (context) => {
    process.env['FAULTY_ADDON_OF'] = await hostAddon(context);
    process.env['SAMEBITS_CUDA_ADDON'] = faulty;
    const one = await soakOnThreads(['cuda'], 1, { count: 400, seed: 9 });
    const three = await soakOnThreads(['cuda'], 3, { count: 400, seed: 9 });
    expect(timeless(three)).toEqual(timeless(one));
    expect(one.mismatchCount).toBeGreaterThan(10);
    expect(one.mismatches).toHaveLength(10);
    for (const { backend, outputType, difference } of one.mismatches) {
      expect({ backend, outputType, difference }).toMatchObject({
        backend: 'cuda',
        outputType: 'f32',
        difference: { m: 0, n: 0, count: 1 },
      });
    }
    const indices = one.mismatches.map(({ index }) => index);
    expect(indices).toEqual([...indices].sort((a, b) => a - b));
  });

  test('ends with what a backend refuses, as a typed error', async () => {
    process.env['SAMEBITS_CUDA_ADDON'] = '/nowhere/samebits_cuda.node';
    await expect(soakOnThreads(['cuda'], 3, { count: 100, seed: 1 })).rejects.toMatchObject({
      name: 'SamebitsError',
      code: 'BACKEND_UNAVAILABLE',
      got: expect.stringContaining('/nowhere/samebits_cuda.node'),
    });
  });
});

test('shares of one soak add up, in the time of the longest', async () => {
  const whole = await soak([new CpuBackend()], { count: 30, seed: 6 });
  const shares = await Promise.all(
    [0, 1, 2].map((first) => soak([new CpuBackend()], { count: 30, seed: 6, first, step: 3 })),
  );
  expect(shares.map(({ cases }) => cases)).toEqual([10, 10, 10]);
  const merged = mergedReport(shares);
  expect(timeless(merged)).toEqual(timeless(whole));
  expect(merged.elapsedSeconds).toBe(Math.max(...shares.map(({ elapsedSeconds }) => elapsedSeconds)));
});

test('a share that is stopped reports what it has done', async () => {
  let done = 0;
  const onProgress = () => void done++;
  const report = await soak([new CpuBackend()], { count: 1000, seed: 6, onProgress, isStopped: () => done >= 5 });
  expect(report.cases).toBeGreaterThanOrEqual(5);
  expect(report.cases).toBeLessThan(100);
  expect(report.mismatchCount).toBe(0);
});

describe('the command', () => {
  test('gives the device’s failure in a thread one line and exit code 3', async (context) => {
    const env = { ...process.env, SAMEBITS_CUDA_ADDON: await hostAddon(context), CUDA_ON_HOST_ERROR: '700' };
    const args = [cli, 'verify', '--backend', 'cuda', '--soak', '1000', '--threads', '3'];
    const { status, stdout, stderr } = spawnSync(process.execPath, args, { env, encoding: 'utf8', timeout: 60_000 });
    expect({ status, stdout }).toEqual({ status: 3, stdout: '' });
    expect(stderr).toMatch(/^samebits: DEVICE_LOST: [^\n]+\n$/);
  });

  test('is ended by an interrupt, with every thread', async (context) => {
    const env = { ...process.env, SAMEBITS_CUDA_ADDON: await hostAddon(context) };
    const args = [cli, 'verify', '--backend', 'cuda', '--soak', '100000000', '--threads', '3'];
    const child = spawn(process.execPath, args, { env, timeout: 60_000, killSignal: 'SIGKILL' });
    await sleep(2000);
    child.kill('SIGINT');
    expect(await once(child, 'exit')).toEqual([null, 'SIGINT']);
  });

  test.for(['0', '-1', '1.5', 'many', '65', ''])('refuses --threads %j', (threads) => {
    const args = [cli, 'verify', '--soak', '10', '--threads', threads];
    const { status, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8' });
    expect(status).toBe(2);
    expect(stderr).toContain('--threads');
  });
});

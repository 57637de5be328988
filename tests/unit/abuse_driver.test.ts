// The addon that set-up built, on machines whose driver is absent, old or broken: it loads, and says what is wrong.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { skipWithout } from '../backend_report.js';
import { buildProgramOnHost } from '../native/build_on_host.js';

const addon = resolve(import.meta.dirname, '../../dist/cuda/samebits_cuda.node');
const folder = mkdtempSync(join(tmpdir(), 'samebits-driver-'));
afterAll(() => rmSync(folder, { recursive: true }));

const OPEN = `require(process.env.ADDON).openDevice(0).then(
  () => console.log('opened'),
  ({ code, got, fix, cudaError }) => console.log(JSON.stringify({ code, got, fix, cudaError })),
);`;

test.for([
  [
    'a driver of CUDA 11.8',
    { DRIVER_VERSION: '11080' },
    /^the driver supports CUDA 11\.8, and this build needs CUDA \d+/,
  ],
  ['a driver that says nothing of itself', {}, /^no NVIDIA driver is installed/],
  ['a driver that cannot start', { DRIVER_VERSION: '99000', DRIVER_INIT: '999' }, /\(cuda\w+\)/],
  ['a driver that finds no device', { DRIVER_VERSION: '99000', DRIVER_INIT: '100' }, /\(cuda\w+\)/],
] as const)('%s', async ([, env, got], context) => {
  if (!existsSync(addon)) skipWithout(context, 'cuda (its addon)', 'dist/cuda/samebits_cuda.node was not built');
  const build = await buildProgramOnHost('driver_stub.cc', { flags: ['-shared', '-fPIC', '-fno-sanitize=all'] });
  if ('missing' in build) skipWithout(context, 'cuda (its addon)', build.missing);
  copyFileSync(build.path, join(folder, 'libcuda.so.1'));
  const { status, signal, stdout, stderr } = spawnSync(process.execPath, ['--eval', OPEN], {
    encoding: 'utf8',
    env: { ...process.env, ...env, ADDON: addon, LD_LIBRARY_PATH: folder },
  });
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
  const refusal = JSON.parse(stdout);
  expect(refusal).toMatchObject({ code: 'BACKEND_UNAVAILABLE', cudaError: expect.stringMatching(/^cudaError/) });
  expect(refusal.got).toMatch(got);
});

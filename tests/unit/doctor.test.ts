// samebits doctor on CUDA: what the addon says of itself, with a device, without one, and when it is not there.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { setUp } from '../../scripts/setup.mjs';
import { skipWithout } from '../backend_report.js';
import { buildAddonOnHost } from '../native/build_on_host.js';

const root = resolve(import.meta.dirname, '../..');

beforeAll(() => setUp(() => {}), 300_000);

/** What doctor finds of CUDA. */
function cudaFinding(addon?: string) {
  const { SAMEBITS_CUDA_ADDON: _, ...others } = process.env;
  const { status, stdout } = spawnSync(process.execPath, [resolve(root, 'dist/node/cli.js'), 'doctor', '--json'], {
    encoding: 'utf8',
    env: addon === undefined ? others : { ...others, SAMEBITS_CUDA_ADDON: addon },
  });
  expect(status).toBe(0);
  const { findings }: { findings: { what: string }[] } = JSON.parse(stdout);
  return findings.find(({ what }) => what === 'cuda');
}

test('an addon that is not there', () => {
  const finding = cudaFinding('/nowhere/samebits_cuda.node');
  expect(finding).toMatchObject({ status: 'missing', detail: expect.stringContaining('/nowhere/samebits_cuda.node') });
  expect(finding).not.toHaveProperty('addon');
});

test('an addon of other kernels is said to be one, with its devices', async (context) => {
  const build = await buildAddonOnHost();
  if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
  expect(cudaFinding(build.path)).toMatchObject({
    status: 'ok',
    fix: expect.stringContaining('npm run build'),
    addon: {
      addon: `${build.path}, built from other kernels than this version's`,
      visibleDevices: 'CUDA kernels on the host (9.0)',
    },
  });
});

test('the addon of this clone is named, with a device or without', (context) => {
  const addon = resolve(root, 'dist/cuda/samebits_cuda.node');
  if (!existsSync(addon)) skipWithout(context, 'cuda (its addon)', 'dist/cuda/samebits_cuda.node was not built');
  expect(cudaFinding()).toMatchObject({ addon: { addon, visibleDevices: expect.stringMatching(/none|\(\d+\.\d\)/) } });
});

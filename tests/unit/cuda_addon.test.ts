// The addon that set-up built: it loads without a driver, says why there is no device, and holds the kernels of this tree.

import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, type TestContext, test } from 'vitest';
import { SamebitsError } from '../../core/index.js';
import { loadCudaAddon, probeCuda } from '../../node/cuda_addon.js';
import { CudaBackend } from '../../node/cuda_backend.js';
import { skipWithout } from '../backend_report.js';

const root = join(import.meta.dirname, '../..');
const addonPath = join(root, 'dist/cuda/samebits_cuda.node');

/** Skips where set-up could not build the addon (no nvcc). */
function requireBuilt(context: TestContext): void {
  if (!existsSync(addonPath)) skipWithout(context, 'cuda (its addon)', 'dist/cuda/samebits_cuda.node was not built');
}

afterEach(() => {
  delete process.env['SAMEBITS_CUDA_ADDON'];
});

describe('loading', () => {
  test('a failed load names what was tried, and what to do', async () => {
    process.env['SAMEBITS_CUDA_ADDON'] = '/nowhere/samebits_cuda.node';
    await expect(CudaBackend.open()).rejects.toMatchObject({
      code: 'BACKEND_UNAVAILABLE',
      got: expect.stringContaining('/nowhere/samebits_cuda.node: '),
      fix: expect.stringContaining('npm run build'),
      cause: [expect.any(Error)],
    });
    expect(await probeCuda()).toMatchObject({ available: false, addonPath: null, devices: [] });
  });

  test('a file that is no addon is refused, not crashed on', async () => {
    process.env['SAMEBITS_CUDA_ADDON'] = join(import.meta.dirname, 'cuda_addon.test.ts');
    await expect(CudaBackend.open()).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
  });

  test('the built addon loads, with or without a driver', (context) => {
    requireBuilt(context);
    const { path, native } = loadCudaAddon();
    expect(path).toBe(addonPath);
    // Fails when the kernels changed after the addon was built; `npm run build` builds it again.
    expect(native.sourcesSha256).toBe(__CUDA_SOURCES_SHA256__);
  });
});

describe('a machine with no device', () => {
  test('open says why, and so does the probe', async (context) => {
    requireBuilt(context);
    const probe = await probeCuda();
    expect(probe).toMatchObject({ addonPath, sourcesSha256: __CUDA_SOURCES_SHA256__ });
    const opened = await CudaBackend.open().catch((error: unknown) => error);
    if (probe.available) {
      expect(opened).toBeInstanceOf(CudaBackend);
      if (opened instanceof CudaBackend) await opened.dispose();
      return;
    }
    expect(opened).toBeInstanceOf(SamebitsError);
    expect(opened).toMatchObject({ code: 'BACKEND_UNAVAILABLE', got: expect.stringContaining(probe.reason) });
    expect(opened).toMatchObject({ cause: { cudaError: probe.reason } });
  });

  test('a process that leaves while a call is in flight ends cleanly', (context) => {
    requireBuilt(context);
    const script = `require(${JSON.stringify(addonPath)}).openDevice(0).catch(() => {}); process.exit(7);`;
    const { status, signal, stderr } = spawnSync(process.execPath, ['--eval', script], { encoding: 'utf8' });
    expect({ status, signal, stderr }).toEqual({ status: 7, signal: null, stderr: '' });
  });
});

describe('building', () => {
  test('what cannot be built is skipped with one line that says why, and what was built stays', () => {
    const before = existsSync(addonPath) ? statSync(addonPath).mtimeMs : null;
    const { status, stderr } = spawnSync(process.execPath, [join(root, 'scripts/build-addon.mjs')], {
      encoding: 'utf8',
      env: { ...process.env, SAMEBITS_CUDA_ARCHS: '1' },
    });
    expect(status).toBe(0);
    expect(stderr).toMatch(/^CUDA is skipped: [^\n]+\n$/);
    expect(existsSync(addonPath) ? statSync(addonPath).mtimeMs : null).toBe(before);
  });
});

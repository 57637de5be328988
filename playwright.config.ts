// The web tests: the built page, served locally, in a real headless Chromium with WebGPU on the software adapter.

import { createServer } from 'node:net';
import { defineConfig } from '@playwright/test';
import { CHROMIUM_ARGS, provideChromium } from './scripts/chromium.mjs';

/** A port that is free now, the same in every process of one run. */
async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('the system gave no port');
  return address.port;
}

process.env['SAMEBITS_PAGE_PORT'] ??= String(await freePort());
const port = process.env['SAMEBITS_PAGE_PORT'];
const baseURL = `http://127.0.0.1:${port}`;

const chromium = await provideChromium((line) => process.stderr.write(`${line}\n`));
if (chromium.path === null) throw new Error(`${chromium.reason}. ${chromium.fix}`);
// The workers load this file again; they need not search again.
process.env['SAMEBITS_CHROMIUM'] ??= chromium.path;

export default defineConfig({
  testDir: 'tests/web',
  outputDir: 'test-results/web',
  timeout: 240_000,
  // On a software device that other tests keep busy, one product can take seconds.
  expect: { timeout: 60_000 },
  // A page waits for its own threads half of the time.
  workers: 2,
  forbidOnly: process.env['CI'] !== undefined,
  use: {
    baseURL,
    launchOptions: { executablePath: chromium.path, args: CHROMIUM_ARGS },
    trace: 'retain-on-failure',
  },
  webServer: {
    command: `node_modules/.bin/vite preview --mode page --host 127.0.0.1 --port ${port} --strictPort`,
    url: baseURL,
  },
});

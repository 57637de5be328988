// The page as a whole: its size, its first paint, any base path, npm start.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream, existsSync, readdirSync, readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { expect, test } from '@playwright/test';
import { settled, watchForErrors } from './page_checks.js';

const BUILT = 'dist/page';
const MAX_GZIPPED_BYTES = 150_000;
const TYPES: Readonly<Record<string, string>> = { html: 'text/html', js: 'text/javascript', css: 'text/css' };

test('is under 150 KB gzipped before any model', () => {
  // What reads the model's tokenizer, and what decodes, are fetched with the model.
  const files = readdirSync(BUILT, { recursive: true, encoding: 'utf8' }).filter(
    (name) => /\.(html|js|css)$/.test(name) && !/\b(?:writer|webgpu_decoder|decoder_cache)-/.test(name),
  );
  const gzipped = files.map((name) => gzipSync(readFileSync(join(BUILT, name))).byteLength);
  const total = gzipped.reduce((sum, bytes) => sum + bytes, 0);
  test.info().annotations.push({ type: 'gzipped', description: `${total} bytes in ${files.length} files` });
  expect(files.length).toBeGreaterThan(3);
  expect(total).toBeLessThan(MAX_GZIPPED_BYTES);
});

test('has a small model under 6 MB', () => {
  const models = readdirSync(join(BUILT, 'assets')).filter((name) => /^gemma4-kjv-6m-.*\.safetensors$/.test(name));
  expect(models).toHaveLength(1);
  expect(readFileSync(join(BUILT, 'assets', models[0]!)).byteLength).toBeLessThan(6_000_000);
});

test('paints before WebGPU, or the worker, answers', async ({ page }) => {
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  await page.route(/engine_worker.*\.js$/, async (route) => {
    await held;
    await route.continue();
  });
  await page.goto('./');
  await expect(page.locator('#layout [data-layout="coalesced"] .count')).toContainText('1 cache line');
  const paints = () => page.evaluate(() => performance.getEntriesByName('first-contentful-paint').length);
  await expect.poll(paints).toBe(1);
  await expect(page.locator('#device')).toHaveAttribute('data-state', 'pending');
  release();
  await expect(page.locator('#device')).toHaveAttribute('data-state', 'available');
});

test('works under any base path, from any static host', async ({ page }) => {
  const errors = watchForErrors(page);
  const base = '/some/deep/path/';
  const server = createServer((request, response) => {
    const path = (request.url ?? '').split('?')[0]!;
    const file = join(BUILT, path.slice(base.length) || 'index.html');
    if (!path.startsWith(base) || !existsSync(file)) {
      response.writeHead(404).end();
      return;
    }
    response.writeHead(200, { 'content-type': TYPES[file.split('.').at(-1) ?? ''] ?? 'application/octet-stream' });
    createReadStream(file).pipe(response);
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  try {
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Error('the system gave no port');
    await page.goto(`http://127.0.0.1:${address.port}${base}`);
    await expect(page.locator('#device')).toHaveAttribute('data-state', 'available');
    await expect(page.locator('#numbers')).toHaveAttribute('data-state', 'drawn');
    await page.getByRole('button', { name: 'Use the small model' }).click();
    expect(await settled(page, 'weights', /^(open|refused)$/)).toContain('42 weights to use');
    expect(errors).toEqual([]);
  } finally {
    server.closeAllConnections();
    server.close();
  }
});

test('npm start serves it and prints its address', async ({ page }) => {
  const child = spawn(process.execPath, ['scripts/start.mjs', '--no-open'], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    await page.goto(await printedAddress(child));
    await expect(page.locator('#device')).toHaveAttribute('data-state', 'available');
  } finally {
    child.kill('SIGTERM');
    await once(child, 'exit');
  }
});

async function printedAddress({ stdout }: ChildProcess): Promise<string> {
  let text = '';
  for await (const chunk of stdout ?? []) {
    text += chunk;
    const address = /samebits is at (http:\S+)/.exec(text)?.[1];
    if (address !== undefined) return address;
  }
  throw new Error(`npm start ended without an address: ${text}`);
}

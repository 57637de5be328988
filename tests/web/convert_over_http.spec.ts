// The published browser build in a real browser: models of every format are read from web servers by ranges and converted to
// the bytes that Node makes of them on disk; servers that cannot be read so, and pages that forbid WebAssembly, are typed errors.

import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, type Page, test } from '@playwright/test';
import type { ImportOptions } from '../../core/index.js';
import { importSources } from '../unit/import_sources.js';
import { type ModelServer, serveModels } from './model_server.js';

const SOURCES = Object.entries(importSources(24, 512, 32));
const FILES = ['model.safetensors', 'config.json', 'quantize_config.json', 'm.gguf'];
const REAL = 'tests/data/gemma4-kjv-6m/model.safetensors';

const models = new Map<string, Uint8Array>(
  ['model.safetensors', 'config.json', 'tokenizer.json', 'tokenizer_config.json'].map((name) => [
    `real/${name}`,
    readFileSync(join(dirname(REAL), name)),
  ]),
);
let server: ModelServer;
let other: ModelServer;
let folder: string;

test.beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'samebits-web-'));
  for (const [i, [, [source]]] of SOURCES.entries()) {
    mkdirSync(join(folder, String(i)));
    for (const name of FILES) {
      const file = await source.open(name);
      if (!file) continue;
      const bytes = await file.read(0, file.sizeBytes);
      models.set(`${i}/${name}`, bytes);
      writeFileSync(join(folder, String(i), name), bytes);
    }
  }
  server = await serveModels(models);
  other = await serveModels(models);
});

test.afterAll(() => {
  for (const { close } of [server, other]) close();
  rmSync(folder, { recursive: true });
});

/** SHA-256 of what the page makes of the model at `url`, or the code and message of the error. */
function convertInPage(page: Page, url: string, entry: string | undefined, options: ImportOptions): Promise<string> {
  return page.evaluate(
    async ([url, entry, options, name]) => {
      const samebits: typeof import('../../web/index.js') = await import(name);
      const { httpFolder, MemorySink, openModelCheckpoint, planConversion, runConversion } = samebits;
      try {
        const sink = new MemorySink();
        const model = await openModelCheckpoint(httpFolder(url), entry);
        await runConversion(await planConversion(model, options), sink);
        const digest = await crypto.subtle.digest('SHA-256', sink.bytes);
        return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
      } catch (error) {
        return String(error);
      }
    },
    [url, entry, options, 'samebits'] as const,
  );
}

/** SHA-256 of what the command makes of a model on disk. */
function convertOnDisk(source: string, { layout, assumeZeroOffset }: ImportOptions): string {
  const out = join(folder, 'out.safetensors');
  const flags = [...(layout ? ['--layout', layout] : []), ...(assumeZeroOffset ? ['--assume-zero-offset'] : [])];
  const args = ['dist/node/cli.js', 'convert', source, out, '--force', '--json', ...flags];
  execFileSync(process.execPath, args, { stdio: 'ignore' });
  return createHash('sha256').update(readFileSync(out)).digest('hex');
}

for (const [i, [format, [, , , options = {}, entry]]] of SOURCES.entries()) {
  test(`${format}: the browser and Node make the same file`, async ({ page }) => {
    await page.goto(`${server.url}page`);
    const here = convertOnDisk(join(folder, String(i), entry ?? ''), options);
    expect(await convertInPage(page, `${server.url}ranges/${i}/`, entry, options)).toBe(here);
  });
}

test('a real model in bf16 too, from a server of another origin that exposes what is needed', async ({ page }) => {
  await page.goto(`${server.url}page`);
  expect(await convertInPage(page, `${other.url}foreign/real/`, undefined, {})).toBe(convertOnDisk(REAL, {}));
});

for (const [what, manner, told] of [
  ['a server that ignores ranges', 'ignores', 'ignores ranges'],
  ['a file that changes while it is read', 'changes', 'must not change while it is read'],
  ['a server without the file', 'ranges/none', 'must hold a model'],
] as const) {
  test(`${what} is refused`, async ({ page }) => {
    await page.goto(`${server.url}page`);
    const error = await convertInPage(page, `${server.url}${manner}/real/`, undefined, {});
    expect(error).toMatch(/^SamebitsError: FILE_UNREADABLE: /);
    expect(error).toContain(told);
  });
}

for (const [what, manner, told] of [
  ['that allows no other', 'ranges', 'CORS'],
  ['that hides Content-Range', 'hidden', 'Access-Control-Expose-Headers'],
] as const) {
  test(`a server of another origin ${what} is refused`, async ({ page }) => {
    await page.goto(`${server.url}page`);
    const error = await convertInPage(page, `${other.url}${manner}/real/`, undefined, {});
    expect(error).toMatch(/^SamebitsError: FILE_UNREADABLE: /);
    expect(error).toContain(told);
  });
}

test('a page whose policy forbids WebAssembly is told what to allow', async ({ page }) => {
  await page.goto(`${server.url}strict`);
  const error = await convertInPage(page, `${server.url}ranges/real/`, undefined, {});
  expect(error).toMatch(/^SamebitsError: WEBASSEMBLY_UNAVAILABLE: /);
  expect(error).toContain("'wasm-unsafe-eval'");
});

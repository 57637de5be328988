// npm test: sets up, runs every check, and ends with `N passed, N failed, N skipped`.

import './node-version.mjs';
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { provideChromium } from './chromium.mjs';
import { root, runTool } from './processes.mjs';
import { setUp } from './setup.mjs';
import { clearReport, readPlaywrightReport, readVitestReport } from './test-counts.mjs';

/** What SAMEBITS_REQUIRE may name, and how the line of a test on it begins. */
const REQUIRABLE = { cuda: 'cuda:', webgpu: 'webgpu (Dawn):', chromium: 'webgpu (Chromium', audit: 'audit (npm):' };
const required = (process.env['SAMEBITS_REQUIRE'] ?? '').split(',').filter((name) => name !== '');

const results = join(root, 'test-results');
const vitestReport = join(results, 'vitest.json');
const playwrightReport = join(results, 'playwright.json');

const total = { passed: 0, failed: 0, skipped: 0 };
/** @type {Set<string>} one for each backend and device, said once */
const backendLines = new Set();

/**
 * @param {import('./test-counts.mjs').Counts} counts
 * @param {readonly string[]} [lines]
 */
function add({ passed, failed, skipped }, lines = []) {
  total.passed += passed;
  total.failed += failed;
  total.skipped += skipped;
  for (const line of lines) backendLines.add(line);
}

/** @param {string} line */
function log(line) {
  process.stdout.write(`${line}\n`);
}

/**
 * A check without a count of its own: one test.
 * @param {string} name
 * @param {string} tool
 * @param {readonly string[]} args
 */
async function check(name, tool, args) {
  const { code, output } = await runTool(tool, args, { output: 'capture' });
  log(code === 0 ? `${name}: passed` : `${name}: FAILED\n${output}`);
  add({ passed: code === 0 ? 1 : 0, failed: code === 0 ? 0 : 1, skipped: 0 });
}

/** @param {Readonly<Record<string, string>>} env */
async function unitAndParity(env) {
  clearReport(vitestReport);
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${vitestReport}`];
  // Vitest colours its output in CI even where nothing shows colours.
  const colours = process.stdout.isTTY ? {} : { NO_COLOR: '1' };
  const { code } = await runTool('vitest', ['run', ...reporters], { env: { ...env, ...colours } });
  const { counts, lines } = readVitestReport(vitestReport, code);
  add(counts, lines);
}

/**
 * @param {Awaited<ReturnType<typeof provideChromium>>} chromium
 * @param {Readonly<Record<string, string>>} env
 */
async function web(chromium, env) {
  if (chromium.path === null) {
    add({ passed: 0, failed: 0, skipped: 1 }, [`webgpu (Chromium): SKIPPED (${chromium.reason}). ${chromium.fix}`]);
    return;
  }
  clearReport(playwrightReport);
  const { code } = await runTool('playwright', ['test', '--reporter=list,json'], {
    env: { ...env, PLAYWRIGHT_JSON_OUTPUT_NAME: playwrightReport },
  });
  const { counts, lines } = readPlaywrightReport(playwrightReport, code);
  add(counts, lines);
}

async function main() {
  const unknown = required.filter((name) => !(name in REQUIRABLE));
  if (unknown.length > 0) {
    throw new Error(`SAMEBITS_REQUIRE knows ${Object.keys(REQUIRABLE).join(', ')}; got ${unknown.join(', ')}`);
  }
  mkdirSync(results, { recursive: true });
  await setUp(log);
  // Before the parity tests: a Chromium also brings the software Vulkan driver that Dawn runs on without a GPU.
  const chromium = await provideChromium(log);
  const env = { CI: '1', ...(chromium.path === null ? {} : { SAMEBITS_CHROMIUM: chromium.path }) };
  await Promise.all([check('types', 'tsc', ['--noEmit']), check('lint', 'biome', ['check', '--error-on-warnings'])]);
  await unitAndParity(env);
  await web(chromium, env);
  for (const [name, start] of Object.entries(REQUIRABLE)) {
    const hasRun = [...backendLines].some((line) => line.startsWith(start) && line.includes(': ran on '));
    if (required.includes(name) && !hasRun) throw new Error(`SAMEBITS_REQUIRE asks for ${name}: no test ran on it.`);
  }
}

try {
  await main();
} catch (error) {
  log(error instanceof Error ? error.message : String(error));
  total.failed += 1;
}
log('');
for (const line of backendLines) log(line);
log(`${total.passed} passed, ${total.failed} failed, ${total.skipped} skipped`);
process.exitCode = total.failed > 0 ? 1 : 0;

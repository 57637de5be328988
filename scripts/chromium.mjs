// A Chromium with WebGPU for the web tests: one that is named, one that is found, or one that is installed.

import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { delimiter, join } from 'node:path';
import { run, runTool } from './processes.mjs';

const NAMES = ['chromium', 'google-chrome-stable', 'google-chrome', 'chrome', 'chromium-browser'];
const FOLDERS = ['/usr/bin', '/usr/lib/chromium', '/opt/google/chrome', '/snap/bin'];
const MAC_APPS = ['Chromium', 'Google Chrome'].map((app) => `/Applications/${app}.app/Contents/MacOS/${app}`);

const isRoot = process.getuid?.() === 0;

/** How every Chromium of the tests starts: WebGPU on the software adapter, nothing that reaches out by itself. */
export const CHROMIUM_ARGS = [
  ...(isRoot ? ['--no-sandbox'] : []),
  '--enable-unsafe-webgpu',
  '--use-webgpu-adapter=swiftshader',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/**
 * @typedef {{ path: string, version: string }} Chromium
 * @typedef {{ path: null, reason: string, fix: string }} NoChromium
 */

/**
 * Finds a Chromium, or installs one where that is this system's way: as root, on Debian and Ubuntu.
 * @param {(line: string) => void} log
 * @returns {Promise<Chromium | NoChromium>}
 */
export async function provideChromium(log) {
  const found = await findChromium();
  if (found.path !== null || process.env['SAMEBITS_CHROMIUM'] || !isRoot) return found;
  const failure = await install(log);
  if (failure === null) return findChromium();
  return { ...found, reason: `${found.reason}; installing one failed: ${failure}` };
}

/**
 * The Chromium that SAMEBITS_CHROMIUM names (then no other is tried), or the first that starts.
 * @returns {Promise<Chromium | NoChromium>}
 */
async function findChromium() {
  const named = process.env['SAMEBITS_CHROMIUM'];
  for (const path of named ? [named] : candidates()) {
    const version = await versionOf(path);
    if (version !== null) return { path, version };
  }
  if (named) {
    return { path: null, reason: `SAMEBITS_CHROMIUM=${named} does not start`, fix: 'Correct or unset it.' };
  }
  return { path: null, reason: 'no Chromium found', fix: instruction() };
}

function candidates() {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter), ...FOLDERS];
  const paths = NAMES.flatMap((name) => folders.map((folder) => join(folder, name)));
  return [...new Set([...paths, ...MAC_APPS, ...playwrightsOwn()])].filter((path) => existsSync(path));
}

function playwrightsOwn() {
  try {
    return [createRequire(import.meta.url)('@playwright/test').chromium.executablePath()];
  } catch {
    return [];
  }
}

/**
 * `Chromium 150.0`, or null for what is no working browser: Ubuntu's chromium-browser without snap prints advice and fails.
 * @param {string} path
 */
async function versionOf(path) {
  const { code, output } = await run(path, ['--version'], { output: 'capture', timeoutMs: 20_000 });
  return code === 0 ? (/\b(?:Chromium|Chrome)\b.* \d+\.\d+/.exec(output)?.[0] ?? null) : null;
}

/** @typedef {'debian' | 'ubuntu' | 'other'} System */

/** @returns {System} Debian ships a real chromium package; Ubuntu's is a stub for snap. */
function system() {
  try {
    const release = readFileSync('/etc/os-release', 'utf8');
    const ids = [...release.matchAll(/^ID(?:_LIKE)?="?([^"\n]*)"?$/gm)].join(' ');
    if (/\bubuntu\b/.test(ids)) return 'ubuntu';
    return /\bdebian\b/.test(ids) ? 'debian' : 'other';
  } catch {
    return 'other';
  }
}

function instruction() {
  const byPlaywright = 'npx playwright install --with-deps chromium';
  const command = {
    debian: 'sudo apt-get install chromium',
    ubuntu: byPlaywright,
    other: byPlaywright,
  }[system()];
  return `Install one with '${command}', or set SAMEBITS_CHROMIUM to the path of a Chromium or Chrome.`;
}

/**
 * @param {(line: string) => void} log
 * @returns {Promise<string | null>} why it failed
 */
async function install(log) {
  const kind = system();
  if (kind === 'other') return 'this is neither Debian nor Ubuntu';
  /** @type {Parameters<typeof run>[2]} */
  const options = { output: 'capture', env: { DEBIAN_FRONTEND: 'noninteractive' }, timeoutMs: 600_000 };
  if (kind === 'ubuntu') {
    log('installing Chromium (playwright install --with-deps chromium)');
    const { code, output } = await runTool('playwright', ['install', '--with-deps', 'chromium'], options);
    return code === 0 ? null : lastLines(output);
  }
  log('installing Chromium (apt-get install chromium)');
  for (const args of [['update'], ['install', '--yes', '--no-install-recommends', 'chromium']]) {
    const { code, output } = await run('apt-get', ['--quiet', '--option', 'Dpkg::Use-Pty=0', ...args], options);
    if (code !== 0) return lastLines(output);
  }
  return null;
}

/** @param {string} output */
function lastLines(output) {
  return output.trim().split('\n').slice(-3).join(' | ');
}

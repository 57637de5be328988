// SwiftShader, the Vulkan driver on the CPU that every Chromium brings: where it is, and how a Vulkan loader meets it.

import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { constants, homedir, tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { unavailableError } from '../core/backend.js';

const MANIFEST = 'vk_swiftshader_icd.json';
const LOADER = 'libvulkan.so.1';
/** glibc's and musl's RTLD_NODELETE, which Node does not name. */
const RTLD_NODELETE = 0x1000;

const BROWSER_FOLDERS = [
  '/usr/lib/chromium',
  '/usr/lib/chromium-browser',
  '/usr/lib64/chromium-browser',
  '/opt/google/chrome',
  '/opt/chromium.org/chromium',
  '/snap/chromium/current/usr/lib/chromium-browser',
];

/**
 * The manifest that SAMEBITS_VULKAN_ICD names, or that of an installed Chromium; null when there is none.
 * @throws SamebitsError BACKEND_UNAVAILABLE when the named manifest is not there
 */
export function findSoftwareDriver(): string | null {
  const named = process.env['SAMEBITS_VULKAN_ICD'];
  if (named) {
    if (existsSync(named)) return named;
    throw unavailableError('webgpu', `SAMEBITS_VULKAN_ICD=${named} does not exist`, 'Correct or unset it.');
  }
  return (
    browserFolders()
      .map((folder) => join(folder, MANIFEST))
      .find((path) => existsSync(path)) ?? null
  );
}

/**
 * Makes a Vulkan loader available: the system's, or the one that lies beside SwiftShader. False when neither is there.
 * Dawn opens its loader by name only, and finds one that this process already holds.
 */
export function provideLoader(manifest: string | null): boolean {
  return openLibrary(LOADER) || (manifest !== null && openLibrary(join(dirname(manifest), LOADER)));
}

/**
 * Does `work` while the environment names `manifest` to the Vulkan loader: besides the system's drivers, or instead of
 * them. Synchronous, so that nothing else sees the change. In a worker thread it takes `env: SHARE_ENV` to have effect.
 */
export function withDriver<T>(manifest: string | null, role: 'besides' | 'instead', work: () => T): T {
  const changes: Record<string, string> = {};
  if (manifest !== null) changes[role === 'besides' ? 'VK_ADD_DRIVER_FILES' : 'VK_ICD_FILENAMES'] = manifest;
  // Some drivers complain on stderr without it.
  if (!process.env['XDG_RUNTIME_DIR']) changes['XDG_RUNTIME_DIR'] = tmpdir();
  const before = Object.keys(changes).map((name) => [name, process.env[name]] as const);
  Object.assign(process.env, changes);
  try {
    return work();
  } finally {
    for (const [name, value] of before) {
      if (value === undefined) delete process.env[name];
      else process.env[name] = value;
    }
  }
}

function browserFolders(): string[] {
  const named = process.env['SAMEBITS_CHROMIUM'];
  const beside = named && existsSync(named) ? [dirname(realpathSync(named))] : [];
  return [...beside, ...BROWSER_FOLDERS, ...playwrightFolders()];
}

/** <cache>/chromium-1200/chrome-linux64 and its like, the newest first. */
function playwrightFolders(): string[] {
  const cache = process.env['PLAYWRIGHT_BROWSERS_PATH'] ?? join(homedir(), '.cache/ms-playwright');
  if (!existsSync(cache)) return [];
  const versions = readdirSync(cache).filter((name) => name.startsWith('chromium'));
  return versions
    .sort((a, b) => b.localeCompare(a, 'en', { numeric: true }))
    .flatMap((version) => readdirSync(join(cache, version)).map((folder) => join(cache, version, folder)));
}

/**
 * Loads a shared library for good. Node's dlopen is for addons: it throws for any other library after it has loaded it,
 * and RTLD_NODELETE keeps what was loaded.
 */
function openLibrary(path: string): boolean {
  try {
    process.dlopen({ exports: {} }, path, constants.dlopen.RTLD_NOW | RTLD_NODELETE);
    return true;
  } catch (error) {
    return error instanceof Error && /did not self-register/.test(error.message);
  }
}

// The npm packages: installed exactly as package-lock.json says, and only when they are not.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { root, run } from './processes.mjs';

/** @typedef {{ version?: string, integrity?: string, optional?: boolean }} LockedPackage */

/**
 * @param {(line: string) => void} log
 * @returns {Promise<void>}
 */
export async function installPackages(log) {
  if (areInstalled()) return;
  log('installing npm packages (npm ci)');
  // No package here needs its install script on Linux; compilers and linters ship their binaries as packages.
  const { code, output } = await run('npm', ['ci', '--include=dev', '--include=optional', '--ignore-scripts'], {
    output: 'capture',
  });
  if (code !== 0) throw new Error(`npm ci failed:\n${output}`);
}

/** Whether what npm says it installed is what the lockfile asks for. Packages of other platforms are optional. */
function areInstalled() {
  const installed = readPackages('node_modules/.package-lock.json');
  return Object.entries(readPackages('package-lock.json')).every(
    ([path, { version, integrity, optional }]) =>
      path === '' ||
      optional ||
      (installed[path]?.version === version &&
        installed[path]?.integrity === integrity &&
        existsSync(join(root, path, 'package.json'))),
  );
}

/**
 * @param {string} path of a lockfile
 * @returns {Record<string, LockedPackage>}
 */
function readPackages(path) {
  try {
    return JSON.parse(readFileSync(join(root, path), 'utf8')).packages;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code === 'ENOENT') return {};
    throw error;
  }
}

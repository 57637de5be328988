// Work that is done again only when its inputs changed: a stamp of their hash stands beside what it made.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { root } from './processes.mjs';

const stamps = join(root, 'build/stamps');
const lockPath = join(root, 'build/setup.lock');

/**
 * Does `work` unless `outputs` exist and were made from `inputs` as they are now.
 * @param {{
 *   name: string;
 *   inputs: readonly string[];
 *   outputs: readonly string[];
 *   work: () => Promise<void>;
 * }} step inputs: files and folders; those that do not exist count as empty
 */
export async function whenChanged({ name, inputs, outputs, work }) {
  const stamp = join(stamps, name);
  const hash = hashOf(inputs);
  const isCurrent = existsSync(stamp) && readFileSync(stamp, 'utf8') === hash;
  if (isCurrent && outputs.every((path) => existsSync(join(root, path)))) return;
  rmSync(stamp, { force: true });
  await work();
  mkdirSync(stamps, { recursive: true });
  writeFileSync(stamp, hash);
}

/** @param {readonly string[]} paths */
function hashOf(paths) {
  const hash = createHash('sha256').update(process.version);
  for (const path of paths.flatMap(filesOf)) {
    hash.update(`\0${path}\0`).update(readFileSync(join(root, path)));
  }
  return hash.digest('hex');
}

/**
 * @param {string} path
 * @returns {string[]}
 */
function filesOf(path) {
  const stat = statSync(join(root, path), { throwIfNoEntry: false });
  if (stat === undefined) return [];
  if (!stat.isDirectory()) return [path];
  return readdirSync(join(root, path))
    .sort()
    .flatMap((name) => filesOf(`${path}/${name}`));
}

/**
 * Lets one process of this clone at a time do `work`; a second one waits.
 * @template T
 * @param {(line: string) => void} log
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function oneAtATime(log, work) {
  mkdirSync(dirname(lockPath), { recursive: true });
  for (let waits = 0; !tryLock(); waits++) {
    if (waits === 0) log('waiting for another set-up of this clone');
    await sleep(200);
  }
  const unlock = () => rmSync(lockPath, { force: true });
  process.once('exit', unlock);
  try {
    return await work();
  } finally {
    process.removeListener('exit', unlock);
    unlock();
  }
}

function tryLock() {
  try {
    writeFileSync(lockPath, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (/** @type {NodeJS.ErrnoException} */ (error).code !== 'EEXIST') throw error;
    if (!isOwnerAlive()) rmSync(lockPath, { force: true });
    return false;
  }
}

/** A lock that is being written, or was just removed, counts as owned. */
function isOwnerAlive() {
  try {
    const pid = Number(readFileSync(lockPath, 'utf8'));
    if (pid > 0) process.kill(pid, 0);
    return true;
  } catch (error) {
    return /** @type {NodeJS.ErrnoException} */ (error).code !== 'ESRCH';
  }
}

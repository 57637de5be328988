// Child processes: each leads a process group of its own, so that an interrupt ends everything it started.

import { spawn } from 'node:child_process';
import { delimiter, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The repository's root; every command runs there. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** How long an interrupted group may take to close browsers and files before it is killed. */
const GRACE_MS = 5000;
const SIGNAL_NUMBERS = { SIGHUP: 1, SIGINT: 2, SIGTERM: 15 };

/** @type {Set<import('node:child_process').ChildProcess>} */
const running = new Set();
/** @type {number | null} */
let exitCodeOfInterrupt = null;

for (const [signal, number] of Object.entries(SIGNAL_NUMBERS)) {
  process.on(signal, () => {
    exitCodeOfInterrupt = 128 + number;
    if (running.size === 0) process.exit(exitCodeOfInterrupt);
    signalAll(/** @type {NodeJS.Signals} */ (signal));
    setTimeout(() => process.exit(128 + number), GRACE_MS);
  });
}
process.on('exit', () => signalAll('SIGKILL'));

/** @param {NodeJS.Signals} signal */
function signalAll(signal) {
  for (const child of running) {
    try {
      if (child.pid !== undefined) process.kill(-child.pid, signal);
    } catch {
      // The group has just ended by itself.
    }
  }
}

/**
 * Runs a command to its end.
 * @param {string} command
 * @param {readonly string[]} args
 * @param {{
 *   env?: Readonly<Record<string, string | undefined>>;
 *   output?: 'inherit' | 'capture';
 *   timeoutMs?: number;
 * }} [options] `capture` collects stdout and stderr instead of showing them; the rest is added to the environment
 * @returns {Promise<{ code: number, output: string }>} code 127 when the command cannot be started, 124 on a timeout
 */
export function run(command, args, { env = {}, output = 'inherit', timeoutMs = 0 } = {}) {
  return new Promise((resolve) => {
    const child = spawn(command, args, {
      cwd: root,
      detached: true,
      stdio: ['ignore', output === 'inherit' ? 'inherit' : 'pipe', output === 'inherit' ? 'inherit' : 'pipe'],
      // Commands of node_modules/.bin look for `node` on the path; it must be the one that runs this.
      env: { ...process.env, PATH: `${dirname(process.execPath)}${delimiter}${process.env['PATH'] ?? ''}`, ...env },
    });
    running.add(child);
    let text = '';
    let timedOut = false;
    child.stdout?.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    child.stderr?.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    const timer = timeoutMs
      ? setTimeout(() => {
          timedOut = true;
          if (child.pid !== undefined) process.kill(-child.pid, 'SIGKILL');
        }, timeoutMs)
      : undefined;
    /** @param {number} code */
    const finish = (code) => {
      clearTimeout(timer);
      running.delete(child);
      if (exitCodeOfInterrupt === null) resolve({ code, output: text });
      else if (running.size === 0) process.exit(exitCodeOfInterrupt);
    };
    child.on('error', (error) => {
      text += `${error.message}\n`;
      finish(127);
    });
    child.on('close', (code) => finish(timedOut ? 124 : (code ?? 1)));
  });
}

/**
 * Runs a command of node_modules/.bin.
 * @param {string} name
 * @param {readonly string[]} args
 * @param {Parameters<typeof run>[2]} [options]
 */
export function runTool(name, args, options) {
  return run(`${root}/node_modules/.bin/${name}`, args, options);
}

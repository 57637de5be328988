// npm start: sets up, serves the page on this machine, prints its address and opens a browser where there is one.
// --port N serves on that port; --no-open only prints.

import './node-version.mjs';
import { spawn } from 'node:child_process';
import { parseArgs } from 'node:util';
import { root } from './processes.mjs';
import { setUp } from './setup.mjs';

const DEFAULT_PORT = 4173;

try {
  const { values } = parseArgs({ options: { port: { type: 'string' }, 'no-open': { type: 'boolean' } } });
  await setUp();
  // Only now: the set-up may just have installed it.
  const { preview } = await import('vite');
  const server = await preview({
    root,
    mode: 'page',
    logLevel: 'warn',
    preview: {
      host: '127.0.0.1',
      port: values.port === undefined ? DEFAULT_PORT : Number(values.port),
      strictPort: values.port !== undefined,
    },
  });
  const address = server.resolvedUrls?.local[0];
  if (address === undefined) throw new Error('the server has no address');
  process.stdout.write(`samebits is at ${address}\nPress Ctrl+C to stop.\n`);
  if (!values['no-open']) openBrowser(address);
} catch (error) {
  process.stderr.write(`samebits start: ${error instanceof Error ? error.message : error}\n`);
  process.exit(1);
}

/**
 * Opens the address in the user's browser. Where there is none, the printed address has to do.
 * @param {string} address
 */
function openBrowser(address) {
  const opener = openerOfThisSystem();
  if (opener === null) return;
  const [command, ...args] = opener;
  const child = spawn(command, [...args, address], { stdio: 'ignore', detached: true });
  child.on('error', () => {});
  child.unref();
}

/** @returns {[string, ...string[]] | null} null where nothing could be seen: no display, or a test run */
function openerOfThisSystem() {
  if (process.env['CI'] || process.env['SSH_CONNECTION']) return null;
  if (process.platform === 'darwin') return ['open'];
  if (process.platform === 'win32') return ['cmd', '/c', 'start', ''];
  return process.env['DISPLAY'] || process.env['WAYLAND_DISPLAY'] ? ['xdg-open'] : null;
}

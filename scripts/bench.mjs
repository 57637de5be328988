// npm run bench: sets up, then `samebits bench` with the same arguments. Only the benchmark writes to stdout.

import './node-version.mjs';
import { join } from 'node:path';
import { root, run } from './processes.mjs';
import { setUp } from './setup.mjs';

try {
  await setUp();
} catch (error) {
  process.stderr.write(`samebits set-up: ${error instanceof Error ? error.message : error}\n`);
  process.exit(1);
}
const { code } = await run(process.execPath, [join(root, 'dist/node/cli.js'), 'bench', ...process.argv.slice(2)]);
process.exit(code);

// Everything between a fresh clone and a running samebits: npm packages, the CUDA addon and dist/.

import './node-version.mjs';
import { chmodSync, existsSync, readdirSync, realpathSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { buildAddon } from './build-addon.mjs';
import { installPackages } from './npm-packages.mjs';
import { root, run, runTool } from './processes.mjs';
import { oneAtATime, whenChanged } from './up-to-date.mjs';

const SOURCES = [
  ...['core', 'shaders', 'cuda', 'node', 'web'],
  ...['package.json', 'package-lock.json', 'tsconfig.json', 'tsconfig.types.json', 'vite.config.ts'],
  ...['scripts/kernel-sources.mjs', 'scripts/page-records.mjs', 'scripts/wasm-kernels.mjs'],
];

/** The real model of the tests, and the one file that the page reads: packed, with its tokenizer. */
const SMALL_MODEL = 'tests/data/gemma4-kjv-6m';
export const PACKED_MODEL = 'build/gemma4-kjv-6m.safetensors';

/**
 * Brings this clone up to date. Does nothing, in a fraction of a second, when it is.
 * @param {(line: string) => void} [log]
 */
export async function setUp(log = (line) => process.stderr.write(`samebits set-up: ${line}\n`)) {
  await oneAtATime(log, async () => {
    await installPackages(log);
    await Promise.all([buildAddon({ log }), buildPackage(log)]);
  });
}

/**
 * dist/, in the order in which one part needs another. The addon is none of them.
 * @param {(line: string) => void} log
 */
async function buildPackage(log) {
  await whenChanged({
    name: 'library',
    inputs: SOURCES,
    outputs: [
      ...['core/index.js', 'shaders/index.js', 'web/index.js'],
      ...['node/index.js', 'node/cli.js', 'node/soak_worker.js', 'node/convert_worker.js'],
    ].map((path) => `dist/${path}`),
    work: () => buildLibrary(log),
  });
  await whenChanged({
    name: 'types',
    inputs: SOURCES,
    outputs: ['dist/types/core/index.d.ts', 'dist/types/node/index.d.ts'],
    work: () => buildTypes(log),
  });
  await whenChanged({
    name: 'small-model',
    inputs: [...SOURCES, SMALL_MODEL],
    outputs: [PACKED_MODEL],
    work: () => packSmallModel(log),
  });
  await whenChanged({
    name: 'page',
    inputs: [...SOURCES, SMALL_MODEL, 'tests/data/records', 'tests/data/verses'],
    outputs: ['dist/page/index.html'],
    work: () => build(log, 'the page, dist/page', 'vite', ['build', '--mode', 'page']),
  });
}

/** @param {(line: string) => void} log */
async function buildLibrary(log) {
  const others = new Set(['cuda', 'types', 'page']);
  const dist = join(root, 'dist');
  for (const name of existsSync(dist) ? readdirSync(dist) : []) {
    if (!others.has(name)) rmSync(join(dist, name), { recursive: true });
  }
  await build(log, 'the library, dist', 'vite', ['build']);
  // `npx samebits` in the clone runs the package's own command, which must then be executable.
  chmodSync(join(dist, 'node/cli.js'), 0o755);
}

/** @param {(line: string) => void} log */
async function packSmallModel(log) {
  log(`packing the small model, ${PACKED_MODEL}`);
  const args = [join(root, 'dist/node/cli.js'), 'convert', SMALL_MODEL, PACKED_MODEL, '--force'];
  const { code, output } = await run(process.execPath, args, { output: 'capture' });
  if (code !== 0) throw new Error(`samebits convert ${SMALL_MODEL} failed:\n${output}`);
}

/** @param {(line: string) => void} log */
async function buildTypes(log) {
  rmSync(join(root, 'dist/types'), { recursive: true, force: true });
  await build(log, 'type declarations, dist/types', 'tsc', ['--project', 'tsconfig.types.json']);
}

/**
 * @param {(line: string) => void} log
 * @param {string} what
 * @param {string} tool
 * @param {readonly string[]} args
 */
async function build(log, what, tool, args) {
  log(`building ${what}`);
  const { code, output } = await runTool(tool, args, { output: 'capture' });
  if (code !== 0) throw new Error(`${tool} ${args.join(' ')} failed:\n${output}`);
}

if (realpathSync(process.argv[1] ?? '') === import.meta.filename) {
  try {
    await setUp();
    process.stderr.write('samebits set-up: up to date\n');
  } catch (error) {
    process.stderr.write(`samebits set-up: ${error instanceof Error ? error.message : error}\n`);
    process.exit(1);
  }
}

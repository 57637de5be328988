// Builds dist/cuda/samebits_cuda.node with nvcc, one binary for every supported GPU. Without nvcc: says so and is done.
// SAMEBITS_CUDA_ARCHS=90 (comma-separated) builds for fewer GPUs, in a fraction of the time.

import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { kernelSourcesSha256 } from './kernel-sources.mjs';
import { root, run } from './processes.mjs';

/** Older ones have not been tried. */
const OLDEST_CUDA = 12.3;

/** Turing to Blackwell; PTX of the newest carries the kernels to GPUs that do not exist yet. */
const ARCHITECTURES = ['75', '80', '86', '89', '90', '100', '120'];

const source = join(root, 'cuda');
const folder = join(root, 'dist/cuda');
const output = join(folder, 'samebits_cuda.node');
const stamp = join(folder, 'samebits_cuda.stamp');
const includes = ['node-addon-api', 'node-api-headers/include'].map((path) => join(root, 'node_modules', path));

/**
 * Builds the addon unless it is up to date, or cannot be built here.
 * @param {{ log: (line: string) => void }} options
 * @returns {Promise<{ outcome: 'built' | 'upToDate' | 'skipped', reason: string }>}
 * @throws Error with the compiler's output when the build fails
 */
export async function buildAddon({ log }) {
  const plan = await planBuild();
  if ('missing' in plan) {
    log(`CUDA is skipped: ${plan.missing}`);
    return { outcome: 'skipped', reason: plan.missing };
  }
  const { nvcc, architectures, hash } = plan;
  const names = architectures.map((architecture) => `sm_${architecture}`).join(', ');
  if (existsSync(output) && existsSync(stamp) && readFileSync(stamp, 'utf8') === hash) {
    return { outcome: 'upToDate', reason: `built for ${names}` };
  }
  log(`building the CUDA addon for ${names}`);
  mkdirSync(folder, { recursive: true });
  rmSync(stamp, { force: true });
  const temporary = join(folder, `samebits_cuda.${process.pid}.tmp`);
  const built = await run(nvcc, compileArguments(architectures, temporary), { output: 'capture' });
  if (built.code !== 0) {
    rmSync(temporary, { force: true });
    throw new Error(`building the CUDA addon failed:\n${built.output}`);
  }
  renameSync(temporary, output);
  writeFileSync(stamp, hash);
  return { outcome: 'built', reason: `built for ${names}` };
}

/** @returns {Promise<{ nvcc: string, architectures: string[], hash: string } | { missing: string }>} */
async function planBuild() {
  if (process.platform !== 'linux' || !['x64', 'arm64'].includes(process.arch)) {
    return {
      missing: `the addon is built on Linux x64 and arm64 only, and this is ${process.platform} ${process.arch}`,
    };
  }
  const nvcc = findOnPath('nvcc', [
    ...(process.env['CUDA_HOME'] ? [join(process.env['CUDA_HOME'], 'bin')] : []),
    '/usr/local/cuda/bin',
  ]);
  if (!nvcc) return { missing: 'nvcc is not on PATH, in CUDA_HOME or in /usr/local/cuda/bin' };
  if (!process.env['NVCC_CCBIN'] && !findOnPath('g++', [])) return { missing: 'nvcc needs g++, which is not on PATH' };
  if (!includes.every((path) => existsSync(path))) {
    return { missing: "node-addon-api and node-api-headers are not installed; run 'npm install'" };
  }
  const version = await run(nvcc, ['--version'], { output: 'capture' });
  const listed = await run(nvcc, ['--list-gpu-code'], { output: 'capture' });
  const release = Number(/release (\d+\.\d+)/.exec(version.output)?.[1] ?? 0);
  if (version.code !== 0 || listed.code !== 0 || release < OLDEST_CUDA) {
    return { missing: `${nvcc} does not run, or is older than CUDA ${OLDEST_CUDA}` };
  }
  const asked = process.env['SAMEBITS_CUDA_ARCHS']?.split(',') ?? ARCHITECTURES;
  const architectures = asked.filter((architecture) => listed.output.split(/\s+/).includes(`sm_${architecture}`));
  if (architectures.length === 0) return { missing: `${nvcc} compiles for none of sm_${asked.join(', sm_')}` };
  return { nvcc, architectures, hash: hashOf([nvcc, version.output, ...architectures]) };
}

/**
 * @param {string} name
 * @param {readonly string[]} moreFolders
 */
function findOnPath(name, moreFolders) {
  const folders = [...(process.env['PATH'] ?? '').split(delimiter).filter((path) => path !== ''), ...moreFolders];
  return folders.map((path) => join(path, name)).find((path) => existsSync(path));
}

/**
 * @param {readonly string[]} architectures
 * @param {string} to
 */
function compileArguments(architectures, to) {
  const newest = architectures.at(-1);
  return [
    ...['-shared', '-cudart', 'static', '-std=c++17', '-O3', '--threads', '0'],
    ...architectures.flatMap((architecture) => ['-gencode', `arch=compute_${architecture},code=sm_${architecture}`]),
    ...['-gencode', `arch=compute_${newest},code=compute_${newest}`],
    ...['-Xcompiler', '-fPIC,-fvisibility=hidden,-Wall,-Wextra', '-Xlinker', '--exclude-libs=ALL'],
    ...['-DNAPI_VERSION=8', '-DNAPI_CPP_EXCEPTIONS', '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS'],
    `-DSAMEBITS_SOURCES_SHA256="${kernelSourcesSha256('cuda')}"`,
    ...includes.flatMap((path) => ['-isystem', path]),
    ...sourceFiles().filter((path) => path.endsWith('.cu') || path.endsWith('.cc')),
    ...['-o', to],
  ];
}

function sourceFiles() {
  return readdirSync(source)
    .sort()
    .map((name) => join(source, name));
}

/** @param {readonly string[]} toolchain */
function hashOf(toolchain) {
  const hash = createHash('sha256').update(toolchain.join('\0'));
  const packages = ['node-addon-api', 'node-api-headers'].map((name) =>
    join(root, 'node_modules', name, 'package.json'),
  );
  for (const path of [...sourceFiles(), ...packages, import.meta.filename]) {
    hash.update(`\0${path}\0`).update(readFileSync(path));
  }
  return hash.digest('hex');
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const { outcome, reason } = await buildAddon({ log: (line) => process.stderr.write(`${line}\n`) });
  if (outcome !== 'skipped')
    process.stderr.write(`CUDA addon ${outcome === 'built' ? 'built' : 'up to date'}: ${reason}\n`);
}

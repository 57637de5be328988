// Builds native code of cuda/ for the host with g++, for tests on machines without a GPU.

import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { basename, join } from 'node:path';
import { promisify } from 'node:util';
import { oneAtATime } from '../../scripts/up-to-date.mjs';

const root = join(import.meta.dirname, '../..');
const output = join(root, 'build/on_host');

export type HostBuild = { readonly path: string } | { readonly missing: string };

/** The addon with its kernels, against tests/native/cuda_runtime.h instead of CUDA: every call runs on this machine. */
export function buildAddonOnHost(): Promise<HostBuild> {
  const packages = ['node-addon-api', 'node-api-headers/include'].map((path) => join(root, 'node_modules', path));
  const sources = readdirSync(join(root, 'cuda')).filter((name) => /\.(cc|cu)$/.test(name));
  return build({
    name: 'samebits_cuda.node',
    sources: sources.map((name) => join(root, 'cuda', name)),
    flags: [
      '-fPIC',
      '-DNAPI_VERSION=8',
      '-DNAPI_CPP_EXCEPTIONS',
      '-DNODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS',
      '-DSAMEBITS_SOURCES_SHA256="on the host"',
      ...packages.flatMap((path) => ['-isystem', path]),
    ],
    linkFlags: ['-shared'],
  });
}

/** One program of this folder, with files of cuda/ and more flags where it needs them. */
export function buildProgramOnHost(
  name: string,
  { sources = [], flags = [] }: { readonly sources?: readonly string[]; readonly flags?: readonly string[] } = {},
): Promise<HostBuild> {
  const paths = [join(import.meta.dirname, name), ...sources.map((source) => join(root, 'cuda', source))];
  return build({ name: name.replace(/\.cc$/, ''), sources: paths, flags, linkFlags: flags });
}

interface Target {
  readonly name: string;
  readonly sources: readonly string[];
  readonly flags: readonly string[];
  readonly linkFlags: readonly string[];
}

/** Of the compiler and of the linker. */
const CHECKS = ['-fsanitize=undefined', '-fno-sanitize-recover=all'];
const FLAGS = [
  ...['-std=c++17', '-O1', '-Wall', '-Wextra', ...CHECKS],
  '-U_FORTIFY_SOURCE', // its longjmp takes a switch of fibers for an overflow
];

/** Compiles with the checks of -fsanitize=undefined, into build/, unless the same sources were compiled before. */
async function build(target: Target): Promise<HostBuild> {
  const { name, sources, flags, linkFlags } = target;
  const includes = ['tests/native', 'cuda'].flatMap((path) => ['-I', join(root, path)]);
  const hash = createHash('sha256').update(JSON.stringify([target, FLAGS]));
  for (const folder of [import.meta.dirname, join(root, 'cuda')]) {
    for (const file of readdirSync(folder).sort()) {
      if (/\.(cc|cu|cuh|h|hpp)$/.test(file)) hash.update(file).update(readFileSync(join(folder, file)));
    }
  }
  const folder = join(output, hash.digest('hex').slice(0, 16));
  const path = join(folder, name);
  if (existsSync(path)) return { path };
  const compile = (args: readonly string[]) => promisify(execFile)('g++', args);
  // Test files run at the same time and want the same build.
  return oneAtATime(
    () => {},
    async () => {
      if (existsSync(path)) return { path };
      mkdirSync(folder, { recursive: true });
      const temporary = `${path}.${process.pid}`;
      const objects = sources.map((source) => `${temporary}.${basename(source)}.o`);
      try {
        // The largest first, so that no core is left with it at the end.
        const waiting = sources
          .map((source, i) => ({ source, object: objects[i]!, sizeBytes: statSync(source).size }))
          .sort((a, b) => b.sizeBytes - a.sizeBytes);
        const worker = async () => {
          for (let next = waiting.shift(); next; next = waiting.shift()) {
            await compile([...FLAGS, ...flags, ...includes, '-x', 'c++', '-c', next.source, '-o', next.object]);
          }
        };
        await Promise.all(Array.from({ length: availableParallelism() }, worker));
        await compile([...CHECKS, ...linkFlags, ...objects, '-o', temporary]);
      } catch (error) {
        const isAbsent = error instanceof Error && 'code' in error && error.code === 'ENOENT';
        if (isAbsent) return { missing: 'g++ is not installed' };
        throw error;
      } finally {
        for (const object of objects) rmSync(object, { force: true });
      }
      renameSync(temporary, path);
      return { path };
    },
  );
}

/** Run once before all test files, which would wait for it in the time of their first tests. */
export async function setup(): Promise<void> {
  await buildAddonOnHost();
}

// Where a recorded benchmark comes from: version, commit, command, date.

import { execFileSync } from 'node:child_process';
import { realpathSync } from 'node:fs';
import { join } from 'node:path';
import { version } from '../../package.json';

export interface Provenance {
  readonly samebits: string;
  /** Of the clone that this runs from, `-dirty` when files differ from it; null in an npm install. */
  readonly commit: string | null;
  readonly cudaSourcesSha256: string;
  readonly shaderSourcesSha256: string;
  readonly node: string;
  readonly date: string;
  readonly command: string;
}

/** The same from `dist/node` as from the sources. */
const ROOT = join(import.meta.dirname, '../..');

export function provenance(argv: readonly string[] = process.argv.slice(2)): Provenance {
  return {
    samebits: version,
    commit: process.env['SAMEBITS_COMMIT'] ?? commitOf(ROOT),
    cudaSourcesSha256: __CUDA_SOURCES_SHA256__,
    shaderSourcesSha256: __SHADER_SOURCES_SHA256__,
    node: process.version,
    date: new Date().toISOString(),
    command: ['samebits', ...argv].join(' '),
  };
}

/** Only of a clone whose top `folder` is: an installed package lies in somebody else's. */
export function commitOf(folder: string): string | null {
  const git = (...args: string[]) =>
    execFileSync('git', ['-C', folder, ...args], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  try {
    if (realpathSync(git('rev-parse', '--show-toplevel')) !== realpathSync(folder)) return null;
    return git('describe', '--always', '--dirty', '--abbrev=40', '--exclude=*');
  } catch {
    return null;
  }
}

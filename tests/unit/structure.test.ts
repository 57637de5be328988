// The house rules that a machine can hold: who imports whom, how long and how named files are, kernels in twins.

import { readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, extname, join, relative, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';

const root = resolve(import.meta.dirname, '../..');
const HOUSE = ['core', 'shaders', 'cuda', 'node', 'web'] as const;
type Room = (typeof HOUSE)[number];

/** What each room may import of ours, besides itself. */
const MAY_IMPORT: Readonly<Record<Exclude<Room, 'cuda'>, readonly string[]>> = {
  core: [],
  shaders: ['core'],
  node: ['core', 'shaders'],
  web: ['core', 'shaders'],
};
const MAX_LINES = 350;
const NAMELESS = /^(utils?|helpers?|common|misc)$/;
const KERNEL_LABELS = ['Math:', 'Layout:', 'Threads:', 'Traffic:', 'Numerics:', 'Limits:'];
const PLATFORM_GLOBALS = /\b(?:document|window|navigator|process|Buffer)\.|\bGPU[A-Z]\w+/;

const filesIn = (room: string, ...endings: string[]): string[] =>
  readdirSync(join(root, room), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && (endings.length === 0 || endings.includes(extname(entry.name))))
    .map((entry) => relative(root, join(entry.parentPath, entry.name)))
    .sort();

const textOf = (path: string): string => readFileSync(join(root, path), 'utf8');

/** Strings are matched too, so that a comment sign in one (a glob, a URL) is left alone. */
const withoutComments = (code: string): string =>
  code.replace(
    /('(?:\\.|[^'\\\n])*'|"(?:\\.|[^"\\\n])*"|`(?:\\.|[^`\\])*`)|\/\*[\s\S]*?\*\/|\/\/.*$/gm,
    (_, text) => text ?? '',
  );

/** Every module that a TypeScript file names: static, dynamic and type imports, re-exports, globs, URLs of its own. */
function importsOf(code: string): string[] {
  const specifier =
    /(?:\bfrom|\bimport)\s*'([^']+)'|\bimport\(\s*'([^']+)'|\bimport\.meta\.glob\w*(?:<[^(]*>)?\(\s*'([^']+)'|\bnew URL\(\s*'([^']+)'/g;
  return [...withoutComments(code).matchAll(specifier)].map((match) => match.slice(1).find((found) => found)!);
}

describe('imports', () => {
  test('every form of import is seen, and comments are not', () => {
    const code = `
      import { a } from './a.js'; import './b.js'; export * from './c.js'; import type { D } from './d.js';
      await import('./e.js'); import.meta.glob('./f/*.json'); new Worker(new URL('./g.js', import.meta.url));
      // import './not.js';
      /* import './neither.js' */ const url = 'https://example.org/x';
    `;
    expect(importsOf(code)).toEqual(['./a.js', './b.js', './c.js', './d.js', './e.js', './f/*.json', './g.js']);
  });

  test.each(Object.entries(MAY_IMPORT))('%s imports only what it may: itself and [%s]', (room, allowed) => {
    const files = filesIn(room, '.ts');
    expect(files).not.toHaveLength(0);
    const broken = files.flatMap((path) =>
      importsOf(textOf(path))
        .filter((specifier) => specifier.startsWith('.'))
        .map((specifier) => ({ path, target: relative(root, resolve(root, dirname(path), specifier)) }))
        .filter(({ target }) => (HOUSE as readonly string[]).includes(target.split('/')[0]!))
        .filter(({ target }) => ![room, ...allowed].includes(target.split('/')[0]!)),
    );
    expect(broken).toEqual([]);
  });

  test.each(['core', 'shaders', 'web'])('%s imports no Node module', (room) => {
    const broken = filesIn(room, '.ts').filter((path) =>
      importsOf(textOf(path)).some((specifier) => specifier.startsWith('node:')),
    );
    expect(broken).toEqual([]);
  });

  test('core uses no GPU, Node or DOM API', () => {
    const broken = filesIn('core', '.ts').filter((path) => PLATFORM_GLOBALS.test(withoutComments(textOf(path))));
    expect(broken).toEqual([]);
  });
});

describe('files', () => {
  const files = HOUSE.flatMap((room) => filesIn(room));

  test(`none is longer than ${MAX_LINES} lines`, () => {
    const long = files
      .map((path) => ({ path, lines: textOf(path).split('\n').length - 1 }))
      .filter(({ lines }) => lines > MAX_LINES);
    expect(long).toEqual([]);
  });

  test('each is named for what it does', () => {
    const nameless = [...files, ...filesIn('scripts')].filter((path) =>
      path.split(/[/._-]/).some((word) => NAMELESS.test(word)),
    );
    expect(nameless).toEqual([]);
  });

  test.each(HOUSE)('%s: each says in its first lines what it is', (room) => {
    const silent = filesIn(room, '.ts', '.cu', '.cuh', '.h', '.hpp', '.cc', '.wgsl').filter(
      (path) => !/^(?:#!.*\n)?\s*\/[/*]/.test(textOf(path)),
    );
    expect(silent).toEqual([]);
  });
});

describe('kernels', () => {
  const wgsl = filesIn('shaders', '.wgsl').filter(
    (path) => !/^(?:dot4|reduce|block)_|_linear\.wgsl$|^elementary\.wgsl$/.test(basename(path)),
  );
  const cuda = filesIn('cuda', '.cu', '.cuh').filter((path) => /\b__global__\b/.test(withoutComments(textOf(path))));
  const stems = (paths: readonly string[]) => paths.map((path) => basename(path, extname(path))).sort();

  /**
   * What only CUDA has: weights put in the order of its tensor cores, what the benchmark compares with, and scores of queries
   * that share their keys in registers; WGSL has them in attention_chunks.
   */
  const ALONE = ['attention_scores', 'baseline_mm', 'tile_weight'];

  test('come in twins with the same stem', () => {
    expect(wgsl).not.toHaveLength(0);
    expect(stems(cuda).filter((stem) => !ALONE.includes(stem))).toEqual(stems(wgsl));
  });

  test.each([...wgsl, ...cuda])('%s opens with a header that has every label in order', (path) => {
    const header = /^(?:[ \t]*(?:\/\/.*|\/?\*.*)?\n)*/.exec(textOf(path))![0];
    const found = KERNEL_LABELS.map((label) => header.search(new RegExp(`\\b${label}`)));
    expect(found.filter((at) => at < 0)).toEqual([]);
    expect(found).toEqual([...found].sort((a, b) => a - b));
  });
});

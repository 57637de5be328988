// Compiles AssemblyScript to WebAssembly for Vite: `import module from './index.ts?wasm'` gives the module's bytes.

import { execFile } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const SUFFIX = '?wasm';
const COMPILER = fileURLToPath(new URL('../node_modules/assemblyscript/bin/asc.js', import.meta.url));
/** Fixed features and optimization: the same sources give the same bytes. The memory comes from outside, zeroed. */
const OPTIONS = ['-O3', '--noAssert', '--enable', 'simd', '--runtime', 'stub', '--importMemory', '--zeroFilledMemory'];
/** That v128 cannot be passed to JavaScript; it passes between files only. */
const SILENT = ['--disableWarning', '112'];

/** By the sources that went in: a page and its worker want the same module. @type {Map<string, Promise<number[]>>} */
const compiled = new Map();

/** @returns {import('vite').Plugin} */
export function wasmKernels() {
  return {
    name: 'wasm-kernels',
    enforce: 'pre',
    async load(id) {
      if (!id.endsWith(SUFFIX)) return undefined;
      const path = id.slice(0, -SUFFIX.length);
      const sources = readdirSync(dirname(path)).map((name) => join(dirname(path), name));
      for (const source of sources) this.addWatchFile(source);
      const key = sources.map((source) => readFileSync(source, 'utf8')).join('\0');
      const bytes = compiled.get(key) ?? compile(path);
      compiled.set(key, bytes);
      return `export default new Uint8Array([${await bytes}]);`;
    },
  };
}

/** @param {string} path */
async function compile(path) {
  const folder = mkdtempSync(join(tmpdir(), 'samebits-kernels-'));
  try {
    const outFile = join(folder, 'module.wasm');
    const args = [COMPILER, basename(path), '--outFile', outFile, ...OPTIONS, ...SILENT];
    const { stderr } = await promisify(execFile)(process.execPath, args, { cwd: dirname(path) });
    if (stderr !== '') throw new Error(`${path} compiles with warnings:\n${stderr}`);
    return [...readFileSync(outFile)];
  } finally {
    rmSync(folder, { recursive: true });
  }
}

// Converting with several threads: the same bytes, the same report, the same errors, and memory within its bound.

import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  ftruncateSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import type { ConversionReport } from '../../core/index.js';
import { convertFile as convertFromSources } from '../../node/file_convert.js';
import { setUp } from '../../scripts/setup.mjs';
import { entry, fileBytes, refusal } from './checkpoint_bytes.js';

const root = resolve(import.meta.dirname, '../..');
const MODEL = join(root, 'tests/data/gemma4-kjv-6m');
const cli = join(root, 'dist/node/cli.js');
const library = pathToFileURL(join(root, 'dist/node/index.js')).href;

let convertFile: typeof import('../../node/index.js').convertFile;
let folder: string;
let out: string;

// Threads run files, so what is tested is what is built.
beforeAll(async () => {
  await setUp(() => {});
  ({ convertFile } = await import(library));
}, 300_000);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'samebits-threads-'));
  mkdirSync(join(folder, 'out'));
  out = join(folder, 'out', 'model.safetensors');
});

afterEach(() => rmSync(folder, { recursive: true }));

const untimed = (report: ConversionReport) => ({
  ...report,
  tensors: report.tensors.map((tensor) => ({ ...tensor, elapsedMs: 0 })),
});

/** Six linears; those of the given indices end in a NaN. */
function writeModel(broken: readonly number[]): string {
  const path = join(folder, 'model.safetensors');
  const sizeBytes = 64 * 64 * 2;
  const data = new Uint8Array(6 * sizeBytes).fill(0x3c);
  for (const index of broken) data.fill(0xff, (index + 1) * sizeBytes - 2, (index + 1) * sizeBytes);
  const names = ['a', 'b', 'c', 'd', 'e', 'f'];
  const entries = names.map((name, i) => entry(`${name}.weight`, 'BF16', [64, 64], i * sizeBytes, (i + 1) * sizeBytes));
  writeFileSync(path, fileBytes(`{${entries.join()}}`, data));
  return path;
}

/** Twelve GPTQ weights of 70 MB that take no room on disk: zeros that were never written. */
function writeLargeModel(): void {
  const [n, k, g] = [16_384, 8192, 64];
  const parts = Array.from({ length: 12 }, (_, i) => [
    { name: `m${i}.qweight`, dtype: 'I32', shape: [k / 8, n], sizeBytes: (k * n) / 2 },
    { name: `m${i}.qzeros`, dtype: 'I32', shape: [g, n / 8], sizeBytes: (g * n) / 2 },
    { name: `m${i}.scales`, dtype: 'F16', shape: [g, n], sizeBytes: 2 * g * n },
  ]).flat();
  let end = 0;
  const entries = parts.map(({ name, dtype, shape, sizeBytes }) => {
    end += sizeBytes;
    return entry(name, dtype, shape, end - sizeBytes, end);
  });
  const header = fileBytes(`{${entries.join()}}`);
  const file = openSync(join(folder, 'model.safetensors'), 'w');
  writeSync(file, header);
  ftruncateSync(file, header.length + end);
  closeSync(file);
  writeFileSync(
    join(folder, 'config.json'),
    '{"quantization_config":{"quant_method":"gptq","bits":4,"checkpoint_format":"gptq_v2"}}',
  );
}

describe('with several threads', () => {
  test.each([2, 3, 8])('%i threads write the bytes and give the report of one', async (threads) => {
    const alone = await convertFile(MODEL, `${out}.1`, { threads: 1 });
    const progress: number[] = [];
    const together = await convertFile(MODEL, out, {
      threads,
      onProgress: ({ doneBytes }) => progress.push(doneBytes),
    });
    expect(Buffer.compare(readFileSync(out), readFileSync(`${out}.1`))).toBe(0);
    expect(untimed(together)).toEqual(untimed(alone));
    expect(progress).toEqual([...progress].sort((a, b) => a - b));
    expect(progress.at(-1)).toBe(alone.sourceBytes);
  });

  test('options reach every thread', async () => {
    const options = { groupSize: 64, symmetric: true, exclude: ['*.mlp.*'] };
    await convertFile(MODEL, `${out}.1`, { ...options, threads: 1 });
    await convertFile(MODEL, out, { ...options, threads: 3 });
    expect(Buffer.compare(readFileSync(out), readFileSync(`${out}.1`))).toBe(0);
  });

  test('a dry run reports the same and writes nothing', async () => {
    const wet = await convertFile(MODEL, out, { threads: 2 });
    rmSync(out);
    expect(untimed(await convertFile(MODEL, out, { threads: 2, dryRun: true }))).toEqual(untimed(wet));
    expect(readdirSync(join(folder, 'out'))).toEqual([]);
  });

  test.each([[[3]], [[3, 5]], [[5, 3, 4]]])('of tensors %j that are broken, the first is named', async (broken) => {
    const source = writeModel(broken);
    writeFileSync(out, 'precious');
    const refused = {
      name: 'SamebitsError',
      code: 'WEIGHT_NOT_FINITE',
      message: expect.stringContaining('"d.weight"'),
    };
    await expect(convertFile(source, out, { threads: 3, overwrite: true })).rejects.toMatchObject(refused);
    expect(readdirSync(join(folder, 'out'))).toEqual(['model.safetensors']);
    expect(readFileSync(out, 'utf8')).toBe('precious');
  });

  test('an abort ends it with its reason and leaves nothing', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    let calls = 0;
    const onProgress = () => {
      calls++;
      controller.abort(reason);
    };
    const running = convertFile(MODEL, out, { threads: 2, signal: controller.signal, onProgress });
    await expect(running).rejects.toBe(reason);
    expect(calls).toBe(1);
    expect(readdirSync(join(folder, 'out'))).toEqual([]);
  });

  test('a progress callback that throws ends it too', async () => {
    const reason = new Error('full');
    const onProgress = () => {
      throw reason;
    };
    await expect(convertFile(MODEL, out, { threads: 2, onProgress })).rejects.toBe(reason);
    expect(readdirSync(join(folder, 'out'))).toEqual([]);
  });

  test.each([0, -1, 1.5, Number.NaN])('%d threads are refused', async (threads) => {
    await expect(convertFile(MODEL, out, { threads })).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
    expect(readdirSync(join(folder, 'out'))).toEqual([]);
  });

  test('several are refused where their worker is not built', async () => {
    expect((await refusal(() => convertFromSources(MODEL, out, { threads: 2 }))).code).toBe('ARGUMENT_INVALID');
    expect((await convertFromSources(MODEL, out)).packedCount).toBe(42);
  });

  test('a source that changes between the threads is noticed', async () => {
    const source = writeModel([]);
    const running = convertFile(source, out, { threads: 2 });
    // Between the plan and the threads' own: the temporary file is there, and no thread can have started yet.
    while (readdirSync(join(folder, 'out')).length === 0) await new Promise((next) => setImmediate(next));
    const bytes = readFileSync(source);
    bytes[bytes.indexOf('f.weight')] = 'g'.charCodeAt(0);
    writeFileSync(source, bytes);
    await expect(running).rejects.toMatchObject({ name: 'SamebitsError', code: 'FILE_UNREADABLE' });
    expect(readdirSync(join(folder, 'out'))).toEqual([]);
  });

  test('Ctrl-C ends all of them and leaves nothing', async () => {
    writeLargeModel();
    const child = spawn(process.execPath, [cli, 'convert', folder, out, '--threads', '3']);
    let stderr = '';
    child.stderr.on('data', (text) => {
      if (stderr === '') child.kill('SIGINT');
      stderr += text;
    });
    const [code] = await once(child, 'close');
    expect(code).toBe(130);
    expect(stderr).toMatch(/% of 836\.8 MB[\s\S]*interrupted by SIGINT; nothing was written/);
    expect(readdirSync(join(folder, 'out'))).toEqual([]);
  });

  test('eight threads on matrices that are read by columns stay below 1 GiB', () => {
    writeLargeModel();
    const code = `import { convertFile } from ${JSON.stringify(library)};
      const { packedCount } = await convertFile(${JSON.stringify(folder)}, 'nothing', { threads: 8, dryRun: true });
      process.stdout.write(JSON.stringify({ packedCount, maxKiB: process.resourceUsage().maxRSS }));`;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', code], { encoding: 'utf8' });
    expect(stderr).toBe('');
    const { packedCount, maxKiB } = JSON.parse(stdout);
    expect(packedCount).toBe(12);
    expect(maxKiB).toBeLessThan(2 ** 20);
  });
});

// samebits convert and samebits inspect as commands: what they print, what they leave on disk, how they end.

import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { registerConvert } from '../../node/commands/convert.js';
import { registerInspect } from '../../node/commands/inspect.js';
import { convertFile } from '../../node/file_convert.js';
import { AtomicFile } from '../../node/file_sink.js';
import { entry, fileBytes, refusal } from './checkpoint_bytes.js';

const MODEL = join(import.meta.dirname, '../data/gemma4-kjv-6m');

/** Two linears, one of which names a tensor that would move a terminal's cursor. */
const SMALL = fileBytes(
  `{${entry('a.q_proj.weight', 'BF16', [4, 32], 0, 256)},${entry('\u001b[2J.weight', 'BF16', [4, 32], 256, 512)}}`,
  new Uint8Array(512).fill(0x3f),
);

const PLAIN_FORM = { kind: 'zero', dtype: 'bf16', center: 0 };

let folder: string;
let out: string;
let source: string;
const written = { stdout: '', stderr: '' };
let onStderr: (text: string) => void;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'samebits-convert-'));
  mkdirSync(join(folder, 'model'));
  source = join(folder, 'model', 'model.safetensors');
  writeFileSync(source, SMALL);
  out = join(folder, 'out.safetensors');
  Object.assign(written, { stdout: '', stderr: '' });
  onStderr = () => {};
  for (const name of ['stdout', 'stderr'] as const) {
    vi.spyOn(process[name], 'write').mockImplementation((text) => {
      written[name] += String(text);
      if (name === 'stderr') onStderr(String(text));
      return true;
    });
  }
});

afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
  process.exitCode = undefined;
});

/** Runs the command line; gives the exit code that it set. */
async function run(...argv: string[]) {
  const program = new Command().exitOverride();
  registerConvert(program);
  registerInspect(program);
  await program.parseAsync(argv, { from: 'user' });
  return process.exitCode;
}

describe('convert', () => {
  test('writes the file and says what became of every tensor', async () => {
    expect(await run('convert', join(folder, 'model'), out)).toBeUndefined();
    expect(existsSync(out)).toBe(true);
    expect(written.stdout).toMatch(/a\.q_proj\.weight +BF16 +4 x 32 +32 +packed: linear +\d+\.\d\d %/);
    expect(written.stdout).toContain('2 packed weights');
    expect(written.stderr).toMatch(/^\d+% of 0\.0 MB, \d+ MB\/s\n/);
    expect(readdirSync(folder).sort()).toEqual(['model', 'out.safetensors']);
  });

  test('names that would harm a terminal are escaped', async () => {
    await run('convert', source, out);
    await run('inspect', out);
    expect(written.stdout).toContain('\\u001b[2J.weight');
    expect(written.stdout).not.toContain('\u001b');
  });

  test('--json prints the report and nothing else', async () => {
    await run('convert', source, out, '--json', '--symmetric', '--group-size', '16', '--exclude', 'a.*');
    const report = JSON.parse(written.stdout);
    expect(report).toMatchObject({ out, dryRun: false, packedCount: 1, sourceBytes: 512 });
    expect(report.tensors[0]).toMatchObject({ name: 'a.q_proj.weight', keptPlain: true, reason: 'excluded' });
    expect(report.tensors[1].packed).toEqual({ n: 4, k: 32, groupSize: 16, nGroups: 2, form: PLAIN_FORM });
    expect(report.outputBytes).toBe(readFileSync(out).length);
  });

  test('--dry-run reports the same and writes nothing', async () => {
    await run('convert', source, out, '--json', '--dry-run');
    expect(readdirSync(folder)).toEqual(['model']);
    const dry = JSON.parse(written.stdout);
    written.stdout = '';
    await run('convert', source, out, '--json');
    const untimed = (tensors: readonly object[]) => tensors.map((tensor) => ({ ...tensor, elapsedMs: 0 }));
    expect(untimed(dry.tensors)).toEqual(untimed(JSON.parse(written.stdout).tensors));
  });

  test('an output that is there is kept, unless --force', async () => {
    writeFileSync(out, 'precious');
    expect((await refusal(() => run('convert', source, out))).code).toBe('FILE_EXISTS');
    expect(readFileSync(out, 'utf8')).toBe('precious');
    await run('convert', source, out, '--force');
    expect(readFileSync(out, 'utf8')).not.toBe('precious');
  });

  test('the source is never overwritten, not even with --force', async () => {
    expect((await refusal(() => run('convert', source, source, '--force'))).code).toBe('ARGUMENT_INVALID');
    expect(readFileSync(source)).toEqual(Buffer.from(SMALL));
  });

  test.each(['0', '-32', '3.5', 'x', '48'])('--group-size %s is refused', async (text) => {
    await expect(run('convert', source, out, `--group-size=${text}`)).rejects.toThrow(/positive integer|groupSize/);
    expect(readdirSync(folder)).toEqual(['model']);
  });

  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
    ['SIGHUP', 129],
  ] as const)('%s leaves nothing and exits with %i', async (signal, code) => {
    const before = process.listenerCount(signal);
    let partial: readonly string[] = [];
    onStderr = (text) => {
      if (!text.includes('%') || partial.length > 0) return;
      partial = readdirSync(folder);
      process.listeners(signal).at(-1)?.(signal);
    };
    expect(await run('convert', source, out)).toBe(code);
    expect(partial.filter((name) => name.endsWith('.partial'))).toHaveLength(1);
    expect(readdirSync(folder)).toEqual(['model']);
    expect(written.stderr).toContain(`interrupted by ${signal}; nothing was written`);
    expect(process.listenerCount(signal)).toBe(before);
  });

  test('an error in the middle leaves nothing, and what was there before', async () => {
    const bytes = SMALL.slice();
    bytes.fill(0xff, -2);
    writeFileSync(source, bytes);
    writeFileSync(out, 'precious');
    expect((await refusal(() => run('convert', source, out, '--force'))).code).toBe('WEIGHT_NOT_FINITE');
    expect(readdirSync(folder).sort()).toEqual(['model', 'out.safetensors']);
    expect(readFileSync(out, 'utf8')).toBe('precious');
  });

  test('two runs give the same bytes', async () => {
    await convertFile(source, out);
    await convertFile(source, `${out}.2`);
    expect(readFileSync(out)).toEqual(readFileSync(`${out}.2`));
  });
});

describe('the file under a temporary name', () => {
  test('a file that appeared meanwhile is kept', async () => {
    const file = await AtomicFile.create(out, false);
    await file.writeAt(0, Uint8Array.of(1));
    writeFileSync(out, 'precious');
    expect((await refusal(() => file.commit())).code).toBe('FILE_EXISTS');
    expect(readdirSync(folder).sort()).toEqual(['model', 'out.safetensors']);
    expect(readFileSync(out, 'utf8')).toBe('precious');
  });

  test('has no name until it is whole', async () => {
    const file = await AtomicFile.create(out, false);
    await file.writeAt(3, Uint8Array.of(4));
    await file.writeAt(0, Uint8Array.of(1, 2, 3));
    expect(existsSync(out)).toBe(false);
    await file.commit();
    expect(readFileSync(out)).toEqual(Buffer.from([1, 2, 3, 4]));
    expect(readdirSync(folder).sort()).toEqual(['model', 'out.safetensors']);
  });
});

describe('inspect', () => {
  test('lists packed weights with their shapes, and plain tensors', async () => {
    await run('convert', MODEL, out);
    written.stdout = '';
    await run('inspect', out, '--json');
    const { entries, use } = JSON.parse(written.stdout);
    expect(use).toBe('verify, matvec, load');
    expect(entries.filter(({ packed }: { packed?: object }) => packed)).toHaveLength(42);
    expect(entries).toContainEqual({
      name: 'model.layers.5.self_attn.o_proj.weight',
      dtype: 'INT4',
      shape: [256, 512],
      sizeBytes: (256 * 512) / 2 + 2 * 2 * 256 * 16,
      packed: { n: 256, k: 512, groupSize: 32, nGroups: 16, form: PLAIN_FORM },
      use: 'verify, matvec, load',
    });
    expect(entries).toContainEqual(expect.objectContaining({ name: 'model.norm.weight', dtype: 'BF16', shape: [256] }));
  });

  test('says of a plain model what convert would do', async () => {
    await run('inspect', MODEL);
    expect(written.stdout).toMatch(
      /model\.embed_tokens\.weight +BF16 +2048 x 256 +32 +zero, bf16 +1048576 +convert packs it: tied head/,
    );
    expect(written.stdout).toMatch(/use: convert\n$/);
  });

  test('says of a file that nothing can be done with it, and why', async () => {
    writeFileSync(source, fileBytes(`{${entry('w.absmax', 'F32', [4], 0, 16)}}`, new Uint8Array(16)));
    await run('inspect', source);
    expect(written.stdout).toContain('use: none');
    expect(written.stdout).toContain('w.absmax');
  });

  test('says of a square scale without a tag what to ask', async () => {
    const parts = [
      entry('w.qdata', 'U8', [2, 32], 0, 64),
      entry('w.scale', 'BF16', [2, 2], 64, 72),
      entry('w.zero_point', 'BF16', [2, 2], 72, 80),
    ];
    writeFileSync(source, fileBytes(`{${parts.join()}}`, new Uint8Array(80)));
    await run('inspect', source);
    expect(written.stdout).toMatch(/^w +U8 .*none: FILE_LAYOUT_AMBIGUOUS.*--layout/m);
  });

  test('a damaged file is refused', async () => {
    writeFileSync(source, SMALL.subarray(0, 100));
    expect((await refusal(() => run('inspect', source))).code).toBe('FILE_TRUNCATED');
  });
});

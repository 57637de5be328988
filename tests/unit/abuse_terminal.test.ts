// The command as a user meets it: Ctrl-C in the middle, readers that leave, full disks, terminals of every kind.

import { type SpawnOptions, spawn, spawnSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, type TestContext, test } from 'vitest';
import { openDawnBackend } from '../../node/dawn_device.js';
import { setUp } from '../../scripts/setup.mjs';
import { skipWithout } from '../backend_report.js';

const root = resolve(import.meta.dirname, '../..');
const cli = join(root, 'dist/node/cli.js');
const folder = mkdtempSync(join(tmpdir(), 'samebits-terminal-'));
const model = join(folder, 'large.safetensors');
const ESCAPE = '\u001b';

/** A linear of 4 GB that takes no room on disk: zeros that were never written. */
function writeLargeModel(): void {
  const [n, k] = [65_536, 32_768];
  const header = JSON.stringify({
    'a.q_proj.weight': { dtype: 'BF16', shape: [n, k], data_offsets: [0, n * k * 2] },
  }).padEnd(128, ' ');
  const file = openSync(model, 'w');
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(header.length), true);
  writeSync(file, length);
  writeSync(file, header);
  ftruncateSync(file, 8 + header.length + n * k * 2);
  closeSync(file);
}

let dawn: string | null = null;

beforeAll(async () => {
  await setUp(() => {});
  writeLargeModel();
  try {
    await (await openDawnBackend()).dispose();
  } catch (error) {
    dawn = error instanceof Error ? error.message : String(error);
  }
}, 300_000);

afterAll(() => rmSync(folder, { recursive: true }));

function requireDawn(context: TestContext): void {
  if (dawn !== null) skipWithout(context, 'webgpu (Dawn)', dawn);
}

const quiet = { ...process.env, CI: '', NO_COLOR: '', FORCE_COLOR: '', TERM: 'xterm' };

interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Starts the command; `during` may do something to it; gives how it ended. Killed after a minute. */
async function start(
  args: readonly string[],
  during: (child: ReturnType<typeof spawn>) => Promise<void> = async () => {},
  options: SpawnOptions = {},
): Promise<Ended> {
  const child = spawn(process.execPath, [cli, ...args], { cwd: folder, env: quiet, ...options });
  let stdout = '';
  let stderr = '';
  child.stdout?.setEncoding('utf8').on('data', (text) => {
    stdout += text;
  });
  child.stderr?.setEncoding('utf8').on('data', (text) => {
    stderr += text;
  });
  const ended = new Promise<Ended>((end) =>
    child.once('close', (code, signal) => end({ code, signal, stdout, stderr })),
  );
  const limit = setTimeout(() => child.kill('SIGKILL'), 60_000);
  await during(child);
  const result = await ended;
  clearTimeout(limit);
  return result;
}

/** Sends a signal once the command is at work, and again never; `before` does something just before. */
function interrupt(
  args: readonly string[],
  signal: NodeJS.Signals,
  isAtWork: (child: ReturnType<typeof spawn>) => boolean,
  {
    before = () => {},
    ...options
  }: SpawnOptions & { readonly before?: (child: ReturnType<typeof spawn>) => void } = {},
): Promise<Ended> {
  return start(
    args,
    async (child) => {
      while (!isAtWork(child) && child.exitCode === null && child.signalCode === null) await sleep(20);
      before(child);
      child.kill(signal);
    },
    options,
  );
}

/** CPU time that a running process and its threads have used. Linux counts it in hundredths of a second. */
function cpuMsOf(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
    .replace(/^.*\) /s, '')
    .split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

/** At work, as nothing tells it from outside: the time in which it has started and not ended. */
const afterMs = (ms: number) => {
  const start = performance.now();
  return () => performance.now() - start > ms;
};

const BENCH = ['bench', '--backend', 'cpu', '--shapes', '8192x8192', '--replays', '100000'];
const SUITE = ['bench', '--backend', 'cpu', '--suite', 'gemma4-31b', '--replays', '100000', '--json'];
const SOAK = ['verify', '--backend', 'webgpu', '--soak', '100000000'];
const SMALL_MODEL = join(root, 'build/gemma4-kjv-6m.safetensors');
/** As long as the model's context, on the reference: seconds. */
const ENDLESS = ['generate', SMALL_MODEL, '--prompt', 'And', '--max-new-tokens', '100000', '--backend', 'cpu'];
/** The promise is a second. A clock would measure what else this machine does; CPU time is the command's own. */
const LIMIT_CPU_MS = 1000;
/** A third of a second to start, seconds to convert. */
const AT_WORK_CPU_MS = 700;

describe('an interrupt', () => {
  test.for(['SIGINT', 'SIGTERM'] as const)(
    '%s ends bench and verify by itself, and at once',
    async (signal, context) => {
      requireDawn(context);
      const before = readdirSync(folder);
      const ends = [
        await interrupt(BENCH, signal, afterMs(1500)),
        await interrupt(SUITE, signal, afterMs(1500)),
        await interrupt(SOAK, signal, afterMs(2500)),
      ];
      for (const end of ends) {
        // Ended by the system, which asks nobody: no code of the command ran after the signal.
        expect(end).toEqual({ code: null, signal, stdout: '', stderr: '' });
      }
      expect(readdirSync(folder)).toEqual(before);
    },
  );

  test.for([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s ends convert within a second of its time, with %i and no file', async ([signal, code], context) => {
    if (process.platform !== 'linux') context.skip('only Linux tells the CPU time of another process');
    const before = readdirSync(folder);
    const usage = join(mkdtempSync(join(tmpdir(), 'samebits-usage-')), 'cpu.json');
    const hook = join(import.meta.dirname, '../native/tell_cpu_time.cjs');
    let cpuMsAtSignal = 0;
    const ended = await interrupt(
      ['convert', model, join(folder, 'out.safetensors')],
      signal,
      (child) => existsSync(partial()) && cpuMsOf(child.pid!) > AT_WORK_CPU_MS,
      {
        env: { ...quiet, NODE_OPTIONS: `--require=${hook}`, CPU_TIME_FILE: usage },
        before: (child) => {
          cpuMsAtSignal = cpuMsOf(child.pid!);
        },
      },
    );
    expect({ code: ended.code, signal: ended.signal, stdout: ended.stdout }).toEqual({
      code,
      signal: null,
      stdout: '',
    });
    expect(ended.stderr).toMatch(/^samebits: interrupted by SIG(?:INT|TERM); nothing was written\.$/m);
    expect(ended.stderr).not.toMatch(/^\s+at /m);
    const cpuMs: number = JSON.parse(readFileSync(usage, 'utf8'));
    rmSync(dirname(usage), { recursive: true });
    expect(cpuMsAtSignal).toBeGreaterThan(AT_WORK_CPU_MS);
    expect(cpuMs - cpuMsAtSignal).toBeLessThan(LIMIT_CPU_MS);
    expect(readdirSync(folder)).toEqual(before);
  });

  function partial(): string {
    const name = readdirSync(folder).find((found) => found.endsWith('.partial'));
    return join(folder, name ?? 'none');
  }

  test.for([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('%s ends generate at the next token, with %i and whole text', async ([signal, code]) => {
    let text = '';
    const ended = await start(ENDLESS, async (child) => {
      child.stdout?.on('data', (piece) => {
        text += piece;
      });
      while (text.length < 20 && child.exitCode === null) await sleep(20);
      child.kill(signal);
    });
    expect({ code: ended.code, signal: ended.signal }).toEqual({ code, signal: null });
    expect(ended.stderr).toMatch(/^samebits: interrupted by SIG(?:INT|TERM); \d+ tokens were written\.\n$/);
    expect(ended.stdout).toMatch(/[^\n]\n$/);
  });

  test('of convert on a terminal brings the cursor and the wrapping of lines back', (context) => {
    const command = `exec "$NODE" "$CLI" convert "$MODEL" out.safetensors`;
    const shown = onTerminal(context, command, { interruptAfterSeconds: 3 });
    expect(shown).toContain(`${ESCAPE}[?25l`);
    expect(shown.lastIndexOf(`${ESCAPE}[?25h`)).toBeGreaterThan(shown.lastIndexOf(`${ESCAPE}[?25l`));
    expect(shown.lastIndexOf(`${ESCAPE}[?7h`)).toBeGreaterThanOrEqual(shown.lastIndexOf(`${ESCAPE}[?7l`));
    expect(shown).toContain('interrupted by SIGINT; nothing was written');
    expect(readdirSync(folder)).toEqual(['large.safetensors']);
  });
});

/** Runs a shell command on a pseudo-terminal of util-linux's `script`; gives everything that it showed. */
function onTerminal(
  context: TestContext,
  command: string,
  { columns = 80, env = {}, interruptAfterSeconds = 0 } = {},
): string {
  const interrupted = interruptAfterSeconds > 0 ? `(sleep ${interruptAfterSeconds}; kill -INT $$) & ` : '';
  const { error, stdout } = spawnSync(
    'script',
    ['--quiet', '--return', '--command', `stty cols ${columns}; ${interrupted}${command}`, '/dev/null'],
    {
      cwd: folder,
      encoding: 'utf8',
      env: { ...quiet, NODE: process.execPath, CLI: cli, MODEL: model, SMALL: SMALL_MODEL, ...env },
      timeout: 60_000,
    },
  );
  if (error) context.skip(`no pseudo-terminal here: ${error.message}`);
  return stdout;
}

describe('a reader that leaves', () => {
  test.for([
    ['doctor'],
    ['inspect', join(root, 'tests/data/gemma4-kjv-6m')],
    ['help'],
    ['bench', '--backend', 'cpu', '--shapes', '32x32'],
  ])('%s ends without a stack', async (args) => {
    const ended = await start(args, async (child) => {
      child.stdout?.destroy();
    });
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
  });

  test('of a text ends generate', async () => {
    const ended = await start(ENDLESS, async (child) => {
      child.stdout?.once('data', () => child.stdout?.destroy());
    });
    expect(ended).toMatchObject({ code: 0, signal: null, stderr: '' });
  });

  test('of the report does not end convert', async () => {
    const out = join(folder, 'left.safetensors');
    const ended = await start(['convert', join(root, 'tests/data/gemma4-kjv-6m'), out], async (child) => {
      child.stdout?.destroy();
    });
    expect(ended).toMatchObject({ code: 0, signal: null });
    expect(ended.stderr).not.toMatch(/^\s+at |Error/m);
    expect(existsSync(out)).toBe(true);
    rmSync(out);
  });

  test('of stderr does not change the exit code', async () => {
    const ended = await start(['inspect', '/nonexistent'], async (child) => {
      child.stderr?.destroy();
    });
    expect(ended).toMatchObject({ code: 2, signal: null });
  });

  test('a disk that is full is said in one line', (context) => {
    if (!existsSync('/dev/full') || !statSync('/dev/full').isCharacterDevice()) context.skip('no /dev/full here');
    const full = openSync('/dev/full', 'w');
    const { status, stderr } = spawnSync(process.execPath, [cli, 'doctor'], {
      stdio: ['ignore', full, 'pipe'],
      encoding: 'utf8',
    });
    closeSync(full);
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: 'samebits: FILE_UNWRITABLE: stdout must be writable. Got ENOSPC.\n',
    });
  });
});

describe('terminals', () => {
  const BENCH_SMALL = '"$NODE" "$CLI" bench --backend cpu --shapes 64x64';

  test.for([{}, { FORCE_COLOR: '1' }, { CI: '1' }, { NO_COLOR: '1' }])(
    'without one, with %j, nothing but text is printed',
    async (env) => {
      for (const args of [['bench', '--backend', 'cpu', '--shapes', '64x64'], ['help'], ['doctor'], ['nonsense']]) {
        const { stdout, stderr } = await start(args, undefined, { env: { ...quiet, ...env } });
        expect(stdout + stderr).not.toContain(ESCAPE);
      }
    },
  );

  test.for([{ CI: '1' }, { TERM: 'dumb' }])('with %j, no cursor is moved', (env, context) => {
    expect(onTerminal(context, BENCH_SMALL, { env })).not.toContain(ESCAPE);
  });

  test('colours are never used, so NO_COLOR has nothing to turn off', (context) => {
    const shown = onTerminal(context, BENCH_SMALL);
    expect(shown).toContain(`${ESCAPE}[1G`);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what colours a terminal
    expect(shown).not.toMatch(/\u001b\[[\d;]*m/);
  });

  const WRITE = '"$NODE" "$CLI" generate "$SMALL" --max-new-tokens 8 --backend cpu';

  test('show the prompt and what follows as one text', (context) => {
    const shown = onTerminal(context, `${WRITE} --prompt "In the beginning God"`, { env: { CI: '1' } });
    expect(shown).toMatch(/^In the beginning God[^\r\n]+\r\n\r\nprompt /);
  });

  test('pipes take a prompt from stdin and get what follows alone', (context) => {
    const command = `echo "In the beginning God" | ${WRITE} --prompt - 2>/dev/null | cat`;
    const shown = onTerminal(context, command, { env: { CI: '1' } });
    expect(shown).toMatch(/^[^\r\n]+\r\n$/);
    expect(shown).not.toContain('In the beginning');
  });

  test.for([1, 7, 24])('of %i columns show progress on one line', (columns, context) => {
    const shown = onTerminal(context, BENCH_SMALL, { columns });
    const lines = [...shown.matchAll(new RegExp(`${ESCAPE}\\[1G([^${ESCAPE}]*)${ESCAPE}\\[0?K`, 'g'))];
    expect(lines.length).toBeGreaterThan(1);
    for (const [, text] of lines) expect(text!.length).toBeLessThan(columns);
  });
});

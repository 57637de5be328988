// samebits generate as a command: what goes to stdout and what to stderr, the options, and what it refuses. Interrupts, pipes
// and terminals are in abuse_terminal.test.ts.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { registerGenerate } from '../../node/commands/generate.js';
import { convertFile } from '../../node/file_convert.js';
import { shownText } from '../../node/terminal_text.js';

const MODEL = join(import.meta.dirname, '../data/gemma4-kjv-6m');
const PROMPT = 'In the beginning God';

let folder: string;
let packed: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'samebits-generate-'));
  packed = join(folder, 'model.safetensors');
  await convertFile(MODEL, packed);
});
afterAll(() => rmSync(folder, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

interface Printed {
  readonly stdout: string;
  readonly stderr: string;
}

async function generate(args: readonly string[], file = packed): Promise<Printed> {
  const streams = { stdout: '', stderr: '' };
  for (const name of ['stdout', 'stderr'] as const) {
    vi.spyOn(process[name], 'write').mockImplementation((chunk) => {
      streams[name] += chunk;
      return true;
    });
  }
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  registerGenerate(program);
  try {
    await program.parseAsync(['generate', file, '--backend', 'cpu', ...args], { from: 'user' });
  } finally {
    vi.restoreAllMocks();
  }
  return streams;
}

const short = ['--prompt', PROMPT, '--max-new-tokens', '12'];
const inJson = async (args: readonly string[]) => JSON.parse((await generate([...args, '--json'])).stdout);

describe('generate', () => {
  test('prints what follows the prompt, one newline at its end, and the pace on stderr', async () => {
    const { stdout, stderr } = await generate(short);
    expect(stdout).toMatch(/^[^\n]+(?:\n[^\n]+)*\n$/);
    expect(stdout).not.toContain(PROMPT);
    expect(stderr).toMatch(
      /^\nprompt {6}6 tokens {2}[\d.]+ tokens\/s\ntext {7}12 tokens {2}[\d.]+ tokens\/s, as many as asked/,
    );
    expect(stderr).toContain('on cpu: CPU reference');
    const { text, tokens, prompt, end } = await inJson(short);
    expect(stdout.trimEnd()).toBe(text.trimEnd());
    expect(tokens).toHaveLength(12);
    expect(prompt.slice(0, 2)).toEqual([2, 1149]);
    expect(end).toBe('maxNewTokens');
  });

  test('the same seed gives the same text, another one another', async () => {
    const drawn = (seed: string) => inJson([...short, '--seed', seed, '--temperature', '0.9', '--top-p', '0.95']);
    const [first, again, other] = [await drawn('7'), await drawn('7'), await drawn('8')];
    expect(again.tokens).toEqual(first.tokens);
    expect(other.tokens).not.toEqual(first.tokens);
    expect(first).toMatchObject({ temperature: 0.9, topP: 0.95, seed: 7, backend: 'cpu' });
  });

  test('is greedy by itself, and draws with temperature 1 when an option asks for draws', async () => {
    const greedy = await inJson(short);
    expect(greedy.temperature).toBe(0);
    expect((await inJson([...short, '--temperature', '0', '--seed', '9'])).tokens).toEqual(greedy.tokens);
    expect((await inJson([...short, '--top-k', '1'])).tokens).toEqual(greedy.tokens);
    expect((await inJson([...short, '--top-k', '50'])).temperature).toBe(1);
  });
});

test('an interrupt with --json prints nothing, and says so', async () => {
  const before = process.listeners('SIGINT');
  const running = generate(['--prompt', PROMPT, '--max-new-tokens', '1000', '--json']);
  for (const interrupt of process.listeners('SIGINT')) if (!before.includes(interrupt)) interrupt('SIGINT');
  const { stdout, stderr } = await running;
  const exitCode = process.exitCode;
  process.exitCode = undefined;
  expect({ stdout, exitCode }).toEqual({ stdout: '', exitCode: 130 });
  expect(stderr).toBe('samebits: interrupted by SIGINT; nothing was printed.\n');
});

describe('refuses', () => {
  const cases: Record<string, { code: string; args?: readonly string[]; file?: () => string }> = {
    'no prompt': { code: 'commander.missingMandatoryOptionValue', args: [] },
    'an empty count': { code: 'commander.invalidArgument', args: [...short, '--max-new-tokens', '0'] },
    'a temperature below 0': { code: 'commander.invalidArgument', args: [...short, '--temperature', '-1'] },
    'a top-p above 1': { code: 'commander.invalidArgument', args: [...short, '--top-p', '1.5'] },
    'a top-p of 0': { code: 'commander.invalidArgument', args: [...short, '--top-p', '0'] },
    'a seed that is no integer': { code: 'commander.invalidArgument', args: [...short, '--seed', 'x'] },
    'a backend that does not exist': { code: 'commander.invalidArgument', args: [...short, '--backend', 'tpu'] },
    'a chat with a model that has no template': { code: 'MODEL_CHAT_TEMPLATE_MISSING', args: [...short, '--chat'] },
    'a prompt longer than the context': { code: 'CONTEXT_FULL', args: ['--prompt', 'And '.repeat(2000)] },
    'no such file': { code: 'FILE_UNREADABLE', file: () => join(folder, 'absent') },
    'a file that holds no model': { code: 'FILE_LAYOUT_UNTAGGED', file: () => join(MODEL, 'model.safetensors') },
    'a model without its tokenizer': { code: 'FILE_TENSOR_MISSING', file: () => join(folder, 'bare.safetensors') },
  };
  beforeAll(async () => {
    const bare = mkdtempSync(join(folder, 'bare-'));
    for (const name of ['model.safetensors', 'config.json'])
      writeFileSync(join(bare, name), readFileSync(join(MODEL, name)));
    await convertFile(bare, join(folder, 'bare.safetensors'));
  });

  test.each(Object.entries(cases))('%s', async (_, { code, args = short, file }) => {
    await expect(generate(args, file?.())).rejects.toMatchObject({ code });
  });
});

test('a terminal gets no control characters from a model', () => {
  expect(shownText('a\tb\nc')).toBe('a\tb\nc');
  expect(shownText('\u001b[2J\u0007\r\u009b\u202ex')).toBe('\uFFFD[2J\uFFFD\uFFFD\uFFFD\uFFFDx');
});

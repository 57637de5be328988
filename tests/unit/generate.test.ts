// The loop that writes: what it asks of a session, how it ends, what it counts. The session here is a fake that knows its text.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { StepResult } from '../../core/model/decoder_backend.js';
import {
  type GeneratedToken,
  Generation,
  type GenerationOptions,
  type TextSession,
} from '../../core/model/generate.js';
import type { AppendOptions } from '../../core/model/session.js';
import { TextTokenizer } from '../../core/model/text_tokenizer.js';

const tokenizer = new TextTokenizer(
  readFileSync(join(import.meta.dirname, '../data/gemma4-kjv-6m/tokenizer.json'), 'utf8'),
);
const VOCABULARY = 2048;
const END = 1;
const PROMPT = [2, ...tokenizer.encode('And it came to pass')];

/** After the tokens of `prompt`, each next one of `script`; checks that it is fed what it gave. */
class ScriptedSession implements TextSession {
  readonly calls: { readonly tokens: readonly number[]; readonly wants: string; readonly goesOn: boolean }[] = [];
  readonly #fed: number[] = [];

  constructor(
    private readonly promptLength: number,
    private readonly script: readonly number[],
    readonly capacity = 1000,
  ) {}

  get position(): number {
    return this.#fed.length;
  }

  async append(
    tokens: readonly number[],
    wants: StepResult['wants'],
    { goesOn = false }: AppendOptions,
  ): Promise<StepResult> {
    this.calls.push({ tokens, wants, goesOn });
    this.#fed.push(...tokens);
    expect(this.#fed.length).toBeLessThanOrEqual(this.capacity);
    const written = this.#fed.slice(this.promptLength);
    expect(written).toEqual(this.script.slice(0, written.length));
    const token = this.script[written.length] ?? 0;
    if (wants === 'nothing') return { wants };
    if (wants === 'greedy') return { wants, token };
    const logits = new Float32Array(VOCABULARY);
    logits[token] = 1;
    return { wants, logits };
  }
}

const optionsFor = (changes: Partial<GenerationOptions> = {}): GenerationOptions => ({
  prompt: PROMPT,
  maxNewTokens: 100,
  endTokens: [END],
  ...changes,
});

async function all(generation: Generation): Promise<GeneratedToken[]> {
  const pieces: GeneratedToken[] = [];
  for await (const piece of generation) pieces.push(piece);
  return pieces;
}

const VERSE = ', that the LORD spake unto Moses — “€”, saying,\n';
const script = [...tokenizer.encode(VERSE), END];

describe('a generation', () => {
  test('gives each token, and text in whole characters, up to the end token', async () => {
    const session = new ScriptedSession(PROMPT.length, script);
    const generation = new Generation(session, tokenizer, optionsFor());
    const pieces = await all(generation);
    expect(pieces.map(({ token }) => token)).toEqual(script);
    expect(pieces.map(({ delta }) => delta).join('')).toBe(VERSE);
    expect(pieces.every(({ text }) => VERSE.startsWith(text))).toBe(true);
    expect(pieces.some(({ delta }) => delta === '')).toBe(true);
    expect(generation).toMatchObject({ tokens: script, text: VERSE, end: 'endToken' });
    expect(generation.times).toMatchObject({ promptTokens: PROMPT.length, decodedTokens: script.length - 1 });
    // Nothing is run that nobody asked for: the prompt at once, then each token but the last.
    expect(session.calls).toEqual([
      { tokens: PROMPT, wants: 'greedy', goesOn: true },
      ...script.slice(0, -1).map((token) => ({ tokens: [token], wants: 'greedy', goesOn: true })),
    ]);
  });

  test('asks for logits where something picks, once for each token, in order', async () => {
    const session = new ScriptedSession(PROMPT.length, script);
    let picked = 0;
    const pick = (logits: Float32Array) => {
      picked++;
      return logits.indexOf(1);
    };
    const generation = new Generation(session, tokenizer, optionsFor({ pick }));
    await all(generation);
    expect(generation.tokens).toEqual(script);
    expect(picked).toBe(script.length);
    expect(new Set(session.calls.map(({ wants }) => wants))).toEqual(new Set(['logits']));
  });

  test.each([
    { name: 'many', maxNewTokens: 100, hints: script.map(() => true) },
    { name: 'four', maxNewTokens: 4, hints: [true, true, true, false] },
    { name: 'one', maxNewTokens: 1, hints: [false] },
  ])('says which tokens will be run: $name', async ({ maxNewTokens, hints }) => {
    const session = new ScriptedSession(PROMPT.length, script);
    await all(new Generation(session, tokenizer, optionsFor({ maxNewTokens, promptPiece: 2 })));
    expect(session.calls.slice(-hints.length).map(({ goesOn }) => goesOn)).toEqual(hints);
  });

  test('is as long as was asked for, and gives what is left of a character', async () => {
    const euro = script.indexOf(tokenizer.encode('€')[0]!) + 1;
    const generation = new Generation(
      new ScriptedSession(PROMPT.length, script),
      tokenizer,
      optionsFor({ maxNewTokens: euro }),
    );
    const pieces = await all(generation);
    expect(pieces).toHaveLength(euro);
    expect(generation.end).toBe('maxNewTokens');
    expect(pieces.at(-1)?.delta).toBe('\uFFFD');
    expect(generation.text).toBe(tokenizer.decode(script.slice(0, euro)));
  });

  test.each([
    [PROMPT.length, 1],
    [PROMPT.length + 3, 4],
  ])('ends when a session of %i is full, after %i tokens', async (capacity, count) => {
    const generation = new Generation(new ScriptedSession(PROMPT.length, script, capacity), tokenizer, optionsFor());
    expect(await all(generation)).toHaveLength(count);
    expect(generation.end).toBe('contextFull');
  });

  test.each([1, 2, 5, 6, 7])('runs a prompt in pieces of %i, with a pause before each', async (promptPiece) => {
    const session = new ScriptedSession(PROMPT.length, script);
    let pauses = 0;
    const betweenSteps = async () => {
      pauses++;
    };
    await all(new Generation(session, tokenizer, optionsFor({ promptPiece, betweenSteps })));
    const pieces = session.calls.slice(0, Math.ceil(PROMPT.length / promptPiece));
    expect(pieces.flatMap(({ tokens }) => tokens)).toEqual(PROMPT);
    expect(pieces.map(({ wants }) => wants)).toEqual([...pieces.slice(1).map(() => 'nothing'), 'greedy']);
    expect(pauses).toBe(session.calls.length);
  });

  test('ends at the next token when it is aborted, with the reason, and keeps what came', async () => {
    const controller = new AbortController();
    const session = new ScriptedSession(PROMPT.length, script);
    const generation = new Generation(session, tokenizer, optionsFor({ signal: controller.signal }));
    const reason = new Error('enough');
    const run = async () => {
      for await (const { text } of generation) if (text.includes('LORD')) controller.abort(reason);
    };
    await expect(run()).rejects.toBe(reason);
    expect(generation.text).toBe(', that the LORD');
    expect(generation.end).toBeNull();
    expect(session.calls).toHaveLength(generation.tokens.length);
  });

  test('is aborted by a timer, though no step of its session waits for anything', async () => {
    const controller = new AbortController();
    const reason = new Error('enough');
    setTimeout(() => controller.abort(reason));
    const isLate = () => performance.now() > start + 10_000;
    const session: TextSession = {
      position: 0,
      capacity: Number.POSITIVE_INFINITY,
      append: async () => ({ wants: 'greedy', token: isLate() ? END : 100 }),
    };
    const options = optionsFor({ maxNewTokens: Number.MAX_SAFE_INTEGER, signal: controller.signal });
    const start = performance.now();
    await expect(all(new Generation(session, tokenizer, options))).rejects.toBe(reason);
  });

  test('is aborted before its prompt', async () => {
    const session = new ScriptedSession(PROMPT.length, script);
    const generation = new Generation(session, tokenizer, optionsFor({ signal: AbortSignal.abort('no') }));
    await expect(all(generation)).rejects.toBe('no');
    expect(session.calls).toEqual([]);
  });

  test('may be left: nothing more is run', async () => {
    const session = new ScriptedSession(PROMPT.length, script);
    for await (const { text } of new Generation(session, tokenizer, optionsFor())) if (text.length > 5) break;
    expect(session.calls.length).toBeLessThan(5);
  });

  test('is refused without a prompt or a length, and when it is iterated again', async () => {
    const session = new ScriptedSession(PROMPT.length, script);
    for (const wrong of [{ prompt: [] }, { maxNewTokens: 0 }, { maxNewTokens: 1.5 }, { maxNewTokens: Number.NaN }]) {
      expect(() => new Generation(session, tokenizer, optionsFor(wrong))).toThrow(/^ARGUMENT_INVALID/);
    }
    const generation = new Generation(session, tokenizer, optionsFor({ maxNewTokens: 1 }));
    await all(generation);
    await expect(all(generation)).rejects.toMatchObject({ code: 'ARGUMENT_INVALID' });
  });
});

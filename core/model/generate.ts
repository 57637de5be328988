// Writes on from a prompt, token by token: the loop between a session, what picks a token, and a tokenizer.

import { SamebitsError } from '../errors.js';
import type { StepResult } from './decoder_backend.js';
import type { AppendOptions } from './session.js';
import type { TextTokenizer } from './text_tokenizer.js';

/** What is asked of a session: that it takes tokens and gives what follows from the last of them. */
export interface TextSession {
  /** Tokens that it holds. */
  readonly position: number;
  /** Tokens that it can hold. */
  readonly capacity: number;
  /** Continues the text by these tokens, and gives what is wanted of the last. */
  append(tokens: readonly number[], wants: StepResult['wants'], options: AppendOptions): Promise<StepResult>;
}

/** Picks a token by its logits, f32[vocabulary]. Called once for each token, in order. */
export type PickToken = (logits: Float32Array) => number;

export interface GenerationOptions {
  /** Tokens of the text to continue, at least one. */
  readonly prompt: readonly number[];
  /** At least 1; an end token is one of them. */
  readonly maxNewTokens: number;
  /** What picks each token; without it the one of the largest logit, and no logits leave the device. */
  readonly pick?: PickToken;
  /** Any of these is the last token. */
  readonly endTokens: readonly number[];
  /** Tokens of the prompt that are run between two looks at the signal. */
  readonly promptPiece?: number;
  /** Ends it at the next token: the iteration rejects with the signal's reason. */
  readonly signal?: AbortSignal;
  /**
   * Awaited between steps, so that a thread which computes by itself can take in events. Where there is only a signal, the
   * thread takes them in every now and then, since one of them may abort it.
   */
  readonly betweenSteps?: () => Promise<void>;
}

/** One token, and the text that it completes: whole characters, often some, perhaps none. */
export interface GeneratedToken {
  readonly token: number;
  readonly delta: string;
  /** All text so far, the prompt's not included. */
  readonly text: string;
}

/** Why a text ended: an end token came, it is as long as was asked for, or the session is full. */
export type GenerationEnd = 'endToken' | 'maxNewTokens' | 'contextFull';

/**
 * The prompt and what follows it are timed apart: a prompt's tokens go several at once, and give no text. Time that the
 * reader of the tokens takes is in neither.
 */
export interface GenerationTimes {
  readonly promptTokens: number;
  /** What the prompt took, up to the first new token. */
  readonly promptMs: number;
  /** New tokens but the first, each of which took a step of its own. */
  readonly decodedTokens: number;
  readonly decodeMs: number;
}

/** A third of a second on the reference, which is how long an abort may have to wait. */
const DEFAULT_PROMPT_PIECE = 16;
/** How long events wait for a thread that is given none between steps. */
const TURN_MS = 50;

/**
 * The continuation of one prompt; iterate it once. The last token that it gave is not in the session: whoever continues the
 * session begins with it.
 */
export class Generation implements AsyncIterable<GeneratedToken> {
  readonly tokens: number[] = [];
  #text = '';
  #end: GenerationEnd | null = null;
  #times: GenerationTimes = { promptTokens: 0, promptMs: 0, decodedTokens: 0, decodeMs: 0 };
  #isStarted = false;
  #turnedAt = performance.now();

  /** @throws SamebitsError ARGUMENT_INVALID */
  constructor(
    private readonly session: TextSession,
    private readonly tokenizer: TextTokenizer,
    private readonly options: GenerationOptions,
  ) {
    requireCount('prompt.length', options.prompt.length);
    requireCount('maxNewTokens', options.maxNewTokens);
  }

  /** All text so far. */
  get text(): string {
    return this.#text;
  }

  /** Null while it goes on, and when it was aborted. */
  get end(): GenerationEnd | null {
    return this.#end;
  }

  /** As they are so far. */
  get times(): GenerationTimes {
    return this.#times;
  }

  /** @throws SamebitsError whatever a step rejects with; the signal's reason when that aborts */
  async *[Symbol.asyncIterator](): AsyncGenerator<GeneratedToken, void, undefined> {
    if (this.#isStarted) {
      throw new SamebitsError('ARGUMENT_INVALID', {
        rule: 'a generation is iterated once',
        expected: 'a new generation',
        got: 'one that was iterated before',
        fix: 'Make another for the same session, or read its tokens and text.',
      });
    }
    this.#isStarted = true;
    const { prompt, maxNewTokens, endTokens } = this.options;
    const stream = this.tokenizer.stream(prompt);
    let token = await this.#runPrompt();
    for (;;) {
      this.tokens.push(token);
      if (endTokens.includes(token)) this.#end = 'endToken';
      else if (this.tokens.length >= maxNewTokens) this.#end = 'maxNewTokens';
      else if (this.session.position >= this.session.capacity) this.#end = 'contextFull';
      const delta = stream.push(token) + (this.#end === null ? '' : stream.end());
      this.#text += delta;
      yield { token, delta, text: this.#text };
      if (this.#end !== null) return;
      await this.#pause();
      const start = performance.now();
      token = this.#pickFrom(await this.#run([token], this.#wants));
      const { decodedTokens, decodeMs } = this.#times;
      this.#addTimes({ decodedTokens: decodedTokens + 1, decodeMs: decodeMs + performance.now() - start });
    }
  }

  /** Gives the first token. */
  async #runPrompt(): Promise<number> {
    const { prompt, promptPiece = DEFAULT_PROMPT_PIECE } = this.options;
    const last = Math.floor((prompt.length - 1) / promptPiece) * promptPiece;
    for (let from = 0; ; from += promptPiece) {
      await this.#pause();
      const start = performance.now();
      const isLast = from === last;
      const piece = prompt.slice(from, from + promptPiece);
      const result = await this.#run(piece, isLast ? this.#wants : 'nothing');
      const token = isLast ? this.#pickFrom(result) : null;
      const { promptTokens, promptMs } = this.#times;
      this.#addTimes({ promptTokens: promptTokens + piece.length, promptMs: promptMs + performance.now() - start });
      if (token !== null) return token;
    }
  }

  /** Says whether the token that comes of it is to be run too, as far as that is known here. */
  #run(tokens: readonly number[], wants: StepResult['wants']): Promise<StepResult> {
    const { maxNewTokens, signal } = this.options;
    return this.session.append(tokens, wants, { signal, goesOn: this.tokens.length + 1 < maxNewTokens });
  }

  async #pause(): Promise<void> {
    const { betweenSteps, signal } = this.options;
    if (betweenSteps) await betweenSteps();
    else if (signal && performance.now() - this.#turnedAt > TURN_MS) {
      await new Promise((turn) => setTimeout(turn));
      this.#turnedAt = performance.now();
    }
    signal?.throwIfAborted();
  }

  #addTimes(times: Partial<GenerationTimes>): void {
    this.#times = { ...this.#times, ...times };
  }

  get #wants(): 'greedy' | 'logits' {
    return this.options.pick === undefined ? 'greedy' : 'logits';
  }

  #pickFrom(result: StepResult): number {
    const { pick } = this.options;
    if (result.wants === 'greedy') return result.token;
    if (result.wants === 'logits' && pick) return pick(result.logits);
    throw new SamebitsError('ARGUMENT_INVALID', {
      rule: 'a session gives what was asked of it',
      expected: `'${this.#wants}'`,
      got: `'${result.wants}'`,
      fix: 'Pass a session of this package.',
    });
  }
}

/** @throws SamebitsError ARGUMENT_INVALID */
export function requireCount(name: string, value: number): void {
  if (Number.isInteger(value) && value >= 1) return;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: `${name} must be a positive integer`,
    expected: '1 or more',
    got: String(value),
    fix: 'Pass the tokens of some text, and ask for at least one new one.',
  });
}

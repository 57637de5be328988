// One text in a decoder: its tokens and its cache. It goes on, and back, with the bits of a text run from its beginning.

import { requireObject } from '../argument_checks.js';
import { disposedError } from '../backend.js';
import { SamebitsError } from '../errors.js';
import type { DeviceCache, DeviceDecoder, StepResult } from './decoder_backend.js';
import { cacheSlots, TOKENS_PER_STEP } from './decoder_config.js';

/** What a call of `append` may be told besides what it runs. */
export interface AppendOptions {
  /** Ends the call between two steps: it rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /**
   * A hint for 'greedy': the token that comes back is appended next, alone, for the one after it. The device may begin that
   * step early. No result changes; a wrong hint costs the device one step, and one position fewer can be rewound without
   * running tokens again.
   */
  readonly goesOn?: boolean;
}

/**
 * Owns a cache of the decoder. Any number of sessions may be open and used in turn. One session takes one call at a time:
 * another one meanwhile is refused, because the order of two texts in one cache would be an accident.
 */
export class DecoderSession {
  readonly #tokens: number[] = [];
  /** Positions of #tokens that the cache holds as if run in order. */
  #ran = 0;
  /** One more than the highest position that may have been written since position 0 was: what rewinding may have lost. */
  #written = 0;
  #isBusy = false;
  #isDisposed = false;

  private constructor(
    private readonly decoder: DeviceDecoder,
    private readonly cache: DeviceCache,
    /** Positions that it can hold. */
    readonly capacity: number,
    /** Bytes of device memory held until dispose, besides the decoder's. */
    readonly sizeBytes: number,
  ) {}

  /**
   * Takes all memory that the session will ever need.
   * @throws SamebitsError ARGUMENT_INVALID; CONTEXT_FULL for more positions than the model has; DEVICE_OUT_OF_MEMORY
   */
  static async open(decoder: DeviceDecoder, capacity: number): Promise<DecoderSession> {
    const { maxPositions } = decoder.config;
    if (!Number.isSafeInteger(capacity) || capacity < 1) {
      throw invalid('the capacity of a session must be a positive integer', `1 to ${maxPositions}`, capacity);
    }
    if (capacity > maxPositions) throw contextFull('the model', maxPositions, capacity);
    return new DecoderSession(decoder, await decoder.openCache(capacity), capacity, decoder.cacheSizeBytes(capacity));
  }

  /** Tokens that it holds; the next one goes there. */
  get position(): number {
    return this.#tokens.length;
  }

  /** A copy of what it holds. */
  get tokens(): readonly number[] {
    return [...this.#tokens];
  }

  /**
   * Continues the text. When it rejects between two steps or in one, the session holds the tokens of the steps before, as
   * `position` says.
   * @param tokens at least one
   * @param wants what to give of the last token, or 'everyLogit': f32[tokens, vocabulary]
   * @throws SamebitsError CONTEXT_FULL before anything is run; ARGUMENT_INVALID, SESSION_BUSY, DISPOSED; the device's; the
   * reason of `signal`
   */
  async append(
    tokens: readonly number[],
    wants: StepResult['wants'],
    options: AppendOptions = {},
  ): Promise<StepResult> {
    this.#requireIdle();
    const { signal, goesOn = false } = checkedOptions(options);
    const { vocabularySize } = this.decoder.config;
    const added = [...tokens];
    if (added.length === 0) throw invalid('a session takes at least one token', '1 or more tokens', 0);
    for (const token of added) {
      if (Number.isInteger(token) && token >= 0 && token < vocabularySize) continue;
      throw invalid('a token must be of the vocabulary', `an integer from 0 to ${vocabularySize - 1}`, token);
    }
    const needed = this.position + added.length;
    if (needed > this.capacity) throw contextFull('this session', this.capacity, needed);

    this.#isBusy = true;
    try {
      while (this.#ran < this.position) {
        await this.#step(this.#tokens.slice(this.#ran, this.#ran + TOKENS_PER_STEP), 'nothing', false, signal);
      }
      const rows: Float32Array[] = [];
      for (let from = 0; ; from += TOKENS_PER_STEP) {
        const piece = added.slice(from, from + TOKENS_PER_STEP);
        const isLast = from + piece.length === added.length;
        const wanted = isLast || wants === 'everyLogit' ? wants : 'nothing';
        const result = await this.#step(piece, wanted, isLast && goesOn && wants === 'greedy', signal);
        this.#tokens.push(...piece);
        if (result.wants === 'everyLogit') rows.push(result.logits);
        if (isLast) return wants === 'everyLogit' ? { wants, logits: joined(rows) } : result;
      }
    } finally {
      this.#isBusy = false;
      if (this.#isDisposed) this.cache.dispose();
    }
  }

  /**
   * Goes back: forgets the tokens from `position` on. Where a sliding layer's cache has lost what the next token sees, the
   * next append runs the tokens before again.
   * @throws SamebitsError ARGUMENT_INVALID, SESSION_BUSY, DISPOSED
   */
  rewind(position: number): void {
    this.#requireIdle();
    if (!Number.isInteger(position) || position < 0 || position > this.position) {
      throw invalid('a session rewinds to a position that it holds', `0 to ${this.position}`, position);
    }
    this.#tokens.length = position;
    this.#ran = this.#isKept(position) ? Math.min(this.#ran, position) : 0;
  }

  /** Frees the cache, once a call that is under way has ended its step; that call rejects with DISPOSED. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (!this.#isBusy) this.cache.dispose();
  }

  /** Whether the cache still holds all that a token at `position` sees. */
  #isKept(position: number): boolean {
    return this.decoder.config.layers.every((layer) => {
      if (layer.window === null) return true;
      const first = Math.max(0, position - layer.window + 1);
      return first >= this.#written - cacheSlots(layer, this.capacity);
    });
  }

  async #step(
    tokens: readonly number[],
    wants: StepResult['wants'],
    goesOn: boolean,
    signal: AbortSignal | undefined,
  ): Promise<StepResult> {
    signal?.throwIfAborted();
    if (this.#ran === 0) this.#written = 0;
    const end = this.#ran + tokens.length;
    this.#written = Math.max(this.#written, goesOn ? Math.min(this.capacity, end + 1) : end);
    const result = await this.cache.step(tokens, this.#ran, wants, goesOn);
    if (this.#isDisposed) throw disposedError('session');
    this.#ran += tokens.length;
    return result;
  }

  #requireIdle(): void {
    if (this.#isDisposed) throw disposedError('session');
    if (!this.#isBusy) return;
    throw new SamebitsError('SESSION_BUSY', {
      rule: 'a session takes one call at a time',
      expected: 'a session whose last call has ended',
      got: 'one that is running tokens',
      fix: 'Await the call before, or open a session for each text.',
    });
  }
}

function checkedOptions(options: AppendOptions): AppendOptions {
  const checked = requireObject(options, 'the options of a call');
  if (!(checked instanceof AbortSignal)) return checked;
  throw invalid('a signal is one of the options of a call', '{ signal }', 'the signal itself');
}

function joined(rows: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(rows.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const row of rows) {
    all.set(row, at);
    at += row.length;
  }
  return all;
}

function contextFull(what: string, positions: number, needed: number): SamebitsError {
  return new SamebitsError('CONTEXT_FULL', {
    rule: `a text must fit into the positions of ${what}`,
    expected: `${positions} positions at most`,
    got: `${needed}, ${needed - positions} too many`,
    fix: "Shorten the text, or open a session of more positions where the model's maxPositions allow it.",
  });
}

function invalid(rule: string, expected: string, got: unknown): SamebitsError {
  return new SamebitsError('ARGUMENT_INVALID', {
    rule,
    expected,
    got: String(got),
    fix: 'Pass a value of that range.',
  });
}

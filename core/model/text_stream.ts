// Text from tokens that come one by one. A token may end within a character; what is given out ends between two.

/** Stands for bytes that are not UTF-8; at the end of a decoded text, perhaps for the first bytes of a character. */
const REPLACEMENT = '\uFFFD';

/** All that `push` and `end` gave, joined, is what decoding all tokens at once adds to the text of those before. */
export class TextStream {
  /** Some that are settled, as context, and all that are not. */
  #tokens: readonly number[];
  #settled: number;
  /** Characters of the text of `#tokens` that were given out, or lie before. */
  #given: number;

  /** @param before tokens of the text so far: a decoder may treat the start of a text differently */
  constructor(
    private readonly decode: (tokens: readonly number[]) => string,
    before: readonly number[] = [],
  ) {
    this.#tokens = before;
    this.#settled = this.#tokens.length;
    this.#given = withoutHalf(decode(this.#tokens)).length;
  }

  /** The whole characters that `token` completes; often some, perhaps none. */
  push(token: number): string {
    this.#tokens = [...this.#tokens, token];
    const text = this.decode(this.#tokens);
    const whole = withoutHalf(text);
    const delta = whole.slice(this.#given);
    this.#given = Math.max(this.#given, whole.length);
    if (whole.length === text.length) this.#settle();
    return delta;
  }

  /** What is left when no token follows: U+FFFD for the bytes of a character that was not completed. */
  end(): string {
    const delta = this.decode(this.#tokens).slice(this.#given);
    this.#given += delta.length;
    return delta;
  }

  /** What came since the last settling is context from now on, unless it is no text; what was before it is forgotten. */
  #settle(): void {
    const last = this.#tokens.slice(this.#settled);
    const text = this.decode(last);
    if (text !== '') {
      this.#tokens = last;
      this.#given = text.length;
    }
    this.#settled = this.#tokens.length;
  }
}

function withoutHalf(text: string): string {
  return text.endsWith(REPLACEMENT) ? text.slice(0, -REPLACEMENT.length) : text;
}

// The text of a model on stdout: for eyes on a terminal, as it is in a pipe.

import { shownText } from './terminal_text.js';

/** A terminal gets the prompt first, so that what follows reads as one text; a pipe gets what follows alone. */
export class TextPrinter {
  #tokens = 0;
  #last = '\n';
  readonly #isTerminal = process.stdout.isTTY === true;

  /** @param isOn false prints nothing */
  constructor(private readonly isOn: boolean) {}

  /** `12 tokens were written` */
  get written(): string {
    return this.#tokens === 1 ? '1 token was written' : `${this.#tokens} tokens were written`;
  }

  prompt(text: string): void {
    if (this.#isTerminal) this.#print(text);
  }

  token(delta: string): void {
    this.#tokens++;
    this.#print(delta);
  }

  /** Ends the last line. A second call does nothing. */
  end(): void {
    if (this.#last !== '\n') this.#print('\n');
  }

  #print(text: string): void {
    if (!this.isOn || text === '') return;
    process.stdout.write(this.#isTerminal ? shownText(text) : text);
    this.#last = text.slice(-1);
  }
}

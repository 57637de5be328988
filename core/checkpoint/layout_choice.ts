// The answer to what a file cannot say of itself, given once on the command line and refused where it is not needed.

import { SamebitsError } from '../errors.js';

/** What `--layout` may say. */
export const LAYOUTS = ['native', 'coalesced', 'signed', 'unsigned', 'gptq-v1', 'gptq-v2', 'mlx'] as const;
export type Layout = (typeof LAYOUTS)[number];

export interface ImportOptions {
  /** Only where the file cannot say: untagged square scales, codes whose convention is in doubt, a missing config. */
  readonly layout?: Layout;
  /** Read GPTQ v1 zero points of asymmetric models as stored + 1, though writers disagree on them. */
  readonly assumeZeroOffset?: boolean;
}

/** Hands the answer to the importers that ask. */
export class LayoutChoice {
  #wasUsed = false;

  constructor(readonly options: ImportOptions = {}) {}

  /**
   * The answer, if it is one of `choices`.
   * @throws SamebitsError FILE_LAYOUT_AMBIGUOUS with the question when there is none
   */
  ask<T extends Layout>(choices: readonly T[], rule: string, got: string): T {
    const answer = this.given(choices);
    if (answer !== undefined) return answer;
    throw new SamebitsError('FILE_LAYOUT_AMBIGUOUS', {
      rule,
      expected: `--layout ${choices.join(' or --layout ')}`,
      got,
      fix: "Say which with 'samebits convert SOURCE OUT --layout ...'; whoever wrote the file knows.",
    });
  }

  /** The answer, if it is one of `choices`, to a question that the file answers well enough by itself. */
  given<T extends Layout>(choices: readonly T[]): T | undefined {
    const answer = choices.find((choice) => choice === this.options.layout);
    if (answer !== undefined) this.#wasUsed = true;
    return answer;
  }

  /** @throws SamebitsError ARGUMENT_INVALID when an answer was given that nobody asked for */
  refuseUnasked(): void {
    if (this.options.layout === undefined || this.#wasUsed) return;
    throw new SamebitsError('ARGUMENT_INVALID', {
      rule: '--layout answers only what the file cannot say',
      expected: 'no --layout for this file',
      got: `--layout ${this.options.layout}`,
      fix: 'Leave it out: the file says what it is.',
    });
  }
}

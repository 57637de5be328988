// Text to tokens and back, by the tokenizer.json that belongs to the model. The rules are all in that file; the library that
// reads it is Hugging Face's.

import { Tokenizer } from '@huggingface/tokenizers';
import { kindOf } from '../argument_checks.js';
import { SamebitsError } from '../errors.js';
import { TextStream } from './text_stream.js';

/** A model's tokenizer. Stateless; may be shared. */
export class TextTokenizer {
  readonly #tokenizer: Tokenizer;

  /**
   * @param tokenizerJson contents of tokenizer.json
   * @param configJson contents of tokenizer_config.json, where the model has one
   * @throws SamebitsError MODEL_TOKENIZER_INVALID
   */
  constructor(tokenizerJson: string, configJson = '{}') {
    const [rules, config] = [
      jsonObject(tokenizerJson, 'tokenizer.json'),
      jsonObject(configJson, 'tokenizer_config.json'),
    ];
    try {
      this.#tokenizer = new Tokenizer(rules, config);
    } catch (cause) {
      throw invalid('tokenizer.json must describe a tokenizer', cause);
    }
  }

  /**
   * Tokens of `text`, as they are: nothing is put before or behind. What is written like a special token is that token.
   * @throws SamebitsError MODEL_TOKENIZER_INVALID where the tokenizer has no token for a part of the text
   */
  encode(text: string): readonly number[] {
    let ids: readonly unknown[];
    try {
      ids = this.#tokenizer.encode(text, { add_special_tokens: false }).ids;
    } catch (cause) {
      throw invalid('tokenizer.json must be able to encode any text', cause);
    }
    const isToken = (id: unknown): id is number => typeof id === 'number' && Number.isInteger(id) && id >= 0;
    if (ids.every(isToken)) return ids;
    throw invalid(
      'tokenizer.json must have a token for every part of a text',
      ids.find((id) => !isToken(id)),
    );
  }

  /** The text of `tokens`, without special ones. What is not UTF-8 is U+FFFD. */
  decode(tokens: readonly number[]): string {
    if (tokens.length === 0) return '';
    return this.#tokenizer.decode([...tokens], { skip_special_tokens: true, clean_up_tokenization_spaces: false });
  }

  /** The text of tokens that come one by one behind `before`. */
  stream(before: readonly number[]): TextStream {
    return new TextStream((tokens) => this.decode(tokens), before);
  }
}

function jsonObject(text: string, what: string): object {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw invalid(`${what} must be JSON`, cause);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  throw invalid(`${what} must be a JSON object`, value);
}

function invalid(rule: string, cause: unknown): SamebitsError {
  return new SamebitsError('MODEL_TOKENIZER_INVALID', {
    rule,
    expected: 'the file that came with the model',
    got: cause instanceof Error ? cause.message : kindOf(cause),
    fix: "Convert the model again, with its tokenizer.json beside it; 'samebits convert' takes it along.",
    cause,
  });
}

// The text model that a samebits file holds, before it is on any device: its sizes, its tokenizer, its chat template.

import type { Backend } from '../backend.js';
import type { SamebitsFile } from '../checkpoint/samebits_file.js';
import { SamebitsError } from '../errors.js';
import type { ChatSources } from './chat_template.js';
import type { DecoderSource, LoadOptions } from './decoder_backend.js';
import type { DecoderConfig } from './decoder_config.js';
import { openFileDecoderSource } from './file_decoder_source.js';
import { requireCount } from './generate.js';
import { TextModel } from './text_model.js';
import { TextTokenizer } from './text_tokenizer.js';

/** Needs its samebits file open until it is loaded. */
export class TextModelFile {
  private constructor(
    private readonly weights: DecoderSource,
    readonly tokenizer: TextTokenizer,
    /** What ChatTemplate.of makes a template of. */
    readonly chatSources: ChatSources,
  ) {}

  /**
   * Reads and checks everything but the weights.
   * @throws SamebitsError FILE_TENSOR_MISSING without a tokenizer; MODEL_TOKENIZER_INVALID; what the model's config breaks
   */
  static async open(file: SamebitsFile): Promise<TextModelFile> {
    const weights = await openFileDecoderSource(file);
    const rules = await textOf(file, 'tokenizer.json');
    if (rules === undefined) throw noTokenizer(file);
    const config = await textOf(file, 'tokenizer_config.json');
    const jinja = await textOf(file, 'chat_template.jinja');
    return new TextModelFile(weights, new TextTokenizer(rules, config), { jinja, config });
  }

  get config(): DecoderConfig {
    return this.weights.config;
  }

  /** Tokens of a text to continue, a rendered chat too, with the beginning token that every text has. */
  textTokens(text: string): readonly number[] {
    const tokens = this.tokenizer.encode(text);
    const { beginToken } = this.config;
    return beginToken === null || tokens[0] === beginToken ? tokens : [beginToken, ...tokens];
  }

  /**
   * Positions that a session needs for a prompt and so many new tokens, the last of which needs none; fewer where the model
   * cannot have them all.
   * @throws SamebitsError CONTEXT_FULL when not even the prompt fits; ARGUMENT_INVALID for a length that is none
   */
  capacityFor(prompt: readonly number[], maxNewTokens: number): number {
    requireCount('maxNewTokens', maxNewTokens);
    const { maxPositions } = this.config;
    if (prompt.length <= maxPositions) return Math.min(prompt.length + maxNewTokens - 1, maxPositions);
    throw new SamebitsError('CONTEXT_FULL', {
      rule: 'a prompt must fit into the context of the model',
      expected: `${maxPositions} tokens at most`,
      got: `${prompt.length} tokens`,
      fix: 'Shorten the prompt.',
    });
  }

  /**
   * Copies the weights to the device.
   * @throws SamebitsError what is wrong with the weights or the device
   */
  async load(backend: Backend, options: LoadOptions = {}): Promise<TextModel> {
    return new TextModel(this, await backend.loadDecoder(this.weights, options));
  }
}

/** A file of the model's folder that the conversion took along. */
async function textOf(file: SamebitsFile, name: string): Promise<string | undefined> {
  const tensor = `files/${name}`;
  if (!file.plainTensors.has(tensor)) return undefined;
  return new TextDecoder().decode(await file.readPlain(tensor));
}

function noTokenizer(file: SamebitsFile): SamebitsError {
  return new SamebitsError('FILE_TENSOR_MISSING', {
    rule: `${file.name} must hold the tokenizer of its model`,
    expected: 'a tensor files/tokenizer.json',
    got: 'none',
    fix: "Convert the model again, with its tokenizer.json beside it; 'samebits convert' takes it along.",
  });
}

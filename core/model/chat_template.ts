// A conversation as the text that the model was trained to continue, by the template that came with it.

import type { Template } from '@huggingface/jinja';
import { SamebitsError } from '../errors.js';

export interface ChatMessage {
  readonly role: 'system' | 'user' | 'assistant';
  readonly content: string;
}

/** What a model's folder has to make a template of, which may be neither. */
export interface ChatSources {
  /** Contents of chat_template.jinja. */
  readonly jinja: string | undefined;
  /** Contents of tokenizer_config.json. */
  readonly config: string | undefined;
}

/** A model's chat template: Jinja, rendered by the engine that Hugging Face keeps for such templates. */
export class ChatTemplate {
  private constructor(
    private readonly template: Template,
    /** By their names in templates: `bos_token`, `eos_token`. */
    private readonly specialTokens: Readonly<Record<string, string>>,
  ) {}

  /**
   * The text up to where the answer begins. It holds the beginning token, where the template writes one.
   * @throws SamebitsError MODEL_CHAT_TEMPLATE_INVALID, also when the template refuses these messages
   */
  render(messages: readonly ChatMessage[]): string {
    try {
      return this.template.render({ ...this.specialTokens, messages, add_generation_prompt: true });
    } catch (cause) {
      throw invalid(cause);
    }
  }

  /**
   * The template of a model: chat_template.jinja, which newer models have, before the field of tokenizer_config.json.
   * @throws SamebitsError MODEL_CHAT_TEMPLATE_MISSING, MODEL_CHAT_TEMPLATE_INVALID
   */
  static async of(sources: ChatSources): Promise<ChatTemplate> {
    const config = fieldsOf(sources.config ?? '{}');
    const source = sources.jinja ?? config.get('chat_template');
    if (typeof source !== 'string') {
      throw new SamebitsError('MODEL_CHAT_TEMPLATE_MISSING', {
        rule: 'a chat needs the template that the model was trained with',
        expected: 'a chat_template.jinja, or a chat_template in tokenizer_config.json',
        got: 'a model with neither',
        fix: 'Give the text to continue as it is, without --chat; this model was not made for conversations.',
      });
    }
    const specialTokens: Record<string, string> = {};
    for (const [name, value] of config) {
      const token = typeof value === 'object' && value !== null ? Reflect.get(value, 'content') : value;
      if (name.endsWith('_token') && typeof token === 'string') specialTokens[name] = token;
    }
    // Most programs never chat: they need not load the engine.
    const { Template } = await import('@huggingface/jinja');
    try {
      return new ChatTemplate(new Template(source), specialTokens);
    } catch (cause) {
      throw invalid(cause);
    }
  }
}

function fieldsOf(configJson: string): ReadonlyMap<string, unknown> {
  try {
    const config: unknown = JSON.parse(configJson);
    return new Map(typeof config === 'object' && config !== null ? Object.entries(config) : []);
  } catch (cause) {
    throw invalid(cause);
  }
}

function invalid(cause: unknown): SamebitsError {
  return new SamebitsError('MODEL_CHAT_TEMPLATE_INVALID', {
    rule: 'the chat template must render these messages',
    expected: 'a template in the Jinja that chat templates use',
    got: cause instanceof Error ? cause.message : String(cause),
    fix: 'Give the text to continue as it is, with the marks of its turns, without --chat.',
    cause,
  });
}

// What a tensor's name and the model's config say of its role. Checkpoints hold no types, so this is all there is.

import { SamebitsError } from '../errors.js';
import { isJsonObject, type JsonObject, type JsonValue } from './strict_json.js';
import { quoted } from './tensor_error.js';

/** What a matrix named `*.weight` is for. */
export type Role = 'linear' | 'embedding' | 'tied head' | 'router' | 'transposed';

/** Families whose c_attn, c_fc and c_proj hold the weight transposed, [K, N]. */
const TRANSPOSING_MODELS: ReadonlySet<string> = new Set(['gpt2', 'openai-gpt', 'imagegpt', 'decision_transformer']);

/** The role of each matrix of a model, by the name of its module: the tensor's name without `.weight`. */
export class NameRules {
  readonly #isTied: boolean;
  readonly #mayTranspose: boolean;

  constructor(names: Iterable<string>, config: JsonObject) {
    const hasHead = [...names].some((name) => /(^|\.)(lm_head|embed_out)\.weight$/.test(name));
    this.#isTied = !hasHead && textConfig(config, 'tie_word_embeddings') !== false;
    const modelType = textConfig(config, 'model_type');
    this.#mayTranspose = typeof modelType !== 'string' || TRANSPOSING_MODELS.has(modelType);
  }

  /** Undefined for a tensor that is not a module's `.weight`. */
  roleOf(name: string): Role | undefined {
    if (!name.endsWith('.weight')) return undefined;
    const module = name.slice(0, -'.weight'.length);
    const parts = module.split('.');
    const last = parts.at(-1) ?? '';
    if (/^(embed_tokens|wte)$/.test(last)) return this.#isTied ? 'tied head' : 'embedding';
    if (/^(wpe|shared|relative_attention_bias)$/.test(last)) return 'embedding';
    if (/embed/.test(last) && !/(proj|projection|_out)$/.test(last)) return 'embedding';
    if (parts.includes('router') || /^(gate|shared_expert_gate)$/.test(last)) return 'router';
    if (this.#mayTranspose && /^(c_attn|c_fc|c_proj|q_attn)$/.test(last)) return 'transposed';
    return 'linear';
  }
}

/** A setting of the language model: at the top of config.json, or in text_config of a multimodal one. */
function textConfig(config: JsonObject, key: string): JsonValue | undefined {
  const text = config.get('text_config');
  return (isJsonObject(text) ? text.get(key) : undefined) ?? config.get(key);
}

/**
 * A test for names against patterns in which `*` stands for any characters.
 * @throws SamebitsError ARGUMENT_INVALID for a pattern that fits none of `names`
 */
export function patternMatcher(patterns: readonly string[], names: Iterable<string>): (name: string) => boolean {
  const known = [...names];
  const tests = patterns.map((pattern) => {
    const literals = pattern.split('*').map((part) => part.replace(/[\\^$.|?+()[\]{}]/g, '\\$&'));
    const expression = new RegExp(`^${literals.join('.*')}$`, 's');
    if (known.some((name) => expression.test(name))) return expression;
    throw new SamebitsError('ARGUMENT_INVALID', {
      rule: 'a pattern must fit some tensor',
      expected: "a name, or one with '*' for any characters",
      got: quoted(pattern),
      fix: "List the names with 'samebits inspect'.",
    });
  });
  return (name) => tests.some((expression) => expression.test(name));
}

// Reads config.json of a Gemma 4 text model, gemma4_text or the text stack of gemma4, and refuses what is not built.

import { kindOf } from '../argument_checks.js';
import { SamebitsError } from '../errors.js';
import type { DecoderConfig, LayerConfig } from './decoder_config.js';

type Fields = Readonly<Record<string, unknown>>;

/**
 * @param json the text of config.json
 * @throws SamebitsError MODEL_CONFIG_INVALID, MODEL_UNSUPPORTED, naming the field
 */
export function readHfConfig(json: string): DecoderConfig {
  const all = parsed(json);
  const modelType = all['model_type'];
  if (modelType !== 'gemma4_text' && modelType !== 'gemma4')
    throw unsupported('model_type', 'gemma4_text or gemma4', modelType);
  const text = modelType === 'gemma4' ? object(all, 'text_config') : all;
  refuseUnbuilt(text);
  const layers = layersOf(text);
  const beginToken = text['bos_token_id'] ?? all['bos_token_id'] ?? null;
  return {
    hiddenSize: multiple(text, 'hidden_size', 32),
    intermediateSize: multiple(text, 'intermediate_size', 32),
    vocabularySize: count(text, 'vocab_size'),
    maxPositions: count(text, 'max_position_embeddings'),
    rmsNormEpsilon: positive(text, 'rms_norm_eps'),
    softCap: (text['final_logit_softcapping'] ?? null) === null ? null : positive(text, 'final_logit_softcapping'),
    layers,
    beginToken: beginToken === null ? null : token('bos_token_id', beginToken),
    endTokens: [text['eos_token_id'] ?? all['eos_token_id'] ?? []].flat().map((end) => token('eos_token_id', end)),
  };
}

/** Fields that may be there with these values only; absent is the first of them. */
const BUILT: Readonly<Record<string, readonly unknown[]>> = {
  enable_moe_block: [false, null],
  hidden_size_per_layer_input: [0, null],
  num_kv_shared_layers: [0, null],
  use_double_wide_mlp: [false, null],
  attention_bias: [false, null],
  use_bidirectional_attention: [null, false, 'vision'],
  hidden_activation: ['gelu_pytorch_tanh'],
  tie_word_embeddings: [true, null],
};

function refuseUnbuilt(text: Fields): void {
  for (const [name, built] of Object.entries(BUILT)) {
    const value = text[name];
    if (value === undefined || built.includes(value)) continue;
    throw unsupported(name, built.map((one) => JSON.stringify(one)).join(' or '), value);
  }
}

function layersOf(text: Fields): LayerConfig[] {
  const types = text['layer_types'];
  const nLayers = count(text, 'num_hidden_layers');
  if (!Array.isArray(types) || types.length !== nLayers) {
    throw invalid('layer_types', `a list of num_hidden_layers = ${nLayers} names`, types);
  }
  const ropes = object(text, 'rope_parameters');
  const perLayer = (text['per_layer_config'] ?? null) === null ? {} : object(text, 'per_layer_config');
  return types.map((type: unknown, layer): LayerConfig => {
    if (type !== 'sliding_attention' && type !== 'full_attention') {
      throw unsupported(`layer_types[${layer}]`, 'sliding_attention or full_attention', type);
    }
    const isFull = type === 'full_attention';
    const sharesKeys = isFull && text['attention_k_eq_v'] === true;
    const own = perLayer[layer] === undefined ? {} : object(perLayer, String(layer));
    // What a layer has of its own, then what full layers have, then what all have.
    const sizes = {
      head_dim: own['head_dim'] ?? (isFull ? text['global_head_dim'] : null) ?? text['head_dim'],
      num_key_value_heads:
        own['num_key_value_heads'] ??
        (sharesKeys ? text['num_global_key_value_heads'] : null) ??
        text['num_key_value_heads'],
    };
    const heads = count(text, 'num_attention_heads');
    const headSize = multiple(sizes, 'head_dim', 32);
    const keyValueHeads = count(sizes, 'num_key_value_heads');
    if (heads % keyValueHeads !== 0) throw invalid('num_key_value_heads', `a divisor of ${heads} heads`, keyValueHeads);
    return {
      attention: isFull ? 'full' : 'sliding',
      heads,
      keyValueHeads,
      headSize,
      hasValueProjection: !sharesKeys,
      window: isFull ? null : count(text, 'sliding_window'),
      ...rotaryOf(object(ropes, type), headSize),
    };
  });
}

function rotaryOf(rope: Fields, headSize: number): Pick<LayerConfig, 'rotaryTheta' | 'rotaryFrequencies'> {
  const rotaryTheta = positive(rope, 'rope_theta');
  const type = rope['rope_type'] ?? 'default';
  if (type === 'default') return { rotaryTheta, rotaryFrequencies: headSize / 2 };
  if (type !== 'proportional') throw unsupported('rope_type', 'default or proportional', type);
  const factor = rope['partial_rotary_factor'] === undefined ? 1 : positive(rope, 'partial_rotary_factor');
  const rotaryFrequencies = (headSize * factor) / 2;
  if (factor <= 1 && Number.isInteger(rotaryFrequencies)) return { rotaryTheta, rotaryFrequencies };
  throw invalid('partial_rotary_factor', `a share of the ${headSize / 2} frequencies`, factor);
}

function parsed(json: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw invalid('config.json', 'JSON', cause instanceof Error ? cause.message : cause);
  }
  return asObject('config.json', value);
}

const object = (of: Fields, name: string): Fields => asObject(name, of[name]);

function asObject(name: string, value: unknown): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value))
    return Object.fromEntries(Object.entries(value));
  throw invalid(name, 'an object', value);
}

function positive(of: Fields, name: string): number {
  const value = of[name];
  if (typeof value === 'number' && Number.isFinite(value) && value > 0) return value;
  throw invalid(name, 'a positive number', value);
}

function count(of: Fields, name: string): number {
  const value = positive(of, name);
  if (Number.isSafeInteger(value)) return value;
  throw invalid(name, 'a positive integer', value);
}

function multiple(of: Fields, name: string, divisor: number): number {
  const value = count(of, name);
  if (value % divisor === 0) return value;
  throw unsupported(name, `a multiple of ${divisor}`, value);
}

function token(name: string, value: unknown): number {
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw invalid(name, 'a token', value);
}

function invalid(field: string, expected: string, got: unknown): SamebitsError {
  return new SamebitsError('MODEL_CONFIG_INVALID', {
    rule: `${field} of a model's config.json must be what Gemma 4 has there`,
    expected,
    got: kindOf(got),
    fix: 'Take config.json as it was published with the model.',
  });
}

function unsupported(field: string, expected: string, got: unknown): SamebitsError {
  return new SamebitsError('MODEL_UNSUPPORTED', {
    rule: `samebits decodes only models whose ${field} is built`,
    expected,
    got: kindOf(got),
    fix: 'Choose a dense Gemma 4 text model.',
  });
}

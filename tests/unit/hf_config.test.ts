// config.json of a Gemma 4 text model: what is read from it, and each field that is refused by its name.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { readHfConfig } from '../../core/model/hf_config.js';

const json = readFileSync('tests/data/gemma4-kjv-6m/config.json', 'utf8');
const changed = (change: object): string => JSON.stringify({ ...JSON.parse(json), ...change });

const sliding = {
  attention: 'sliding',
  heads: 4,
  keyValueHeads: 2,
  headSize: 64,
  hasValueProjection: true,
  window: 128,
  rotaryTheta: 1e4,
  rotaryFrequencies: 32,
};
const full = {
  ...sliding,
  attention: 'full',
  keyValueHeads: 1,
  headSize: 128,
  hasValueProjection: false,
  window: null,
  rotaryTheta: 1e6,
  rotaryFrequencies: 16,
};

test('the small model', () => {
  expect(readHfConfig(json)).toEqual({
    hiddenSize: 256,
    intermediateSize: 1024,
    vocabularySize: 2048,
    maxPositions: 1024,
    rmsNormEpsilon: 1e-6,
    softCap: 30,
    beginToken: 2,
    endTokens: [1],
    layers: [sliding, sliding, sliding, sliding, sliding, full],
  });
});

test('the text stack of gemma4, and sizes of full layers by their global names', () => {
  const text = { ...JSON.parse(json), per_layer_config: null, global_head_dim: 128, num_global_key_value_heads: 1 };
  const nested = { model_type: 'gemma4', eos_token_id: [1, 106], text_config: { ...text, eos_token_id: undefined } };
  expect(readHfConfig(JSON.stringify(nested))).toEqual({ ...readHfConfig(json), endTokens: [1, 106] });
  const own = readHfConfig(JSON.stringify({ ...text, attention_k_eq_v: false }));
  expect(own.layers[5]).toEqual({ ...full, keyValueHeads: 2, hasValueProjection: true });
});

describe('refused', () => {
  test.each<[string, string, object]>([
    ['MODEL_UNSUPPORTED', 'model_type', { model_type: 'llama' }],
    ['MODEL_UNSUPPORTED', 'enable_moe_block', { enable_moe_block: true }],
    ['MODEL_UNSUPPORTED', 'hidden_size_per_layer_input', { hidden_size_per_layer_input: 256 }],
    ['MODEL_UNSUPPORTED', 'num_kv_shared_layers', { num_kv_shared_layers: 2 }],
    ['MODEL_UNSUPPORTED', 'use_double_wide_mlp', { use_double_wide_mlp: true }],
    ['MODEL_UNSUPPORTED', 'attention_bias', { attention_bias: true }],
    ['MODEL_UNSUPPORTED', 'use_bidirectional_attention', { use_bidirectional_attention: 'all' }],
    ['MODEL_UNSUPPORTED', 'hidden_activation', { hidden_activation: 'silu' }],
    ['MODEL_UNSUPPORTED', 'tie_word_embeddings', { tie_word_embeddings: false }],
    ['MODEL_UNSUPPORTED', 'hidden_size', { hidden_size: 250 }],
    ['MODEL_UNSUPPORTED', 'layer_types[0]', { num_hidden_layers: 1, layer_types: ['linear_attention'] }],
    [
      'MODEL_UNSUPPORTED',
      'rope_type',
      { rope_parameters: { sliding_attention: { rope_theta: 1, rope_type: 'yarn' } } },
    ],
    ['MODEL_CONFIG_INVALID', 'layer_types', { num_hidden_layers: 5 }],
    ['MODEL_CONFIG_INVALID', 'rope_parameters', { rope_parameters: null }],
    ['MODEL_CONFIG_INVALID', 'vocab_size', { vocab_size: '2048' }],
    ['MODEL_CONFIG_INVALID', 'num_key_value_heads', { num_key_value_heads: 3 }],
    ['MODEL_CONFIG_INVALID', 'rms_norm_eps', { rms_norm_eps: 0 }],
    ['MODEL_CONFIG_INVALID', 'sliding_window', { sliding_window: null }],
    ['MODEL_CONFIG_INVALID', 'eos_token_id', { eos_token_id: -1 }],
    ['MODEL_CONFIG_INVALID', 'text_config', { model_type: 'gemma4' }],
  ])('%s: %s', (code, field, change) => {
    const rule = expect.stringContaining(field);
    expect(() => readHfConfig(changed(change))).toThrow(expect.objectContaining({ code, rule }));
  });

  test.each(['', '[]', '{'])('MODEL_CONFIG_INVALID: %j', (text) => {
    expect(() => readHfConfig(text)).toThrow(expect.objectContaining({ code: 'MODEL_CONFIG_INVALID' }));
  });
});

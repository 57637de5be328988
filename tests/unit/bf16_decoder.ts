// The small model as it was trained, bf16 weights without quantization: what the decoder's reference is compared with
// transformers by.

import { readFileSync } from 'node:fs';
import { memorySource, numberFromBf16, openSafetensors, type SafetensorsFile } from '../../core/index.js';
import type { CpuDecoderSource, CpuLinear } from '../../core/model/cpu_decoder.js';
import { readHfConfig } from '../../core/model/hf_config.js';
import type { LinearName, VectorName } from '../../core/model/step.js';
import { linearShape } from '../../core/model/weight_shapes.js';

export const MODEL = 'tests/data/gemma4-kjv-6m';

const NAMES: Readonly<Record<Exclude<LinearName, 'head'> | Exclude<VectorName, 'norm'>, string>> = {
  q: 'self_attn.q_proj',
  k: 'self_attn.k_proj',
  v: 'self_attn.v_proj',
  o: 'self_attn.o_proj',
  gate: 'mlp.gate_proj',
  up: 'mlp.up_proj',
  down: 'mlp.down_proj',
  inputNorm: 'input_layernorm',
  postAttentionNorm: 'post_attention_layernorm',
  preMlpNorm: 'pre_feedforward_layernorm',
  postMlpNorm: 'post_feedforward_layernorm',
  qNorm: 'self_attn.q_norm',
  kNorm: 'self_attn.k_norm',
};

export interface Bf16Model {
  readonly source: CpuDecoderSource;
  /** bf16 bits [N, K] of a linear. */
  weight(name: LinearName, layer: number | null): Uint16Array;
}

export async function openBf16Model(): Promise<Bf16Model> {
  const config = readHfConfig(readFileSync(`${MODEL}/config.json`, 'utf8'));
  const file = await openSafetensors(memorySource(new Uint8Array(readFileSync(`${MODEL}/model.safetensors`))));
  const tensors = new Map<string, Uint16Array>();
  for (const name of file.tensors.keys()) tensors.set(name, await bitsOf(file, name));
  const ofLayer = (layer: number, name: string) => tensors.get(`model.layers.${layer}.${name}`)!;
  const embedding = tensors.get('model.embed_tokens.weight')!;
  const weight = (name: LinearName, layer: number | null) =>
    name === 'head' || layer === null ? embedding : ofLayer(layer, `${NAMES[name]}.weight`);
  const linears = new Map<string, CpuLinear>();
  return {
    weight,
    source: {
      config,
      linear: async (name, layer) => {
        const key = `${name} ${layer}`;
        const linear = linears.get(key) ?? plainLinear(weight(name, layer), linearShape(config, name, layer).n);
        linears.set(key, linear);
        return linear;
      },
      vector: async (name, layer) =>
        name === 'norm' || layer === null ? tensors.get('model.norm.weight')! : ofLayer(layer, `${NAMES[name]}.weight`),
      embedding: async (first, count) =>
        embedding.subarray(first * config.hiddenSize, (first + count) * config.hiddenSize),
      layerScalar: async (layer) => numberFromBf16(ofLayer(layer, 'layer_scalar')[0]!),
    },
  };
}

/** y = x · wᵀ in doubles, four sums side by side; w bf16 bits [N, K], K a multiple of 4. */
export function plainLinear(bits: Uint16Array, n: number): CpuLinear {
  const w = Float32Array.from(bits, numberFromBf16);
  const k = w.length / n;
  return (x) => {
    const values = Float64Array.from(x, numberFromBf16);
    const y = new Float32Array(n);
    for (let row = 0; row < n; row++) {
      let [a, b, c, d] = [0, 0, 0, 0];
      for (let i = 0, at = row * k; i < k; i += 4, at += 4) {
        a += w[at]! * values[i]!;
        b += w[at + 1]! * values[i + 1]!;
        c += w[at + 2]! * values[i + 2]!;
        d += w[at + 3]! * values[i + 3]!;
      }
      y[row] = a + b + c + d;
    }
    return y;
  };
}

async function bitsOf(file: SafetensorsFile, name: string): Promise<Uint16Array> {
  return new Uint16Array((await file.read(name)).slice().buffer);
}

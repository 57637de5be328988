// The weights of a decoder in a samebits file, by the names that Hugging Face gives them.

import { numberFromBf16 } from '../bf16.js';
import type { SamebitsFile } from '../checkpoint/samebits_file.js';
import { quoted } from '../checkpoint/tensor_error.js';
import { u16View } from '../checkpoint/views.js';
import { SamebitsError } from '../errors.js';
import type { DecoderSource } from './decoder_backend.js';
import type { DecoderConfig } from './decoder_config.js';
import { readHfConfig } from './hf_config.js';
import type { LinearName, VectorName } from './step.js';
import { linearShape, linearsOf, vectorLength, vectorsOf } from './weight_shapes.js';

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

/**
 * A source over a file that holds its model's config.json as the tensor files/config.json. Needs the file open.
 * @throws SamebitsError FILE_TENSOR_MISSING; those of readHfConfig and fileDecoderSource
 */
export async function openFileDecoderSource(file: SamebitsFile): Promise<DecoderSource> {
  const json = new TextDecoder().decode(await file.readPlain('files/config.json'));
  return fileDecoderSource(file, readHfConfig(json));
}

/**
 * The same with a config from elsewhere. Every name and shape is checked here. The head is the embedding, packed.
 * @throws SamebitsError FILE_TENSOR_MISSING, FILE_TENSOR_INVALID, naming the tensor
 */
export function fileDecoderSource(file: SamebitsFile, config: DecoderConfig): DecoderSource {
  const prefix =
    ['model.', 'model.language_model.'].find((one) => file.plainTensors.has(`${one}norm.weight`)) ?? 'model.';
  const embeddingName = `${prefix}embed_tokens.weight`;
  const scalarName = (layer: number) => `${prefix}layers.${layer}.layer_scalar`;
  const nameOf = (name: LinearName | VectorName, layer: number | null) =>
    name === 'head'
      ? embeddingName
      : name === 'norm'
        ? `${prefix}norm.weight`
        : `${prefix}layers.${layer}.${NAMES[name]}.weight`;

  for (const { name, layer } of linearsOf(config)) {
    const { n, k } = linearShape(config, name, layer);
    const found = file.weights.get(nameOf(name, layer));
    check(file, nameOf(name, layer), `a packed weight [${n},${k}]`, found && `a packed weight [${found.n},${found.k}]`);
  }
  const plain: [string, readonly number[]][] = [
    [embeddingName, [config.vocabularySize, config.hiddenSize]],
    ...vectorsOf(config).map(({ name, layer }): [string, number[]] => [
      nameOf(name, layer),
      [vectorLength(config, name, layer)],
    ]),
    ...config.layers.map((_, layer): [string, number[]] => [scalarName(layer), [1]]),
  ];
  for (const [name, shape] of plain) {
    const found = file.plainTensors.get(name);
    check(file, name, `BF16 [${shape}]`, found && `${found.dtype} [${found.shape}]`);
  }

  const rowBytes = config.hiddenSize * 2;
  return {
    config,
    linear: (name, layer) => file.readWeight(nameOf(name, layer)),
    vector: async (name, layer) => u16View(await file.readPlain(nameOf(name, layer))),
    embedding: async (first, count) => u16View(await file.readPlain(embeddingName, first * rowBytes, count * rowBytes)),
    layerScalar: async (layer) => numberFromBf16(u16View(await file.readPlain(scalarName(layer)))[0]!),
  };
}

function check(file: SamebitsFile, name: string, expected: string, got: string | undefined): void {
  if (got === expected) return;
  throw new SamebitsError(got === undefined ? 'FILE_TENSOR_MISSING' : 'FILE_TENSOR_INVALID', {
    rule: `tensor ${quoted(name)} of ${file.name} must be what its model's config says`,
    expected,
    got: got ?? 'no such tensor',
    fix: "Convert the model again with 'samebits convert', its embedding kept in bf16.",
  });
}

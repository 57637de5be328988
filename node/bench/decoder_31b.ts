// A decoder with every dimension of Gemma 4 31B and random weights: what a whole step takes, attention and norms included.

import { isNested, STEP_SIZE, type WeightForm } from '../../core/forms.js';
import { bf16FromNumber, CoalescedInt4Tensor, Random } from '../../core/index.js';
import type { DecoderSource } from '../../core/model/decoder_backend.js';
import type { DecoderConfig, LayerConfig } from '../../core/model/decoder_config.js';
import { linearShape, vectorLength } from '../../core/model/weight_shapes.js';
import { DECODE_GROUP_SIZE, DECODE_LAYERS, decodeWeight } from './decode_step.js';
import { formWeight } from './form_weight.js';

const HIDDEN = 5376;
const INTERMEDIATE = 21_504;
const VOCABULARY = 262_144;
const FULL_ATTENTION_EVERY = 6;
const SLIDING: LayerConfig = {
  attention: 'sliding',
  heads: 32,
  keyValueHeads: 16,
  headSize: 256,
  hasValueProjection: true,
  window: 1024,
  rotaryTheta: 10_000,
  rotaryFrequencies: 128,
};
const FULL: LayerConfig = {
  attention: 'full',
  heads: 32,
  keyValueHeads: 4,
  headSize: 512,
  hasValueProjection: false,
  window: null,
  rotaryTheta: 1_000_000,
  rotaryFrequencies: 64,
};
/** Values that the embedding is made of, again and again; no multiple of a row. */
const EMBEDDING_VALUES = 1_048_573;

/**
 * @param divisor of every width but that of a head: 1, or more for a software device
 * @param form of the weights: a nested one has widths of whole steps
 */
export function decoder31b(layers: number = DECODE_LAYERS, divisor = 1, form?: WeightForm): DecoderConfig {
  const step = form && isNested(form) ? STEP_SIZE : 1;
  const width = (size: number) => Math.ceil(size / divisor / step) * step;
  const divided = (layer: LayerConfig): LayerConfig => ({
    ...layer,
    heads: layer.heads / divisor,
    keyValueHeads: Math.max(1, layer.keyValueHeads / divisor),
  });
  return {
    hiddenSize: width(HIDDEN),
    intermediateSize: width(INTERMEDIATE),
    vocabularySize: VOCABULARY / divisor,
    maxPositions: VOCABULARY,
    rmsNormEpsilon: 1e-6,
    softCap: 30,
    layers: Array.from({ length: layers }, (_, layer) =>
      divided(layer % FULL_ATTENTION_EVERY === FULL_ATTENTION_EVERY - 1 ? FULL : SLIDING),
    ),
    beginToken: null,
    endTokens: [],
  };
}

/** Linears of one shape have equal weights, each in memory of its own; norms leave what they scale to unit size. */
export function syntheticDecoder(config: DecoderConfig, form?: WeightForm): DecoderSource {
  const weights = new Map<string, CoalescedInt4Tensor>();
  const one = bf16FromNumber(1);
  let values: Uint16Array | undefined;
  return {
    config,
    linear: async (name, layer) => {
      const { n, k } = linearShape(config, name, layer);
      const key = `${n}x${k}`;
      const draw = () =>
        form ? formWeight(form, n, k, DECODE_GROUP_SIZE) : CoalescedInt4Tensor.fromInt4Tensor(decodeWeight(n, k));
      const weight = weights.get(key) ?? draw();
      weights.set(key, weight);
      return weight;
    },
    vector: async (name, layer) => new Uint16Array(vectorLength(config, name, layer)).fill(one),
    embedding: async (first, count) => {
      values ??= embeddingValues();
      const rows = new Uint16Array(count * config.hiddenSize);
      for (let done = 0; done < rows.length; ) {
        const from = (first * config.hiddenSize + done) % EMBEDDING_VALUES;
        const piece = values.subarray(from, from + rows.length - done);
        rows.set(piece, done);
        done += piece.length;
      }
      return rows;
    },
    layerScalar: async () => 1,
  };
}

function embeddingValues(): Uint16Array {
  const random = Random.named('decoder embedding');
  return Uint16Array.from({ length: EMBEDDING_VALUES }, () => bf16FromNumber(random.normal() / 64));
}

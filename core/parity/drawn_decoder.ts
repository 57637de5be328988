// Decoders drawn from their sizes: weights of every name, to verify whole steps with where there is no file.

import { bf16FromNumber } from '../bf16.js';
import { CoalescedInt4Tensor } from '../coalesced_int4_tensor.js';
import type { DecoderSource } from '../model/decoder_backend.js';
import type { DecoderConfig, LayerConfig } from '../model/decoder_config.js';
import { linearShape, vectorLength } from '../model/weight_shapes.js';
import { drawWeight } from './cases.js';
import { Random } from './random.js';

const SLIDING: LayerConfig = {
  attention: 'sliding',
  heads: 4,
  keyValueHeads: 2,
  headSize: 64,
  hasValueProjection: true,
  window: 37,
  rotaryTheta: 1e4,
  rotaryFrequencies: 32,
};

/** Full attention whose values are the keys' linear output, with few real frequencies. */
const FULL: LayerConfig = {
  ...SLIDING,
  attention: 'full',
  keyValueHeads: 1,
  headSize: 128,
  hasValueProjection: false,
  window: null,
  rotaryTheta: 1e6,
  rotaryFrequencies: 16,
};

/** Sizes that no workgroup divides; three kinds of layers, one with a window of more than a chunk. */
export const DRAWN_CONFIG: DecoderConfig = {
  hiddenSize: 288,
  intermediateSize: 608,
  vocabularySize: 517,
  maxPositions: 4096,
  rmsNormEpsilon: 1e-6,
  softCap: 30,
  layers: [SLIDING, FULL, { ...SLIDING, keyValueHeads: 4, headSize: 32, window: 300, rotaryFrequencies: 16 }],
  beginToken: null,
  endTokens: [],
};

/** The same weights at every call; `groupSizeOf` is 32 for all linears by default. */
export function drawDecoderSource(
  config: DecoderConfig = DRAWN_CONFIG,
  groupSizeOf: (linear: string) => number = () => 32,
): DecoderSource {
  const unit = (name: string, length: number) => {
    const random = Random.named(name);
    return Float32Array.from({ length }, () => random.below(512) / 256 - 1);
  };
  const linears = new Map<string, CoalescedInt4Tensor>();
  return {
    config,
    linear: async (linear, layer) => {
      const name = `${linear} ${layer}`;
      const { n, k } = linearShape(config, linear, layer);
      const draw = () => drawWeight({ name, n, k, groupSize: groupSizeOf(linear), weights: 'real-zero' });
      const tensor = linears.get(name) ?? CoalescedInt4Tensor.fromInt4Tensor(draw());
      linears.set(name, tensor);
      return tensor;
    },
    vector: async (vector, layer) => {
      const values = unit(`${vector} ${layer}`, vectorLength(config, vector, layer));
      return Uint16Array.from(values, (value) => bf16FromNumber(1 + value / 2));
    },
    embedding: async (first, count) => {
      const { hiddenSize } = config;
      const bits = new Uint16Array(count * hiddenSize);
      for (let row = 0; row < count; row++) {
        bits.set(Uint16Array.from(unit(`row ${first + row}`, hiddenSize), bf16FromNumber), row * hiddenSize);
      }
      return bits;
    },
    layerScalar: async (layer) => Math.fround(0.9 + layer / 16),
  };
}

// Small decoders with random weights, for tests: every kind of layer, sizes that fill no block, chunk or warp.

import { bf16FromNumber, CoalescedInt4Tensor, Int4Tensor, Random } from '../../core/index.js';
import type { DecoderSource } from '../../core/model/decoder_backend.js';
import type { DecoderConfig, LayerConfig } from '../../core/model/decoder_config.js';
import { linearShape, vectorLength } from '../../core/model/weight_shapes.js';

const SLIDING: LayerConfig = {
  attention: 'sliding',
  heads: 4,
  keyValueHeads: 2,
  headSize: 32,
  hasValueProjection: true,
  window: 5,
  rotaryTheta: 10_000,
  rotaryFrequencies: 16,
};
const FULL: LayerConfig = {
  attention: 'full',
  heads: 2,
  keyValueHeads: 1,
  headSize: 96,
  hasValueProjection: false,
  window: null,
  rotaryTheta: 1_000_000,
  rotaryFrequencies: 12,
};

/** A sliding layer, and one that sees everything and has k for v. */
export const SMALL_DECODER: DecoderConfig = {
  hiddenSize: 288,
  intermediateSize: 160,
  vocabularySize: 75,
  maxPositions: 4096,
  rmsNormEpsilon: 1e-6,
  softCap: 30,
  layers: [SLIDING, FULL],
  beginToken: 2,
  endTokens: [1],
};

/** Layers with the largest heads, with many queries a key, and with a window of more than one chunk. */
export const WIDE_DECODER: DecoderConfig = {
  ...SMALL_DECODER,
  hiddenSize: 64,
  intermediateSize: 64,
  softCap: null,
  layers: [
    { ...SLIDING, heads: 6, keyValueHeads: 1, headSize: 192, window: 300, rotaryFrequencies: 96 },
    { ...FULL, heads: 1, headSize: 320, hasValueProjection: true, rotaryFrequencies: 160 },
    { ...FULL, heads: 8, keyValueHeads: 8, headSize: 44, rotaryFrequencies: 0, rotaryTheta: 500 },
  ],
};

/** @param groupSizeOf of the linear with this number; by default 32 and 16 in turn. */
export function drawnDecoder(
  config: DecoderConfig,
  groupSizeOf: (index: number) => number = (index) => (index % 3 === 2 ? 16 : 32),
): DecoderSource {
  let index = 0;
  return {
    config,
    linear: async (name, layer) => {
      const { n, k } = linearShape(config, name, layer);
      return drawnWeight(`${layer} ${name}`, n, k, groupSizeOf(index++));
    },
    vector: async (name, layer) => {
      const random = Random.named(`vector ${layer} ${name}`);
      return Uint16Array.from({ length: vectorLength(config, name, layer) }, () =>
        bf16FromNumber(1 + 0.3 * random.normal()),
      );
    },
    embedding: async (first, count) => {
      const values = new Uint16Array(count * config.hiddenSize);
      for (let row = 0; row < count; row++) {
        const random = Random.named(`embedding ${first + row}`);
        for (let i = 0; i < config.hiddenSize; i++) {
          values[row * config.hiddenSize + i] = bf16FromNumber(0.1 * random.normal());
        }
      }
      return values;
    },
    layerScalar: async (layer) => [0.4375, 1.25, 1][layer % 3]!,
  };
}

function drawnWeight(name: string, n: number, k: number, groupSize: number): CoalescedInt4Tensor {
  const random = Random.named(`decoder ${name} ${n}x${k}`);
  const qdata = new Uint8Array((n * k) / 2);
  random.fillBytes(qdata);
  const count = (n * k) / groupSize;
  const around = 0.3 / Math.sqrt(k);
  const scale = Uint16Array.from({ length: count }, () => bf16FromNumber(around * (1 + 0.3 * random.normal())));
  const zeroPoint = Uint16Array.from({ length: count }, () => bf16FromNumber(7.5 + random.normal()));
  const shape = [k / groupSize, n];
  return CoalescedInt4Tensor.fromInt4Tensor(
    new Int4Tensor({
      groupSize,
      qdata: { dtype: 'u8', shape: [n, k / 2], data: qdata },
      scale: { dtype: 'bf16', shape, data: scale },
      zeroPoint: { dtype: 'bf16', shape, data: zeroPoint },
    }),
  );
}

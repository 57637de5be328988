// Sizes of decoders that the kernels on CUDA treat differently: every padding of a head, many queries a key, no cap.

import type { DecoderConfig, LayerConfig } from '../../core/model/decoder_config.js';

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

/** The largest heads, more queries a key than warps a block, and a head that is no multiple of 32. */
export const WIDE_DECODER: DecoderConfig = {
  ...SMALL_DECODER,
  hiddenSize: 64,
  intermediateSize: 64,
  softCap: null,
  layers: [
    { ...SLIDING, heads: 6, keyValueHeads: 1, headSize: 192, window: 3, rotaryFrequencies: 96 },
    { ...FULL, heads: 1, headSize: 320, hasValueProjection: true, rotaryFrequencies: 160 },
    { ...FULL, heads: 8, keyValueHeads: 8, headSize: 44, rotaryFrequencies: 0, rotaryTheta: 500 },
  ],
};

/** One sliding layer with a window of more than a chunk and one full one, as little else as there can be. */
export const LONG_DECODER: DecoderConfig = {
  ...SMALL_DECODER,
  hiddenSize: 32,
  intermediateSize: 32,
  layers: [
    { ...SLIDING, heads: 1, keyValueHeads: 1, window: 261 },
    { ...FULL, heads: 2, keyValueHeads: 2, headSize: 64 },
  ],
};

/** An intermediate size so large that the normed x of a step has room in shared memory where the gated one of another lies. */
export const WALKING_DECODER: DecoderConfig = { ...SMALL_DECODER, intermediateSize: 3 * SMALL_DECODER.hiddenSize };

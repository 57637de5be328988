// The shapes of a decoder's weights, from its sizes alone: what a source must give, and what a backend has room for.

import type { DecoderConfig } from './decoder_config.js';
import type { LinearName, VectorName } from './step.js';

/** [N, K] of a linear; `layer` is null for `head`. */
export function linearShape(config: DecoderConfig, name: LinearName, layer: number | null): { n: number; k: number } {
  const { hiddenSize, intermediateSize, vocabularySize } = config;
  if (layer === null) return { n: vocabularySize, k: hiddenSize };
  const { heads, keyValueHeads, headSize } = config.layers[layer]!;
  const shapes: Record<LinearName, { n: number; k: number }> = {
    q: { n: heads * headSize, k: hiddenSize },
    k: { n: keyValueHeads * headSize, k: hiddenSize },
    v: { n: keyValueHeads * headSize, k: hiddenSize },
    o: { n: hiddenSize, k: heads * headSize },
    gate: { n: intermediateSize, k: hiddenSize },
    up: { n: intermediateSize, k: hiddenSize },
    down: { n: hiddenSize, k: intermediateSize },
    head: { n: vocabularySize, k: hiddenSize },
  };
  return shapes[name];
}

/** Values of a norm's weight; `layer` is null for `norm`. */
export function vectorLength(config: DecoderConfig, name: VectorName, layer: number | null): number {
  const isOfHead = name === 'qNorm' || name === 'kNorm';
  return layer !== null && isOfHead ? config.layers[layer]!.headSize : config.hiddenSize;
}

/** Every linear of the model, in the order of a step. */
export function linearsOf(config: DecoderConfig): { name: LinearName; layer: number | null }[] {
  const ofLayers = config.layers.flatMap(({ hasValueProjection }, layer) => {
    const names: LinearName[] = hasValueProjection
      ? ['q', 'k', 'v', 'o', 'gate', 'up', 'down']
      : ['q', 'k', 'o', 'gate', 'up', 'down'];
    return names.map((name) => ({ name, layer }));
  });
  return [...ofLayers, { name: 'head', layer: null }];
}

/** Every vector of the model. */
export function vectorsOf(config: DecoderConfig): { name: VectorName; layer: number | null }[] {
  const names: VectorName[] = ['inputNorm', 'postAttentionNorm', 'preMlpNorm', 'postMlpNorm', 'qNorm', 'kNorm'];
  const ofLayers = config.layers.flatMap((_, layer) => names.map((name) => ({ name, layer })));
  return [...ofLayers, { name: 'norm', layer: null }];
}

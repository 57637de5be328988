// One step of the decoder as a list of operations on named values: what every backend runs, in this order. No backend has
// an idea of the model besides it; it may run several operations in one launch.

import type { DecoderConfig } from './decoder_config.js';

/** Values of a step on a device, each row-major with M rows, one a token of the step. */
export type ValueName =
  /** f32[M, hidden]: the residual stream. */
  | 'hidden'
  /** bf16[M, hidden]: what the next linears read. */
  | 'x'
  /** f32[M, heads * D], f32[M, keyValueHeads * D] and the same. */
  | 'q'
  | 'k'
  | 'v'
  /** bf16[M, heads * D]: after norm and rotation. */
  | 'queries'
  /** bf16[M, heads * D]: what attention gives. */
  | 'attended'
  /** f32[M, intermediate]. */
  | 'gate'
  | 'up'
  /** bf16[M, intermediate]: gelu(gate) * up. */
  | 'gated'
  /** f32[M, hidden]: of o_proj and down_proj. */
  | 'y'
  /** f32[M, vocabulary], or of the last token alone. */
  | 'logits';

/** A packed linear of the model; every layer has its own of all but `head`, and `v` only where it has a projection. */
export type LinearName = 'q' | 'k' | 'v' | 'o' | 'gate' | 'up' | 'down' | 'head';

/** A vector of bf16; of a layer all but `norm`. The first four and `norm` are [hidden], the others [D]. */
export type VectorName = 'inputNorm' | 'postAttentionNorm' | 'preMlpNorm' | 'postMlpNorm' | 'norm' | 'qNorm' | 'kNorm';

export type Operation =
  /** hidden = E[token] * RN32(sqrt(hidden size)). */
  | { readonly kind: 'embed' }
  /**
   * When there is a `branch`: hidden = mul(add(hidden, RMSNorm(y, branch norm)), scalar), without the product where
   * scalar is null. Then x = bf(RMSNorm(hidden, next norm)). Norms are of `layer`, except that a `nextLayer` of null means
   * the model's last norm.
   */
  | {
      readonly kind: 'norm';
      readonly branch: { readonly norm: VectorName; readonly layer: number; readonly isScaled: boolean } | null;
      readonly next: { readonly norm: VectorName; readonly layer: number | null };
    }
  | {
      readonly kind: 'linear';
      readonly linear: LinearName;
      readonly layer: number | null;
      readonly x: 'x' | 'attended' | 'gated';
      readonly y: 'q' | 'k' | 'v' | 'y' | 'gate' | 'up' | 'logits';
    }
  /** Norms and rotates q into queries, k into the layer's cache; norms v, or k's linear output, into the cache. */
  | { readonly kind: 'heads'; readonly layer: number }
  /** queries and the layer's cache to attended. */
  | { readonly kind: 'attention'; readonly layer: number }
  | { readonly kind: 'gelu' }
  /** logits in place, where the model has a soft cap. */
  | { readonly kind: 'softCap' };

/** All of a step, from tokens to logits; without `wantsLogits` it ends once every cache is written. */
export function stepOperations(config: DecoderConfig, wantsLogits: boolean): readonly Operation[] {
  const operations: Operation[] = [{ kind: 'embed' }];
  const linear = (
    name: LinearName,
    layer: number | null,
    x: 'x' | 'attended' | 'gated',
    y: 'q' | 'k' | 'v' | 'y' | 'gate' | 'up' | 'logits',
  ) => operations.push({ kind: 'linear', linear: name, layer, x, y });

  operations.push({ kind: 'norm', branch: null, next: { norm: 'inputNorm', layer: 0 } });
  const last = config.layers.length - 1;
  for (const [layer, { hasValueProjection }] of config.layers.entries()) {
    linear('q', layer, 'x', 'q');
    linear('k', layer, 'x', 'k');
    if (hasValueProjection) linear('v', layer, 'x', 'v');
    operations.push({ kind: 'heads', layer });
    if (layer === last && !wantsLogits) return operations;
    operations.push({ kind: 'attention', layer });
    linear('o', layer, 'attended', 'y');
    operations.push({
      kind: 'norm',
      branch: { norm: 'postAttentionNorm', layer, isScaled: false },
      next: { norm: 'preMlpNorm', layer },
    });
    linear('gate', layer, 'x', 'gate');
    linear('up', layer, 'x', 'up');
    operations.push({ kind: 'gelu' });
    linear('down', layer, 'gated', 'y');
    operations.push({
      kind: 'norm',
      branch: { norm: 'postMlpNorm', layer, isScaled: true },
      next: layer === last ? { norm: 'norm', layer: null } : { norm: 'inputNorm', layer: layer + 1 },
    });
  }
  linear('head', null, 'x', 'logits');
  if (config.softCap !== null) operations.push({ kind: 'softCap' });
  return operations;
}

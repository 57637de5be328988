// What a backend does for the decoder: it holds the weights, holds caches, and runs steps. Sessions are built on this.

import type { CoalescedInt4Tensor } from '../coalesced_int4_tensor.js';
import type { DecoderConfig } from './decoder_config.js';
import type { LinearName, VectorName } from './step.js';

/** Where the weights of a decoder come from, one at a time, so that a model need not fit into the host's memory twice. */
export interface DecoderSource {
  readonly config: DecoderConfig;
  /** The packed weight [N, K] of a linear; `layer` is null for `head`. */
  linear(name: LinearName, layer: number | null): Promise<CoalescedInt4Tensor>;
  /** bf16 bits of a norm's weight; `layer` is null for `norm`. */
  vector(name: VectorName, layer: number | null): Promise<Uint16Array>;
  /** bf16 bits of `count` rows of the embedding [vocabulary, hidden], from row `first`. */
  embedding(first: number, count: number): Promise<Uint16Array>;
  /** What the layer's output is multiplied by, an f32 value. */
  layerScalar(layer: number): Promise<number>;
}

export interface LoadOptions {
  /** Called as weights reach the device. */
  readonly onProgress?: (doneBytes: number, totalBytes: number) => void;
  readonly signal?: AbortSignal;
}

/**
 * What a step gives back: nothing; the index of the last token's largest logit, the lowest among equals; the last
 * token's logits, f32[vocabulary]; or those of every token, f32[M, vocabulary].
 */
export type StepResult =
  | { readonly wants: 'nothing' }
  | { readonly wants: 'greedy'; readonly token: number }
  | { readonly wants: 'logits' | 'everyLogit'; readonly logits: Float32Array };

/** A decoder's weights on a device. Belongs to the backend that loaded it. */
export interface DeviceDecoder {
  readonly config: DecoderConfig;
  /** Bytes of device memory held until dispose. */
  readonly sizeBytes: number;
  /**
   * Bytes that a cache of `capacity` positions takes, its share of working memory included.
   * @throws SamebitsError ARGUMENT_INVALID for more positions than the model has
   */
  cacheSizeBytes(capacity: number): number;
  /** @throws SamebitsError ARGUMENT_INVALID for the same; DEVICE_OUT_OF_MEMORY, saying how much is missing where the device tells */
  openCache(capacity: number): Promise<DeviceCache>;
  /** Frees the weights once no cache of it is left. */
  dispose(): void;
}

/** Keys and values of one text on a device. Its steps run one after the other, in the order of the calls. */
export interface DeviceCache {
  readonly capacity: number;
  /**
   * Runs `tokens`, 1..TOKENS_PER_STEP of them, at positions `position`..; what the cache holds of these positions and later
   * ones is overwritten. Positions before must have been run; the caller checks capacity and tokens.
   * @param goesOn a hint, where 'greedy' is wanted: the next call will most likely be the greedy step of the token that this
   * one gives, at the next position. A backend may begin that step before it is asked for, and so write one position more.
   * No result depends on it.
   */
  step(tokens: readonly number[], position: number, wants: StepResult['wants'], goesOn?: boolean): Promise<StepResult>;
  dispose(): void;
}

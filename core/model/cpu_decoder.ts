// The decoder on the CPU: DECODER.md in code, one operation after the other. Every backend must return these bits.

import { disposedError } from '../backend.js';
import { bf16FromF32Array, numberFromBf16 } from '../bf16.js';
import type { CoalescedInt4Tensor } from '../coalesced_int4_tensor.js';
import { SamebitsError } from '../errors.js';
import { int4PlainMM } from '../reference.js';
import { argMax } from './arg_max.js';
import { attend, type HeadCache } from './attention.js';
import type { DecoderSource, DeviceCache, DeviceDecoder, LoadOptions, StepResult } from './decoder_backend.js';
import {
  cacheSlots,
  type DecoderConfig,
  type LayerConfig,
  requireCapacity,
  TOKENS_PER_STEP,
} from './decoder_config.js';
import { add, mul } from './elementary.js';
import { gelu, softCap } from './gelu.js';
import { normValues, rotateHeads } from './heads.js';
import { rmsNorm } from './rms_norm.js';
import { type RotaryTable, rotaryFrequencies, rotaryTable } from './rotary.js';
import { type LinearName, type Operation, stepOperations, type ValueName, type VectorName } from './step.js';
import { linearShape, linearsOf, vectorLength, vectorsOf } from './weight_shapes.js';

/** y f32[N] of one row x, bf16 bits [K]. */
export type CpuLinear = (x: Uint16Array) => Float32Array;

/** What a decoder on the CPU multiplies with: packed weights, or in tests anything else of the same shape. */
export interface CpuDecoderSource extends Omit<DecoderSource, 'linear'> {
  linear(name: LinearName, layer: number | null): Promise<CpuLinear>;
}

const weightName = (name: LinearName | VectorName, layer: number | null) => `${layer} ${name}`;

/** Weights of a decoder in this process's memory. */
export class CpuDecoder implements DeviceDecoder {
  #disposed = false;

  private constructor(
    readonly config: DecoderConfig,
    readonly linears: ReadonlyMap<string, CpuLinear>,
    readonly vectors: ReadonlyMap<string, Float32Array>,
    readonly scalars: readonly number[],
    /** bf16[vocabulary, hidden] */
    readonly embedding: Uint16Array,
    readonly sizeBytes: number,
  ) {}

  /** Loads from `source`, whose packed weights go to the reference of int4_plain_mm. */
  static load(source: DecoderSource, options: LoadOptions = {}): Promise<CpuDecoder> {
    const packed = async (name: LinearName, layer: number | null) => referenceLinear(await source.linear(name, layer));
    const { config } = source;
    return CpuDecoder.loadFrom(
      {
        config,
        linear: packed,
        vector: (name, layer) => source.vector(name, layer),
        embedding: (first, count) => source.embedding(first, count),
        layerScalar: (layer) => source.layerScalar(layer),
      },
      options,
    );
  }

  static async loadFrom(source: CpuDecoderSource, { onProgress, signal }: LoadOptions = {}): Promise<CpuDecoder> {
    const { config } = source;
    const { vocabularySize, hiddenSize } = config;
    const names = linearsOf(config);
    const linearBytes = names.map(({ name, layer }) => packedBytes(linearShape(config, name, layer)));
    const vectorBytes = vectorsOf(config).map(({ name, layer }) => vectorLength(config, name, layer) * 4);
    const embeddingBytes = vocabularySize * hiddenSize * 2;
    const sizeBytes = [...linearBytes, ...vectorBytes, embeddingBytes].reduce((sum, bytes) => sum + bytes, 0);

    let done = 0;
    const advance = (bytes: number) => {
      signal?.throwIfAborted();
      done += bytes;
      onProgress?.(done, sizeBytes);
    };
    signal?.throwIfAborted();
    const linears = new Map<string, CpuLinear>();
    for (const [i, { name, layer }] of names.entries()) {
      linears.set(weightName(name, layer), await source.linear(name, layer));
      advance(linearBytes[i]!);
    }
    const vectors = new Map<string, Float32Array>();
    for (const [i, { name, layer }] of vectorsOf(config).entries()) {
      vectors.set(weightName(name, layer), Float32Array.from(await source.vector(name, layer), numberFromBf16));
      advance(vectorBytes[i]!);
    }
    const scalars = [];
    for (let layer = 0; layer < config.layers.length; layer++) scalars.push(await source.layerScalar(layer));
    const embedding = await source.embedding(0, vocabularySize);
    advance(embeddingBytes);
    return new CpuDecoder(config, linears, vectors, scalars, embedding, sizeBytes);
  }

  cacheSizeBytes(capacity: number): number {
    requireCapacity(this.config, capacity);
    return this.config.layers.reduce((sum, layer) => sum + 2 * cacheSlots(layer, capacity) * cacheRow(layer) * 4, 0);
  }

  async openCache(capacity: number): Promise<DeviceCache> {
    if (this.#disposed) throw disposedError('decoder');
    requireCapacity(this.config, capacity);
    try {
      return new CpuCache(this, capacity);
    } catch (cause) {
      if (!(cause instanceof RangeError)) throw cause;
      throw new SamebitsError('DEVICE_OUT_OF_MEMORY', {
        rule: 'the keys and values of a cache must fit into the memory of this JavaScript engine',
        expected: `memory for ${this.cacheSizeBytes(capacity)} bytes, ${capacity} positions`,
        got: cause.message,
        fix: 'Open a cache of fewer positions, or dispose of others.',
        cause,
      });
    }
  }

  linear(name: LinearName, layer: number | null): CpuLinear {
    return this.linears.get(weightName(name, layer))!;
  }

  vector(name: VectorName, layer: number | null): Float32Array {
    return this.vectors.get(weightName(name, layer))!;
  }

  dispose(): void {
    this.#disposed = true;
  }
}

/** The reference of int4_plain_mm with this weight. */
export function referenceLinear(weight: CoalescedInt4Tensor): CpuLinear {
  return (x) => int4PlainMM(x, weight);
}

const packedBytes = ({ n, k }: { n: number; k: number }) => (n * k) / 2 + (n * k) / 8;
/** Values of a layer's keys at one position. */
const cacheRow = (layer: LayerConfig) => layer.keyValueHeads * layer.headSize;

/** Keys and values of one layer: bf16 values, f32[slots, keyValueHeads * D]. */
class LayerCache {
  readonly slots: number;
  readonly keys: Float32Array;
  readonly values: Float32Array;
  readonly frequencies: Float32Array;

  constructor(
    readonly layer: LayerConfig,
    capacity: number,
  ) {
    this.slots = cacheSlots(layer, capacity);
    this.keys = new Float32Array(this.slots * cacheRow(layer));
    this.values = new Float32Array(this.keys.length);
    this.frequencies = rotaryFrequencies(layer);
  }

  row(of: Float32Array, position: number): Float32Array {
    const row = cacheRow(this.layer);
    return of.subarray((position % this.slots) * row, ((position % this.slots) + 1) * row);
  }

  head(data: Float32Array, head: number): HeadCache {
    const row = cacheRow(this.layer);
    const offset = head * this.layer.headSize;
    return { data, start: (position) => (position % this.slots) * row + offset };
  }

  /** The first position that a token at `position` sees. */
  first(position: number): number {
    const { window } = this.layer;
    return window === null ? 0 : Math.max(0, position - window + 1);
  }
}

type Values = Record<ValueName, Float32Array>;

/** What one token of a step has: f32, or the values of bf16, of every name. */
interface TokenValues {
  readonly token: number;
  readonly position: number;
  readonly values: Values;
}

/** More tokens would overwrite what the first of them sees in a sliding layer's cache. */
function requireStep(nTokens: number): void {
  if (nTokens >= 1 && nTokens <= TOKENS_PER_STEP) return;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'a step runs a few tokens at a time',
    expected: `1 to ${TOKENS_PER_STEP} tokens`,
    got: String(nTokens),
    fix: 'Run a longer text in several steps, as a session does.',
  });
}

class CpuCache implements DeviceCache {
  readonly #layers: readonly LayerCache[];
  #disposed = false;

  constructor(
    private readonly decoder: CpuDecoder,
    readonly capacity: number,
  ) {
    this.#layers = decoder.config.layers.map((layer) => new LayerCache(layer, capacity));
  }

  /** Runs one token after the other: several at once give the same bits by definition. */
  async step(tokens: readonly number[], position: number, wants: StepResult['wants']): Promise<StepResult> {
    if (this.#disposed) throw disposedError('cache');
    requireStep(tokens.length);
    const logits: Float32Array[] = [];
    for (const [i, token] of tokens.entries()) {
      const isWanted = wants === 'everyLogit' || (wants !== 'nothing' && i === tokens.length - 1);
      const operations = stepOperations(this.decoder.config, isWanted);
      const of: TokenValues = { token, position: position + i, values: this.#newValues() };
      for (const operation of operations) this.#run(operation, of);
      if (isWanted) logits.push(of.values.logits);
    }
    if (wants === 'nothing') return { wants };
    const last = logits.at(-1)!;
    if (wants === 'greedy') return { wants, token: argMax(last) };
    if (wants === 'logits') return { wants, logits: last };
    const every = new Float32Array(logits.length * last.length);
    for (const [i, row] of logits.entries()) every.set(row, i * last.length);
    return { wants, logits: every };
  }

  dispose(): void {
    this.#disposed = true;
  }

  #newValues(): Values {
    const none = new Float32Array(0);
    const names = ['hidden', 'x', 'q', 'k', 'v', 'queries', 'attended', 'gate', 'up', 'gated', 'y', 'logits'] as const;
    const values = Object.fromEntries(names.map((name) => [name, none]));
    return values as Values; // every name is listed above
  }

  #run(operation: Operation, { token, position, values }: TokenValues): void {
    const { decoder } = this;
    const { config } = decoder;
    switch (operation.kind) {
      case 'embed': {
        const scale = Math.fround(Math.sqrt(config.hiddenSize));
        const row = decoder.embedding.subarray(token * config.hiddenSize, (token + 1) * config.hiddenSize);
        values.hidden = Float32Array.from(row, (bits) => numberFromBf16(bits) * scale);
        return;
      }
      case 'norm': {
        const { branch, next } = operation;
        if (branch) {
          const normed = new Float32Array(config.hiddenSize);
          rmsNorm(values.y, decoder.vector(branch.norm, branch.layer), config.rmsNormEpsilon, normed);
          const scalar = branch.isScaled ? decoder.scalars[branch.layer]! : 1;
          values.hidden = values.hidden.map((h, i) => mul(add(h, normed[i]!), scalar));
        }
        values.x = new Float32Array(config.hiddenSize);
        rmsNorm(values.hidden, decoder.vector(next.norm, next.layer), config.rmsNormEpsilon, values.x);
        return;
      }
      case 'linear':
        values[operation.y] = decoder.linear(operation.linear, operation.layer)(bf16FromF32Array(values[operation.x]));
        return;
      case 'heads':
        this.#writeHeads(operation.layer, position, values);
        return;
      case 'attention':
        values.attended = this.#attend(operation.layer, position, values.queries);
        return;
      case 'gelu':
        values.gated = values.gate.map((g, i) => mul(gelu(g), values.up[i]!));
        return;
      case 'softCap': {
        const cap = config.softCap;
        if (cap !== null) values.logits = values.logits.map((logit) => softCap(logit, cap));
      }
    }
  }

  #writeHeads(layer: number, position: number, values: Values): void {
    const { decoder } = this;
    const { headSize, hasValueProjection } = decoder.config.layers[layer]!;
    const epsilon = decoder.config.rmsNormEpsilon;
    const cache = this.#layers[layer]!;
    const table: RotaryTable = rotaryTable(cache.frequencies, position);
    values.queries = new Float32Array(values.q.length);
    rotateHeads(values.q, decoder.vector('qNorm', layer), epsilon, table, values.queries);
    normValues(hasValueProjection ? values.v : values.k, headSize, epsilon, cache.row(cache.values, position));
    rotateHeads(values.k, decoder.vector('kNorm', layer), epsilon, table, cache.row(cache.keys, position));
  }

  #attend(layer: number, position: number, queries: Float32Array): Float32Array {
    const { heads, keyValueHeads, headSize } = this.decoder.config.layers[layer]!;
    const cache = this.#layers[layer]!;
    const out = new Float32Array(queries.length);
    for (let head = 0; head < heads; head++) {
      const keyValueHead = Math.floor((head * keyValueHeads) / heads);
      const query = queries.subarray(head * headSize, (head + 1) * headSize);
      const keys = cache.head(cache.keys, keyValueHead);
      const values = cache.head(cache.values, keyValueHead);
      out.set(attend(query, keys, values, cache.first(position), position), head * headSize);
    }
    return out;
  }
}

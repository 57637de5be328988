// The caches of all layers for one text, the room for chunks of attention, and the dispatches that use them.

import {
  CHUNK_POSITIONS,
  cacheSlots,
  type DecoderConfig,
  type LayerConfig,
  TOKENS_PER_STEP,
} from '../core/model/decoder_config.js';
import { checkBufferSize } from './argument_checks.js';
import { CACHE_TILE, CODE_LANE_SIZE, DECODER_KERNELS } from './decoder_kernels.js';
import type { DecoderParts } from './decoder_steps.js';
import { SLOT_BYTES } from './device_weight.js';
import { bind, type Dispatch } from './dispatches.js';
import { BufferUsage } from './gpu_flags.js';
import type { CompiledKernel } from './pipelines.js';
import { f32, UniformSlots, u32, uniformAt } from './uniform_slots.js';

/** Pipelines and bind groups of one layer. */
interface LayerDispatches {
  readonly heads: Omit<Dispatch, 'workgroups'>;
  readonly chunks: Omit<Dispatch, 'workgroups'>;
  readonly combine: Omit<Dispatch, 'workgroups'>;
}

/** Bytes of one buffer of a cache, and what it is. */
interface Room {
  readonly label: string;
  readonly sizeBytes: number;
}

/** Bytes of a cache of `capacity` positions, uniforms included. */
export function cacheSizeBytes(config: DecoderConfig, capacity: number): number {
  const rooms = cacheRooms(config, capacity).reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return rooms + config.layers.length * UNIFORMS_PER_LAYER * SLOT_BYTES;
}

/** Two buffers a layer, then the terms and outputs of chunks. */
function cacheRooms(config: DecoderConfig, capacity: number): readonly Room[] {
  const ofLayers = config.layers.flatMap((layer) => {
    const sizeBytes = slotsOf(layer, capacity) * layer.keyValueHeads * layer.headSize * 2;
    return [
      { label: 'keys', sizeBytes },
      { label: 'values', sizeBytes },
    ];
  });
  const chunks = (values: (layer: LayerConfig) => number) =>
    Math.max(
      ...config.layers.map((layer) => TOKENS_PER_STEP * layer.heads * maxChunks(layer, capacity) * values(layer) * 4),
    );
  return [
    ...ofLayers,
    { label: 'chunk terms', sizeBytes: chunks(() => 2) },
    { label: 'chunk outputs', sizeBytes: chunks(({ headSize }) => headSize) },
  ];
}

/** Of rotate_heads, and of both kernels of attention. */
const UNIFORMS_PER_LAYER = 2;

/** Whole tiles of positions. */
function slotsOf(layer: LayerConfig, capacity: number): number {
  return Math.ceil(cacheSlots(layer, capacity) / CACHE_TILE) * CACHE_TILE;
}

/** The most chunks that a token of a text of `capacity` positions sees. */
function maxChunks({ window }: LayerConfig, capacity: number): number {
  const all = Math.ceil(capacity / CHUNK_POSITIONS);
  return window === null ? all : Math.min(all, Math.ceil((window - 1) / CHUNK_POSITIONS) + 1);
}

/** Chunks that the token at position t sees. */
function chunksAt({ window }: LayerConfig, t: number): number {
  const oldest = window === null ? 0 : Math.max(0, t - window + 1);
  return Math.floor(t / CHUNK_POSITIONS) - Math.floor(oldest / CHUNK_POSITIONS) + 1;
}

export class CacheLayers {
  private constructor(
    readonly config: DecoderConfig,
    readonly buffers: readonly GPUBuffer[],
    readonly layers: readonly LayerDispatches[],
  ) {}

  /** @throws SamebitsError DEVICE_LIMIT, DEVICE_OUT_OF_MEMORY, with nothing left behind */
  static async create(parts: DecoderParts, capacity: number): Promise<CacheLayers> {
    const { config, pipelines } = parts;
    const { guard } = pipelines;
    const rooms = cacheRooms(config, capacity);
    for (const { sizeBytes } of rooms) checkBufferSize(guard.device, sizeBytes);
    const kernels = await Promise.all(config.layers.map((_, layer) => layerKernels(parts, layer)));
    const buffers: GPUBuffer[] = [];
    try {
      const layers = await guard.run('a cache', () => {
        for (const { label, sizeBytes } of rooms) {
          buffers.push(guard.device.createBuffer({ label, size: sizeBytes, usage: BufferUsage.STORAGE }));
        }
        return bindLayers(parts, capacity, kernels, buffers);
      });
      return new CacheLayers(config, buffers, layers);
    } catch (error) {
      for (const buffer of buffers) buffer.destroy();
      throw error;
    }
  }

  heads(layer: number, m: number): Dispatch {
    const { heads, keyValueHeads } = this.config.layers[layer]!;
    return { ...this.layers[layer]!.heads, workgroups: [heads + 2 * keyValueHeads, m, 1] };
  }

  attention(layer: number, m: number, position: number): readonly Dispatch[] {
    const { heads } = this.config.layers[layer]!;
    const { chunks, combine } = this.layers[layer]!;
    return [
      { ...chunks, workgroups: [this.#chunks(layer, m, position), heads, m] },
      { ...combine, workgroups: [heads, m, 1] },
    ];
  }

  /** Equal for steps whose dispatches are. */
  key(m: number, position: number, wants: string): string {
    return [m, wants, ...this.config.layers.map((_, layer) => this.#chunks(layer, m, position))].join(' ');
  }

  dispose(): void {
    for (const buffer of this.buffers) buffer.destroy();
  }

  /** The most chunks that a token of the step sees. */
  #chunks(layer: number, m: number, position: number): number {
    const tokens = Array.from({ length: m }, (_, i) => chunksAt(this.config.layers[layer]!, position + i));
    return Math.max(...tokens);
  }
}

async function layerKernels({ pipelines, config, weights }: DecoderParts, layer: number) {
  const { heads, keyValueHeads, headSize, window } = config.layers[layer]!;
  const sizes = { HEAD_SIZE: headSize, HEADS: heads };
  const grouped = { ...sizes, KEY_VALUE_HEADS: keyValueHeads };
  const seen = window === null ? {} : { WINDOW: window };
  const [rotate, chunks, combine] = await Promise.all([
    pipelines.compile(DECODER_KERNELS.rotateHeads, grouped),
    pipelines.compile(DECODER_KERNELS.attentionChunks, { ...grouped, ...seen }),
    pipelines.compile(DECODER_KERNELS.combineChunks, {
      ...sizes,
      ...seen,
      THREADS: headSize / CODE_LANE_SIZE,
      RUN_SIZE: weights.linear('o', layer).runSize,
    }),
  ]);
  return { rotate, chunks, combine };
}

/** Adds the buffer of uniforms to `buffers`. */
function bindLayers(
  { pipelines, config, weights, values, inputs, inputsBuffer }: DecoderParts,
  capacity: number,
  kernels: readonly Awaited<ReturnType<typeof layerKernels>>[],
  buffers: GPUBuffer[],
): LayerDispatches[] {
  const { device } = pipelines.guard;
  const uniforms = new UniformSlots();
  const slots = config.layers.map((layer) => {
    const { headSize } = layer;
    const cached = slotsOf(layer, capacity);
    const zero = 0;
    return {
      heads: uniforms.add(f32(1 / headSize), f32(config.rmsNormEpsilon), u32(cached), u32(zero)),
      attention: uniforms.add(u32(cached), u32(maxChunks(layer, capacity)), u32(zero)),
    };
  });
  const [terms, outputs] = buffers.slice(-2).map((buffer) => ({ buffer }));
  const uniformBuffer = uniforms.create(device, "a cache's uniforms");
  buffers.push(uniformBuffer);
  const step = inputs.step(inputsBuffer);
  const dispatch = ({ pipeline, bindGroupLayout }: CompiledKernel, bindings: readonly GPUBufferBinding[]) => ({
    pipeline,
    bindGroup: bind(device, bindGroupLayout, bindings),
  });
  return config.layers.map((layer, index) => {
    const [keys, cachedValues] = [{ buffer: buffers[2 * index]! }, { buffer: buffers[2 * index + 1]! }];
    const { rotate, chunks, combine } = kernels[index]!;
    const { heads, attention } = slots[index]!;
    const k = { buffer: values.k };
    const v = layer.hasValueProjection ? { buffer: values.v } : k;
    const queries = { buffer: values.queries };
    const attentionUniforms = [step, uniformAt(uniformBuffer, attention)];
    return {
      heads: dispatch(rotate, [
        { buffer: values.q },
        k,
        v,
        weights.vector('qNorm', index),
        inputs.rotary(inputsBuffer, layer),
        queries,
        keys,
        cachedValues,
        step,
        uniformAt(uniformBuffer, heads),
      ]),
      chunks: dispatch(chunks, [queries, keys, cachedValues, terms!, outputs!, ...attentionUniforms]),
      combine: dispatch(combine, [
        terms!,
        outputs!,
        values.attended.codes,
        values.attended.runTerms,
        ...attentionUniforms,
      ]),
    };
  });
}

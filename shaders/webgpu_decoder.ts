// A decoder on WebGPU: its weights, the memory and the dispatches of its steps, and the caches that were opened on it.

import { disposedError } from '../core/backend.js';
import { SamebitsError } from '../core/errors.js';
import type { DecoderSource, DeviceDecoder, LoadOptions } from '../core/model/decoder_backend.js';
import { type DecoderConfig, requireCapacity } from '../core/model/decoder_config.js';
import type { BufferPool } from './buffer_pool.js';
import { CacheLayers, cacheSizeBytes } from './cache_layers.js';
import { type SharedDecoder, WebGPUDecoderCache } from './decoder_cache.js';
import { DecoderSteps } from './decoder_steps.js';
import { createDecoderValues } from './decoder_values.js';
import { type DecoderWeights, loadDecoderWeights, type UploadLinear } from './decoder_weights.js';
import type { DeviceGuard } from './device_guard.js';
import type { Lifetime } from './lifetime.js';
import type { Pipelines } from './pipelines.js';
import { StepInputs } from './step_inputs.js';
import type { Workspaces } from './workspace.js';

/** What a backend lends its decoders. */
export interface DecoderHost {
  readonly guard: DeviceGuard;
  readonly lifetime: Lifetime;
  readonly pipelines: Pipelines;
  readonly workspaces: Workspaces;
  readonly staging: BufferPool;
  readonly upload: UploadLinear;
  /** What one binding of the embedding may take. */
  readonly maxBindingBytes: number;
  readonly handles: Set<{ dispose(): void }>;
}

export class WebGPUDecoder implements DeviceDecoder {
  readonly config: DecoderConfig;
  readonly sizeBytes: number;
  readonly #caches = new Set<WebGPUDecoderCache>();
  #disposed = false;
  /** Caches that are being opened. */
  #opening = 0;

  constructor(
    readonly host: DecoderHost,
    readonly shared: SharedDecoder,
  ) {
    const { weights, values, steps, inputsBuffer } = shared;
    this.config = steps.parts.config;
    this.sizeBytes = weights.sizeBytes + values.sizeBytes + steps.sizeBytes + inputsBuffer.size;
  }

  cacheSizeBytes(capacity: number): number {
    requireCapacity(this.config, capacity);
    return cacheSizeBytes(this.config, capacity);
  }

  openCache(capacity: number): Promise<WebGPUDecoderCache> {
    return this.host.lifetime.track(async () => {
      if (this.#disposed) throw disposedError('decoder');
      requireCapacity(this.config, capacity);
      this.#opening++;
      try {
        const layers = await CacheLayers.create(this.shared.steps.parts, capacity);
        const cache = new WebGPUDecoderCache(this.shared, layers, capacity, (closed) => {
          this.#caches.delete(closed);
          this.host.handles.delete(closed);
          this.#destroyWhenUnused();
        });
        this.#caches.add(cache);
        this.host.handles.add(cache);
        return cache;
      } finally {
        this.#opening--;
        this.#destroyWhenUnused();
      }
    });
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.host.handles.delete(this);
    this.#destroyWhenUnused();
  }

  #destroyWhenUnused(): void {
    if (!this.#disposed || this.#opening > 0 || this.#caches.size > 0) return;
    const { weights, values, steps, inputsBuffer } = this.shared;
    for (const part of [weights, values, steps]) part.dispose();
    inputsBuffer.destroy();
  }
}

/**
 * Puts the weights of `source` on the device, and makes the memory of its steps.
 * @throws SamebitsError SHAPE_MISMATCH, GROUP_SIZE_UNSUPPORTED, DEVICE_LIMIT, DEVICE_OUT_OF_MEMORY; nothing is left behind
 */
export async function loadDecoder(
  host: DecoderHost,
  source: DecoderSource,
  options: LoadOptions,
): Promise<WebGPUDecoder> {
  const { guard, lifetime, pipelines, workspaces, staging, upload, maxBindingBytes } = host;
  const { config } = source;
  checkHeads(config);
  const made: { dispose(): void }[] = [];
  try {
    const weights = await loadDecoderWeights(guard, source, upload, maxBindingBytes, options);
    made.push(weights);
    checkRuns(config, weights);
    const values = await createDecoderValues(guard, config);
    made.push(values);
    const inputs = new StepInputs(config);
    const { value, accepted } = guard.scoped('a decoder', () => {
      const inputsBuffer = inputs.create(guard.device);
      made.push({ dispose: () => inputsBuffer.destroy() });
      const steps = new DecoderSteps({ pipelines, workspaces, config, weights, values, inputs, inputsBuffer });
      made.push(steps);
      return { inputsBuffer, steps };
    });
    await accepted;
    const shared = { guard, lifetime, staging, weights, values, inputs, tokenOf: null, ...value };
    const decoder = new WebGPUDecoder(host, shared);
    host.handles.add(decoder);
    return decoder;
  } catch (error) {
    for (const part of made) part.dispose();
    throw error;
  }
}

/** Heads that the kernels of attention take: tiles of keys, partial sums, and a workgroup's memory. */
const HEAD_STEP = 32;
const MAX_HEAD_SIZE = 1024;

function checkHeads({ layers }: DecoderConfig): void {
  for (const [layer, { headSize }] of layers.entries()) {
    if (headSize % HEAD_STEP === 0 && headSize <= MAX_HEAD_SIZE) continue;
    throw new SamebitsError('DEVICE_LIMIT', {
      rule: 'the webgpu backend takes heads whose size is a multiple of 32',
      expected: `a multiple of ${HEAD_STEP} up to ${MAX_HEAD_SIZE}`,
      got: `${headSize} in layer ${layer}`,
      fix: "Use the 'cpu' backend for this model.",
    });
  }
}

/** Linears side by side read the same codes, whose sums are of one length. */
function checkRuns(config: DecoderConfig, weights: DecoderWeights): void {
  for (const [layer, { hasValueProjection }] of config.layers.entries()) {
    const groups = [hasValueProjection ? (['q', 'k', 'v'] as const) : (['q', 'k'] as const), ['gate', 'up'] as const];
    for (const names of groups) {
      const sizes = names.map((name) => weights.linear(name, layer).runSize);
      if (sizes.every((size) => size === sizes[0])) continue;
      throw new SamebitsError('GROUP_SIZE_UNSUPPORTED', {
        rule: 'linears that read the same activations have groups of 16, all of them, or of 32 and more',
        expected: `one of both for ${names.join(', ')} of layer ${layer}`,
        got: names.map((name) => `${name} ${weights.linear(name, layer).groupSize}`).join(', '),
        fix: 'Convert the model with one group size.',
      });
    }
  }
}

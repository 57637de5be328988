// The weights of a decoder on the device: packed linears, norms in one buffer, the embedding in as many as it takes.

import type { CoalescedInt4Tensor } from '../core/coalesced_int4_tensor.js';
import { SamebitsError } from '../core/errors.js';
import type { DecoderSource, LoadOptions } from '../core/model/decoder_backend.js';
import type { DecoderConfig } from '../core/model/decoder_config.js';
import type { LinearName, VectorName } from '../core/model/step.js';
import { linearShape, linearsOf, vectorLength } from '../core/model/weight_shapes.js';
import type { DeviceGuard } from './device_guard.js';
import type { WebGPUWeight } from './device_weight.js';
import { BufferUsage } from './gpu_flags.js';

/** Offsets of bindings are multiples of this on every device. */
const ALIGNMENT = 256;
/** Rows of the embedding that are on their way at once. */
const PIECE_BYTES = 16 * 2 ** 20;

/** Consecutive rows of the embedding, as many as a binding takes. */
export interface EmbeddingSlice {
  readonly first: number;
  readonly count: number;
  /** bf16[count, hidden] */
  readonly rows: GPUBuffer;
}

/** Owned by the decoder. */
export interface DecoderWeights {
  linear(name: LinearName, layer: number | null): WebGPUWeight;
  /** bf16 of a norm's weight; for qNorm and for kNorm both of the layer, [2, D]. */
  vector(name: VectorName, layer: number | null): GPUBufferBinding;
  layerScalar(layer: number): number;
  readonly embedding: readonly EmbeddingSlice[];
  readonly sizeBytes: number;
  dispose(): void;
}

/** Puts a packed weight on the device, as the backend does for its callers. */
export type UploadLinear = (weight: CoalescedInt4Tensor) => Promise<WebGPUWeight>;

/**
 * Asks the source for one weight after the other, each of the shape that the model's sizes say.
 * @throws SamebitsError SHAPE_MISMATCH, DEVICE_OUT_OF_MEMORY, whatever the source throws, or the signal's reason; nothing is
 * left behind
 */
export async function loadDecoderWeights(
  guard: DeviceGuard,
  source: DecoderSource,
  upload: UploadLinear,
  maxBindingBytes: number,
  { onProgress, signal }: LoadOptions,
): Promise<DecoderWeights> {
  const { config } = source;
  const linears = new Map<string, WebGPUWeight>();
  const buffers: GPUBuffer[] = [];
  const dispose = () => {
    for (const weight of linears.values()) weight.dispose();
    for (const buffer of buffers) buffer.destroy();
  };
  const progress = new Progress(totalBytes(config), onProgress, signal);
  try {
    for (const { name, layer } of linearsOf(config)) {
      progress.advance(0);
      const tensor = checkedLinear(config, name, layer, await source.linear(name, layer));
      linears.set(keyOf(name, layer), await upload(tensor));
      progress.advance((tensor.n * tensor.k) / 2);
    }
    const vectors = await loadVectors(guard, source, buffers);
    const embedding = await loadEmbedding(guard, source, maxBindingBytes, buffers, progress);
    const scalars: number[] = [];
    for (const layer of config.layers.keys()) scalars.push(await source.layerScalar(layer));
    const sizes = [...[...linears.values()].map(({ sizeBytes }) => sizeBytes), ...buffers.map(({ size }) => size)];
    return {
      linear: (name, layer) => linears.get(keyOf(name, layer))!,
      vector: (name, layer) => vectors.get(keyOf(name === 'kNorm' ? 'qNorm' : name, layer))!,
      layerScalar: (layer) => scalars[layer]!,
      embedding,
      sizeBytes: sizes.reduce((sum, size) => sum + size, 0),
      dispose,
    };
  } catch (error) {
    dispose();
    throw error;
  }
}

/** Bytes of codes and of the embedding, which everything else is small beside, and only a source knows. */
function totalBytes(config: DecoderConfig): number {
  const codes = linearsOf(config).reduce((sum, { name, layer }) => {
    const { n, k } = linearShape(config, name, layer);
    return sum + (n * k) / 2;
  }, 0);
  return codes + config.vocabularySize * config.hiddenSize * 2;
}

class Progress {
  #doneBytes = 0;

  constructor(
    readonly totalBytes: number,
    readonly report: LoadOptions['onProgress'],
    readonly signal: AbortSignal | undefined,
  ) {}

  advance(bytes: number): void {
    this.signal?.throwIfAborted();
    this.#doneBytes += bytes;
    if (bytes > 0) this.report?.(this.#doneBytes, this.totalBytes);
  }
}

function keyOf(name: string, layer: number | null): string {
  return `${layer ?? ''} ${name}`;
}

function checkedLinear(
  config: DecoderConfig,
  name: LinearName,
  layer: number | null,
  tensor: CoalescedInt4Tensor,
): CoalescedInt4Tensor {
  const { n, k } = linearShape(config, name, layer);
  if (tensor.n !== n || tensor.k !== k)
    throw wrongShape(keyOf(name, layer), `[${n}, ${k}]`, `[${tensor.n}, ${tensor.k}]`);
  return tensor;
}

/** Every norm at a multiple of ALIGNMENT in one buffer, those of a layer's heads side by side. */
async function loadVectors(guard: DeviceGuard, source: DecoderSource, owned: GPUBuffer[]) {
  const { config } = source;
  const parts: { key: string; bits: Uint16Array; offset: number }[] = [];
  let sizeBytes = 0;
  const read = async (name: VectorName, layer: number | null) => {
    const bits = await source.vector(name, layer);
    const length = vectorLength(config, name, layer);
    if (bits.length !== length) throw wrongShape(keyOf(name, layer), `[${length}]`, `[${bits.length}]`);
    return bits;
  };
  const place = (key: string, bits: Uint16Array) => {
    parts.push({ key, bits, offset: sizeBytes });
    sizeBytes += Math.ceil(bits.byteLength / ALIGNMENT) * ALIGNMENT;
  };
  for (const layer of config.layers.keys()) {
    for (const name of ['inputNorm', 'postAttentionNorm', 'preMlpNorm', 'postMlpNorm'] as const) {
      place(keyOf(name, layer), await read(name, layer));
    }
    const [q, k] = [await read('qNorm', layer), await read('kNorm', layer)];
    const both = new Uint16Array(q.length + k.length);
    both.set(q);
    both.set(k, q.length);
    place(keyOf('qNorm', layer), both);
  }
  place(keyOf('norm', null), await read('norm', null));
  const bytes = new Uint8Array(sizeBytes);
  for (const { bits, offset } of parts)
    bytes.set(new Uint8Array(bits.buffer, bits.byteOffset, bits.byteLength), offset);
  const buffer = await createBuffer(guard, 'the norms of a decoder', sizeBytes, BufferUsage.STORAGE, owned);
  await guard.run('the upload of norms', () => guard.device.queue.writeBuffer(buffer, 0, bytes));
  return new Map(parts.map(({ key, bits, offset }) => [key, { buffer, offset, size: bits.byteLength }] as const));
}

async function loadEmbedding(
  guard: DeviceGuard,
  source: DecoderSource,
  maxBindingBytes: number,
  owned: GPUBuffer[],
  progress: Progress,
): Promise<EmbeddingSlice[]> {
  const { vocabularySize, hiddenSize } = source.config;
  const rowBytes = hiddenSize * 2;
  const rowsPerSlice = Math.max(1, Math.floor(maxBindingBytes / rowBytes));
  const rowsPerPiece = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
  const slices: EmbeddingSlice[] = [];
  for (let first = 0; first < vocabularySize; first += rowsPerSlice) {
    const count = Math.min(rowsPerSlice, vocabularySize - first);
    const rows = await createBuffer(guard, 'the embedding', count * rowBytes, BufferUsage.STORAGE, owned);
    slices.push({ first, count, rows });
    for (let row = 0; row < count; row += rowsPerPiece) {
      const length = Math.min(rowsPerPiece, count - row);
      const bits = await source.embedding(first + row, length);
      if (bits.length !== length * hiddenSize)
        throw wrongShape('embedding', `[${length}, ${hiddenSize}]`, `[${bits.length}]`);
      await guard.run('the upload of the embedding', () => guard.device.queue.writeBuffer(rows, row * rowBytes, bits));
      await guard.settle('the upload of the embedding', guard.device.queue.onSubmittedWorkDone());
      progress.advance(bits.byteLength);
    }
  }
  return slices;
}

async function createBuffer(
  guard: DeviceGuard,
  label: string,
  size: number,
  usage: number,
  owned: GPUBuffer[],
): Promise<GPUBuffer> {
  const { value, accepted } = guard.scoped(label, () =>
    guard.device.createBuffer({ label, size, usage: usage | BufferUsage.COPY_DST }),
  );
  owned.push(value);
  await accepted;
  return value;
}

function wrongShape(name: string, expected: string, got: string): SamebitsError {
  return new SamebitsError('SHAPE_MISMATCH', {
    rule: `the weight '${name.trim()}' must have the shape that the model's sizes say`,
    expected,
    got,
    fix: 'Load the configuration and the weights of one model.',
  });
}

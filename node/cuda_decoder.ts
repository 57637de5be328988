// Decoders of the cuda backend: weights to the device, the list of operations to the addon, and steps of caches.

import { SamebitsError } from '../core/errors.js';
import type {
  DecoderSource,
  DeviceCache,
  DeviceDecoder,
  LoadOptions,
  StepResult,
} from '../core/model/decoder_backend.js';
import { type DecoderConfig, type LayerConfig, requireCapacity } from '../core/model/decoder_config.js';
import { type LinearName, type Operation, stepOperations, type VectorName } from '../core/model/step.js';
import { linearShape, linearsOf, vectorLength, vectorsOf } from '../core/model/weight_shapes.js';
import type { NativeBuffer, NativeCache, NativeDecoder, NativeDecoderLayer, NativeOperation } from './cuda_addon.js';
import { CudaRotary } from './cuda_rotary.js';
import { CudaResource, type CudaSession } from './cuda_session.js';
import { type CudaWeight, uploadWeight } from './cuda_upload.js';

/** What the kernels are built for (cuda/decoder.h). */
const MAX_HEAD_SIZE = 512;
const MAX_HIDDEN_SIZE = 16_384;
/** Bytes of the embedding that are on their way at a time. */
const PIECE_BYTES = 16 * 1024 * 1024;

class CudaVector extends CudaResource<NativeBuffer> {
  protected override readonly what = 'vector';
}

export class CudaDecoder extends CudaResource<NativeDecoder> implements DeviceDecoder {
  protected override readonly what = 'decoder';
  readonly rotary: CudaRotary;

  constructor(
    session: CudaSession,
    handle: NativeDecoder,
    readonly config: DecoderConfig,
    readonly sizeBytes: number,
  ) {
    super(session, handle);
    this.rotary = new CudaRotary(config);
  }

  cacheSizeBytes(capacity: number): number {
    this.requireLive();
    requireCapacity(this.config, capacity);
    return this.session.native.cacheSizeBytes(this.handle, capacity);
  }

  async openCache(capacity: number): Promise<CudaCache> {
    this.requireLive();
    requireCapacity(this.config, capacity);
    const { session, handle } = this;
    const cache = await session.inOrder(() => session.native.openCache(handle, capacity));
    return new CudaCache(session, cache, this.rotary, capacity);
  }
}

export class CudaCache extends CudaResource<NativeCache> implements DeviceCache {
  protected override readonly what = 'cache';

  constructor(
    session: CudaSession,
    handle: NativeCache,
    private readonly rotary: CudaRotary,
    readonly capacity: number,
  ) {
    super(session, handle);
  }

  async step(tokens: readonly number[], position: number, wants: StepResult['wants']): Promise<StepResult> {
    this.requireLive();
    const { session, handle, rotary } = this;
    const own = Int32Array.from(tokens);
    const table = rotary.step(position, own.length);
    const running = session.inOrder(() => session.native.runStep(handle, own, position, wants, table));
    rotary.prepare(position + own.length, 1);
    const result = await running;
    if (typeof result === 'number') return { wants: 'greedy', token: result };
    if (result === undefined) return { wants: 'nothing' };
    return { wants: wants === 'everyLogit' ? wants : 'logits', logits: new Float32Array(result) };
  }

  /**
   * Microseconds of each of `replays` runs of a step's operations of some kinds, for M = 1. The cache then holds anything.
   */
  async time(position: number, kinds: readonly Operation['kind'][], replays: number): Promise<readonly number[]> {
    this.requireLive();
    const { session, handle, rotary } = this;
    const table = rotary.step(position, 1);
    return session.inOrder(() => session.native.timeStep(handle, 1, position, 'greedy', kinds, table, replays));
  }
}

/** Loads every weight of `source`, one at a time. A failure frees what was taken. */
export async function loadCudaDecoder(
  session: CudaSession,
  source: DecoderSource,
  { onProgress, signal }: LoadOptions,
): Promise<CudaDecoder> {
  const { config } = source;
  checkLimits(config);
  const weights = new Map<string, CudaWeight>();
  const vectors = new Map<string, CudaVector>();
  const totalBytes = totalBytesOf(config);
  let doneBytes = 0;
  const advance = (sizeBytes: number) => {
    signal?.throwIfAborted();
    doneBytes += sizeBytes;
    onProgress?.(Math.min(doneBytes, totalBytes), totalBytes);
  };
  try {
    signal?.throwIfAborted();
    for (const { name, layer } of linearsOf(config)) {
      const weight = await source.linear(name, layer);
      checkShape(config, name, layer, weight);
      const uploaded = await uploadWeight(session, weight, 'ours', () => signal?.throwIfAborted());
      weights.set(keyOf(name, layer), uploaded);
      advance(linearBytes(weight));
    }
    for (const { name, layer } of vectorsOf(config)) {
      const vector = await newVector(session, vectorLength(config, name, layer) * 2);
      vectors.set(keyOf(name, layer), vector);
      await fill(session, vector, 0, await source.vector(name, layer));
      advance(vectorLength(config, name, layer) * 2);
    }
    const rowBytes = config.hiddenSize * 2;
    const embedding = await newVector(session, config.vocabularySize * rowBytes);
    vectors.set('embedding', embedding);
    const rows = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
    for (let first = 0; first < config.vocabularySize; first += rows) {
      const count = Math.min(rows, config.vocabularySize - first);
      await fill(session, embedding, first * rowBytes, await source.embedding(first, count));
      advance(count * rowBytes);
    }
    const scalars: number[] = [];
    for (let layer = 0; layer < config.layers.length; layer++) scalars.push(await source.layerScalar(layer));

    const rotary = new CudaRotary(config);
    const vector = (name: VectorName, layer: number | null) => vectors.get(keyOf(name, layer))!.handle;
    const description = {
      hiddenSize: config.hiddenSize,
      intermediateSize: config.intermediateSize,
      vocabularySize: config.vocabularySize,
      epsilon: config.rmsNormEpsilon,
      softCap: config.softCap ?? 0,
      embeddingScale: Math.fround(Math.sqrt(config.hiddenSize)),
      rotaryFloats: rotary.length,
      embedding: embedding.handle,
      layers: config.layers.map((layer, i) => nativeLayer(layer, i, rotary, vector)),
      operations: nativeOperations(config, (name, layer) => weights.get(keyOf(name, layer))!.handle, vector, scalars),
    };
    const { native, info } = session;
    const { handle, sizeBytes } = await session.inOrder(() => native.createDecoder(info.handle, description));
    return new CudaDecoder(session, handle, config, sizeBytes);
  } finally {
    // The decoder shares what it needs of them.
    for (const resource of [...weights.values(), ...vectors.values()]) resource.dispose();
  }
}

function nativeLayer(
  layer: LayerConfig,
  index: number,
  rotary: CudaRotary,
  vector: (name: VectorName, layer: number) => NativeBuffer,
): NativeDecoderLayer {
  const { heads, keyValueHeads, headSize, window, hasValueProjection, rotaryFrequencies: frequencies } = layer;
  return {
    ...{ heads, keyValueHeads, headSize, window, hasValueProjection, frequencies },
    rotaryOffset: rotary.offset(layer),
    queryNorm: vector('qNorm', index),
    keyNorm: vector('kNorm', index),
  };
}

/** The list of step.ts, with handles in the place of names. */
function nativeOperations(
  config: DecoderConfig,
  weight: (name: LinearName, layer: number | null) => CudaWeight['handle'],
  vector: (name: VectorName, layer: number | null) => NativeBuffer,
  scalars: readonly number[],
): NativeOperation[] {
  const operations = stepOperations(config, true).flatMap((operation): NativeOperation[] => {
    switch (operation.kind) {
      case 'linear': {
        const { kind, linear, layer, x, y } = operation;
        return [{ kind, layer: layer ?? 0, weight: weight(linear, layer), x, y }];
      }
      case 'norm': {
        const { branch, next } = operation;
        return [
          {
            kind: 'norm',
            branchWeight: branch && vector(branch.norm, branch.layer),
            nextWeight: vector(next.norm, next.layer),
            scalar: branch?.isScaled ? scalars[branch.layer]! : 1,
          },
        ];
      }
      case 'heads':
      case 'attention':
        return [{ kind: operation.kind, layer: operation.layer }];
      case 'softCap':
        return [];
      default:
        return [{ kind: operation.kind }];
    }
  });
  // Finds the largest logit, too.
  return [...operations, { kind: 'softCap' }];
}

async function newVector(session: CudaSession, sizeBytes: number): Promise<CudaVector> {
  const { native, info } = session;
  return new CudaVector(session, await session.inOrder(() => native.createBuffer(info.handle, sizeBytes)));
}

async function fill(session: CudaSession, vector: CudaVector, offset: number, values: Uint16Array): Promise<void> {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  await session.call(() => session.native.fillBuffer(vector.handle, offset, bytes));
}

const keyOf = (name: LinearName | VectorName, layer: number | null) => `${layer} ${name}`;

const linearBytes = ({ n, k, groupSize }: { n: number; k: number; groupSize: number }) =>
  (n * k) / 2 + ((n * k) / groupSize) * 4;

/** As if every group had 32 weights: what a file has is known only as it is read. */
function totalBytesOf(config: DecoderConfig): number {
  const linears = linearsOf(config).map(({ name, layer }) =>
    linearBytes({ ...linearShape(config, name, layer), groupSize: 32 }),
  );
  const vectors = vectorsOf(config).map(({ name, layer }) => vectorLength(config, name, layer) * 2);
  const embedding = config.vocabularySize * config.hiddenSize * 2;
  return [...linears, ...vectors, embedding].reduce((sum, sizeBytes) => sum + sizeBytes, 0);
}

function checkShape(
  config: DecoderConfig,
  name: LinearName,
  layer: number | null,
  weight: { readonly n: number; readonly k: number },
): void {
  const { n, k } = linearShape(config, name, layer);
  if (weight.n === n && weight.k === k) return;
  throw new SamebitsError('SHAPE_MISMATCH', {
    rule: `the weight of ${layer === null ? name : `layer ${layer}'s ${name}`} must have the shape of the configuration`,
    expected: `[${n}, ${k}]`,
    got: `[${weight.n}, ${weight.k}]`,
    fix: 'Use the config.json that belongs to these weights.',
  });
}

/** @throws SamebitsError DEVICE_LIMIT */
function checkLimits(config: DecoderConfig): void {
  const largestHead = Math.max(...config.layers.map(({ headSize }) => headSize));
  for (const [what, size, limit] of [
    ['head size', largestHead, MAX_HEAD_SIZE],
    ['hidden size', config.hiddenSize, MAX_HIDDEN_SIZE],
  ] as const) {
    if (size <= limit) continue;
    throw new SamebitsError('DEVICE_LIMIT', {
      rule: `the kernels of the decoder take a ${what} up to a limit`,
      expected: `at most ${limit}`,
      got: String(size),
      fix: 'Use the webgpu or cpu backend.',
    });
  }
}

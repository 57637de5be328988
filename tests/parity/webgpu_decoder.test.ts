// The decoder on WebGPU: whole steps with the bits of the reference, caches that do not mix, and the ways they end.

import { afterAll, describe, expect, type TestContext, test } from 'vitest';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import type { DeviceCache, DeviceDecoder } from '../../core/model/decoder_backend.js';
import type { DawnDevice } from '../../node/dawn_device.js';
import { WebGPUBackend, type WebGPUBackendOptions } from '../../shaders/index.js';
import { DRAWN_CONFIG, drawDecoderSource } from './decoder_source.js';
import { LONG_DECODER } from './hard_decoders.js';
import { countBuffers, expectBits, ownDawn, refusal, useDawn } from './webgpu_device.js';

const dawn = useDawn();
const { vocabularySize } = DRAWN_CONFIG;
const CAPACITY = 340;
/** A window of more than a chunk, a layer that sees everything, and little else. */
const LONG_CONFIG = { ...LONG_DECODER, vocabularySize };

async function logitsOf(cache: DeviceCache, tokens: readonly number[], position: number): Promise<Float32Array> {
  const result = await cache.step(tokens, position, 'everyLogit');
  if (!('logits' in result)) throw new Error('no logits');
  return result.logits;
}

/** Any tokens, the same at every call. */
const text = (first: number, count: number, stride = 31) =>
  Array.from({ length: count }, (_, i) => ((first + i) * stride + 7) % vocabularySize);

/** A decoder on the device and the same one on the CPU. */
async function both(device: GPUDevice, source = drawDecoderSource(), options: WebGPUBackendOptions = {}) {
  const backend = await WebGPUBackend.create(device, options);
  return { backend, decoder: await backend.loadDecoder(source), reference: await CpuDecoder.load(source) };
}

async function expectSameLogits(
  { decoder, reference }: { readonly decoder: DeviceDecoder; readonly reference: DeviceDecoder },
  sizes: readonly number[],
): Promise<void> {
  const [cache, expected] = [await decoder.openCache(CAPACITY), await reference.openCache(CAPACITY)];
  let position = 0;
  for (const size of sizes) {
    const tokens = text(position, size);
    expectBits(await logitsOf(expected, tokens, position), await logitsOf(cache, tokens, position), vocabularySize);
    position += size;
  }
  cache.dispose();
}

describe('a step', () => {
  test('has the bits of the reference for 1 to 4 tokens', async (context) => {
    const made = await both(dawn(context).device);
    await expectSameLogits(made, [1, 2, 3, 4, 1, 4]);
    await made.backend.dispose();
  });

  test('has them past windows and chunks, on a text that began without results', async (context) => {
    const { backend, decoder, reference } = await both(dawn(context).device, drawDecoderSource(LONG_CONFIG));
    const [cache, expected] = [await decoder.openCache(CAPACITY), await reference.openCache(CAPACITY)];
    const run = async (position: number, size: number) => {
      for (const of of [cache, expected]) await of.step(text(position, size), position, 'nothing');
    };
    const compare = async (position: number, size: number) => {
      const tokens = text(position, size);
      expectBits(await logitsOf(expected, tokens, position), await logitsOf(cache, tokens, position), vocabularySize);
    };
    for (let position = 0; position < 252; position += 4) await run(position, 4);
    // Over the border of the first chunk, where tokens of one step see one chunk and two.
    await run(252, 2);
    await compare(254, 4);
    await run(258, 1);
    // Where the window of 261 leaves the first position behind, and its cache begins again.
    for (let position = 259; position < 271; position += 3) await compare(position, 3);
    // As far back as a cache of window + 4 positions goes: what lies after is overwritten.
    await compare(266, 1);
    await compare(267, 4);
    await backend.dispose();
  });

  test('gives the last logits, the largest of them, or nothing', async (context) => {
    const { backend, decoder } = await both(dawn(context).device);
    const cache = await decoder.openCache(16);
    for (const m of [1, 2, 3, 4]) {
      const tokens = text(m, m);
      const every = await logitsOf(cache, tokens, 0);
      const last = every.subarray((m - 1) * vocabularySize);
      const logits = await cache.step(tokens, 0, 'logits');
      expectBits(last, 'logits' in logits ? logits.logits : new Float32Array(), vocabularySize);
      const largest = last.indexOf(Math.max(...last));
      expect(await cache.step(tokens, 0, 'greedy')).toEqual({ wants: 'greedy', token: largest });
      expect(await cache.step(tokens, 0, 'nothing')).toEqual({ wants: 'nothing' });
    }
    await backend.dispose();
  });

  test('runs after those that were asked for before', async (context) => {
    const { backend, decoder, reference } = await both(dawn(context).device);
    const [cache, expected] = [await decoder.openCache(16), await reference.openCache(16)];
    const asked = [0, 1, 2, 3, 4].map((position) => logitsOf(cache, text(position, 1), position));
    for (const [position, actual] of asked.entries()) {
      expectBits(await logitsOf(expected, text(position, 1), position), await actual, vocabularySize);
    }
    await backend.dispose();
  });
});

describe('other decoders', () => {
  test('with groups of 16 where linears of one x agree', async (context) => {
    const groups = (linear: string) => (['q', 'k', 'v', 'down'].includes(linear) ? 16 : 32);
    const made = await both(dawn(context).device, drawDecoderSource(DRAWN_CONFIG, groups));
    await expectSameLogits(made, [2, 1]);
    await made.backend.dispose();
  });

  test('with groups of 16 beside 32 on one x are refused', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const groups = (linear: string) => (linear === 'up' ? 16 : 32);
    const loading = backend.loadDecoder(drawDecoderSource(DRAWN_CONFIG, groups));
    const expected = { expected: expect.stringContaining('gate, up of layer 0'), got: 'gate 32, up 16' };
    await expect(loading).rejects.toMatchObject({ code: 'GROUP_SIZE_UNSUPPORTED', ...expected });
    await backend.dispose();
  });

  test('without a soft cap', async (context) => {
    const made = await both(dawn(context).device, drawDecoderSource({ ...DRAWN_CONFIG, softCap: null }));
    await expectSameLogits(made, [1, 3]);
    await made.backend.dispose();
  });

  test('on a device with default limits, cut into slices', async (context) => {
    const adapter = await dawn(context).keepAlive.gpu.requestAdapter();
    const device = await adapter!.requestDevice();
    const made = await both(device, drawDecoderSource(), { maxBindingBytes: 20_000 });
    expect(made.backend.device.details['linears']).toBe('up to 1 side by side');
    await expectSameLogits(made, [4, 1]);
    await made.backend.dispose();
    device.destroy();
  });

  test('with heads that no tile of keys takes are refused', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const [sliding] = DRAWN_CONFIG.layers;
    const layers = [{ ...sliding!, headSize: 48, rotaryFrequencies: 24 }];
    const loading = backend.loadDecoder(drawDecoderSource({ ...DRAWN_CONFIG, layers }));
    await expect(loading).rejects.toMatchObject({ code: 'DEVICE_LIMIT', got: '48 in layer 0' });
    await backend.dispose();
  });

  test('whose weights have other shapes than their sizes say are refused', async (context) => {
    const backend = await WebGPUBackend.create(dawn(context).device);
    const source = drawDecoderSource();
    const wrong = [
      { ...source, config: { ...DRAWN_CONFIG, intermediateSize: 640 }, linear: source.linear },
      { ...source, vector: async () => new Uint16Array(3) },
      { ...source, embedding: async () => new Uint16Array(3) },
    ];
    for (const of of wrong) await expect(backend.loadDecoder(of)).rejects.toThrow(refusal('SHAPE_MISMATCH'));
    await backend.dispose();
  });
});

describe('caches', () => {
  test('of two texts, step by step in turn, do not mix', async (context) => {
    const { backend, decoder } = await both(dawn(context).device);
    const alone = await decoder.openCache(64);
    const texts = [text(0, 10), text(100, 10, 17)];
    const expected: Float32Array[][] = [];
    for (const tokens of texts) {
      const steps: Float32Array[] = [];
      for (const [position, token] of tokens.entries()) steps.push(await logitsOf(alone, [token], position));
      expected.push(steps);
    }
    const caches = [await decoder.openCache(64), await decoder.openCache(30)];
    for (let position = 0; position < 10; position++) {
      const both = caches.map((cache, i) => logitsOf(cache, [texts[i]![position]!], position));
      for (const [i, logits] of (await Promise.all(both)).entries()) {
        expectBits(expected[i]![position]!, logits, vocabularySize);
      }
    }
    await backend.dispose();
  });

  test('hold the weights until the last of them is closed', async (context) => {
    const { backend, decoder } = await both(dawn(context).device);
    const cache = await decoder.openCache(8);
    decoder.dispose();
    await expect(decoder.openCache(8)).rejects.toThrow(refusal('DISPOSED'));
    expect(await logitsOf(cache, [3], 0)).toHaveLength(vocabularySize);
    cache.dispose();
    cache.dispose();
    await expect(cache.step([3], 1, 'greedy')).rejects.toThrow(refusal('DISPOSED'));
    await backend.dispose();
  });

  test.for([0, 1.5, DRAWN_CONFIG.maxPositions + 1])('of %d positions are refused', async (capacity, context) => {
    const { backend, decoder } = await both(dawn(context).device);
    await expect(decoder.openCache(capacity)).rejects.toThrow(refusal('ARGUMENT_INVALID'));
    expect(() => decoder.cacheSizeBytes(capacity)).toThrow(refusal('ARGUMENT_INVALID'));
    await backend.dispose();
  });

  test('too large for a binding are refused', async (context) => {
    const { device } = dawn(context);
    const config = { ...DRAWN_CONFIG, maxPositions: 2 ** 30 };
    const backend = await WebGPUBackend.create(device);
    const decoder = await backend.loadDecoder(drawDecoderSource(config));
    await expect(decoder.openCache(2 ** 30)).rejects.toThrow(refusal('DEVICE_LIMIT'));
    await backend.dispose();
  });
});

test('loading tells how far it is', async (context) => {
  const backend = await WebGPUBackend.create(dawn(context).device);
  const told: number[] = [];
  let total = 0;
  await backend.loadDecoder(drawDecoderSource(), {
    onProgress: (doneBytes, totalBytes) => {
      told.push(doneBytes);
      total = totalBytes;
    },
  });
  expect(told).toEqual([...told].sort((a, b) => a - b));
  expect(told.at(-1)).toBe(total);
  await backend.dispose();
});

test('operations are timed by their kind, and the text goes on afterwards', async (context) => {
  const { backend, decoder, reference } = await both(dawn(context).device);
  const [cache, expected] = [await decoder.openCache(16), await reference.openCache(16)];
  const elapsedUs = await backend.benchmark.timeStep!(cache, 1, ['linear', 'attention'], 2);
  expect(elapsedUs).toHaveLength(2);
  expect(await backend.benchmark.timeStep!(cache, 1, ['embed', 'norm', 'heads', 'gelu', 'softCap'], 1)).toHaveLength(1);
  for (const position of [0, 1]) {
    const tokens = text(position, 1);
    expectBits(await logitsOf(expected, tokens, position), await logitsOf(cache, tokens, position), vocabularySize);
  }
  const time = backend.benchmark.timeStep!(expected, 1, ['linear'], 1);
  await expect(time).rejects.toThrow(refusal('BACKEND_MISMATCH'));
  await backend.dispose();
});

// One device, so that its kernels are compiled once.
describe('on a device of their own', () => {
  let opened: Promise<DawnDevice> | null = null;
  const own = (context: TestContext) => {
    opened ??= ownDawn(context);
    return opened;
  };
  afterAll(async () => (await opened)?.device.destroy());

  test('caches take the memory that was said, and none is left once everything is closed', async (context) => {
    const { device, keepAlive } = await own(context);
    const live = countBuffers(device);
    const backend = await WebGPUBackend.create(device, { keepAlive });
    const source = drawDecoderSource();
    const decoder = await backend.loadDecoder(source);
    await (await decoder.openCache(16)).step([1], 0, 'greedy');
    const before = live.bytes();
    const cache = await decoder.openCache(CAPACITY);
    expect(live.bytes() - before).toBe(decoder.cacheSizeBytes(CAPACITY));
    cache.dispose();
    expect(live.bytes()).toBe(before);
    await backend.dispose();
    expect(live.bytes()).toBe(0);
  });

  test('a failed load leaves nothing behind', async (context) => {
    const { device, keepAlive } = await own(context);
    const live = countBuffers(device);
    const backend = await WebGPUBackend.create(device, { keepAlive });
    const before = live.bytes();
    const source = drawDecoderSource();
    const cause = new Error('the disk is gone');
    const failing = { ...source, embedding: () => Promise.reject(cause) };
    await expect(backend.loadDecoder(failing)).rejects.toBe(cause);
    const control = new AbortController();
    const reason = new Error('enough');
    const onProgress = () => control.abort(reason);
    await expect(backend.loadDecoder(source, { onProgress, signal: control.signal })).rejects.toBe(reason);
    expect(live.bytes()).toBe(before);
    await backend.dispose();
  });

  // The last of them.
  test('a lost device rejects steps, and says so', async (context) => {
    const { device, keepAlive } = await own(context);
    const backend = await WebGPUBackend.create(device, { keepAlive });
    const decoder = await backend.loadDecoder(drawDecoderSource());
    const cache = await decoder.openCache(8);
    await cache.step([1], 0, 'greedy');
    const pending = cache.step([2], 1, 'greedy');
    device.destroy();
    await expect(pending).rejects.toThrow(refusal('DEVICE_LOST'));
    await expect(cache.step([2], 1, 'greedy')).rejects.toThrow(refusal('DEVICE_LOST'));
    await expect(decoder.openCache(8)).rejects.toThrow(refusal('DEVICE_LOST'));
    await backend.dispose();
  });
});

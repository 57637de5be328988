// Steps on WebGPU that begin before they are asked for: the bits are those of a cache that never ran ahead, whatever is asked
// for instead.

import { afterAll, describe, expect, type TestContext, test } from 'vitest';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import type { DecoderSource, DeviceCache, DeviceDecoder } from '../../core/model/decoder_backend.js';
import type { DecoderConfig } from '../../core/model/decoder_config.js';
import { DecoderSession } from '../../core/model/session.js';
import type { DawnDevice } from '../../node/dawn_device.js';
import { WebGPUBackend, type WebGPUBackendOptions } from '../../shaders/index.js';
import { drawDecoderSource } from './decoder_source.js';
import { LONG_DECODER } from './hard_decoders.js';
import { countBuffers, ownDawn, refusal, useDawn } from './webgpu_device.js';

const dawn = useDawn();
const [SLIDING, FULL] = LONG_DECODER.layers;
/** A ring of the slots that it needs, to the last; and one that needs a slot more, and has those of a tile more. */
const RINGS: DecoderConfig = {
  ...LONG_DECODER,
  layers: [{ ...SLIDING!, window: 28 }, { ...SLIDING!, window: 29 }, FULL!],
};
const rings = drawDecoderSource(RINGS);
const drawn = drawDecoderSource();

async function opened(device: GPUDevice, source: DecoderSource = rings, options: WebGPUBackendOptions = {}) {
  const backend = await WebGPUBackend.create(device, options);
  return { backend, decoder: await backend.loadDecoder(source), reference: await CpuDecoder.load(source) };
}

// One backend for most, so that its kernels are compiled once.
let shared: ReturnType<typeof opened> | null = null;
const useShared = (context: TestContext) => {
  shared ??= opened(dawn(context).device);
  return shared;
};
afterAll(async () => (await shared)?.backend.dispose());

async function greedyStep(
  cache: DeviceCache,
  tokens: readonly number[],
  position: number,
  goesOn: boolean,
): Promise<number> {
  const result = await cache.step(tokens, position, 'greedy', goesOn);
  if (result.wants !== 'greedy') throw new Error(`a greedy step gave ${result.wants}`);
  return result.token;
}

/** The tokens of `count` greedy steps after a prompt of 1 to 4 tokens, to the end of the cache. */
async function written(decoder: DeviceDecoder, prompt: readonly number[], count: number, goesOn: boolean) {
  const cache = await decoder.openCache(prompt.length - 1 + count);
  const tokens: number[] = [];
  let next = prompt;
  for (let position = 0; position < cache.capacity; ) {
    const token = await greedyStep(cache, next, position, goesOn);
    position += next.length;
    tokens.push(token);
    next = [token];
  }
  cache.dispose();
  return tokens;
}

describe('the same tokens', () => {
  test.for([
    { name: 'after one token, past windows', source: rings, prompt: [3], count: 70 },
    { name: 'after four tokens, past a chunk', source: rings, prompt: [1, 2, 3, 4], count: 270 },
    { name: 'of other layers', source: drawn, prompt: [7, 8], count: 45 },
    { name: 'of a table in slices', source: drawn, prompt: [7, 8], count: 12, options: { maxBindingBytes: 20_000 } },
    { name: 'to an end that comes at once', source: rings, prompt: [5], count: 1 },
  ])('$name', async ({ source, prompt, count, options }, context) => {
    const { backend, decoder, reference } = await opened(dawn(context).device, source, options);
    const expected = await written(reference, prompt, count, false);
    expect(new Set(expected).size).toBeGreaterThan(Math.min(count - 1, 5));
    expect(await written(reference, prompt, count, true)).toEqual(expected);
    expect(await written(decoder, prompt, count, true)).toEqual(expected);
    await backend.dispose();
  });

  test('of two texts, in turn and at once', async (context) => {
    const { decoder, reference } = await useShared(context);
    const texts = [[3], [60]];
    const expected = await Promise.all(texts.map((prompt) => written(reference, prompt, 24, false)));
    expect(expected[0]).not.toEqual(expected[1]);
    for (const isAtOnce of [false, true]) {
      const caches = [await decoder.openCache(24), await decoder.openCache(24)];
      const got = texts.map((prompt) => [...prompt]);
      for (let position = 0; position < 24; position++) {
        const steps = caches.map((cache, i) => async () => {
          got[i]!.push(await greedyStep(cache, got[i]!.slice(-1), position, true));
        });
        // In both orders, so that a step ahead comes before another's and after it.
        if (isAtOnce) await Promise.all(steps.map((step) => step()));
        else for (const step of position % 2 === 0 ? steps : steps.reverse()) await step();
      }
      expect(got.map((tokens) => tokens.slice(1))).toEqual(expected);
      for (const cache of caches) cache.dispose();
    }
  });

  test('where operations are timed in between', async (context) => {
    const { backend, decoder, reference } = await useShared(context);
    const kinds = ['embed', 'norm', 'linear', 'heads', 'attention', 'gelu', 'softCap'] as const;
    const [cache, other, expected] = await Promise.all([decoder, decoder, reference].map((of) => of.openCache(9)));
    let token = 3;
    for (let position = 0; position < 8; position++) {
      const next = await greedyStep(expected!, [token], position, false);
      expect(await greedyStep(cache!, [token], position, true)).toBe(next);
      token = next;
      // They leave another token on the device, and once other keys and values where the step ahead has left its own.
      const [timed, at] = position === 4 ? [cache!, 5] : [other!, 0];
      await backend.benchmark.timeStep!(timed, at, kinds, 1);
    }
    expect(await cache!.step([token], 8, 'logits')).toEqual(await expected!.step([token], 8, 'logits'));
    for (const of of [cache!, other!]) of.dispose();
  });
});

describe('a wrong guess', () => {
  interface Guess {
    readonly name: string;
    /** After 40 tokens, the last of which gave `token`. */
    readonly ask: (session: DecoderSession, token: number) => Promise<unknown>;
  }
  const rewound = (by: number): Guess => ({
    name: `${by} back`,
    ask: (session, token) => {
      session.rewind(session.position - by);
      return session.append([token], 'logits');
    },
  });
  const GUESSES: readonly Guess[] = [
    { name: 'none', ask: (session, token) => session.append([token], 'greedy', { goesOn: true }) },
    { name: 'another token', ask: (session, token) => session.append([(token + 1) % 75], 'greedy', { goesOn: true }) },
    { name: 'logits', ask: (session, token) => session.append([token], 'logits') },
    { name: 'nothing', ask: (session, token) => session.append([token], 'nothing') },
    { name: 'more tokens', ask: (session, token) => session.append([token, 9, 10, 11], 'everyLogit') },
    {
      name: 'another position',
      ask: (session, token) => {
        session.rewind(session.position - 1);
        return session.append([token], 'greedy', { goesOn: true });
      },
    },
    {
      name: 'two in a row',
      ask: async (session, token) => {
        const first = await session.append([(token + 1) % 75], 'greedy', { goesOn: true });
        return [first, await session.append([token], 'greedy', { goesOn: true })];
      },
    },
    ...[1, 2, 3, 4, 5, 6].map(rewound),
  ];

  /** Everything that comes of a guess, and of the tokens after it. */
  async function outcome(decoder: DeviceDecoder, { ask }: Guess, goesOn: boolean) {
    const session = await DecoderSession.open(decoder, 64);
    await session.append(
      Array.from({ length: 36 }, (_, i) => (i * 31 + 7) % 75),
      'nothing',
    );
    let token = 5;
    for (let i = 0; i < 4; i++) {
      const result = await session.append([token], 'greedy', { goesOn });
      if (result.wants === 'greedy') token = result.token;
    }
    const asked = await ask(session, token);
    const after = await session.append([20, 21, 22, 23, 24, 25], 'everyLogit');
    session.dispose();
    return { token, asked, after };
  }

  test.for(GUESSES)('$name', async (guess, context) => {
    const { decoder, reference } = await useShared(context);
    expect(await outcome(decoder, guess, true)).toEqual(await outcome(reference, guess, false));
  });
});

// One device, so that its kernels are compiled once.
describe('on a device of their own', () => {
  let own: Promise<DawnDevice> | null = null;
  const deviceOf = async (context: TestContext) => {
    own ??= ownDawn(context);
    return (await own).device;
  };
  afterAll(async () => (await own)?.device.destroy());

  test('a step is submitted once, and before it is asked for where that is allowed', async (context) => {
    const device = await deviceOf(context);
    const submit = device.queue.submit;
    let submitted = 0;
    device.queue.submit = (commands) => {
      submitted += [...commands].length;
      return submit.call(device.queue, commands);
    };
    const { backend, decoder } = await opened(device);
    const [cache, other] = [await decoder.openCache(5), await decoder.openCache(5)];
    const count = async (of: DeviceCache, tokens: readonly number[], position: number, goesOn: boolean) => {
      submitted = 0;
      return { token: await greedyStep(of, tokens, position, goesOn), submitted };
    };
    const first = await count(cache, [3], 0, true);
    const second = await count(cache, [first.token], 1, true);
    const between = await count(other, [3], 0, true);
    const third = await count(cache, [second.token], 2, true);
    const fourth = await count(cache, [third.token], 3, true);
    const last = await count(cache, [fourth.token], 4, true);
    const counts = [first, second, between, third, fourth, last].map((step) => step.submitted);
    // The third could not be followed, since another cache's token was on the device; after the last there is no room.
    expect(counts).toEqual([2, 1, 2, 0, 2, 0]);
    expect((await count(other, [between.token], 1, false)).submitted).toBe(0);
    await backend.dispose();
    device.queue.submit = submit;
  });

  test('wrong guesses and disposal leave no buffer behind', async (context) => {
    const device = await deviceOf(context);
    const live = countBuffers(device);
    const { backend, decoder } = await opened(device);
    const cache = await decoder.openCache(40);
    await greedyStep(cache, [3], 0, true);
    const before = live.bytes();
    for (const position of Array.from({ length: 8 }, (_, i) => i + 1))
      await greedyStep(cache, [position], position, true);
    expect(live.bytes()).toBe(before);
    cache.dispose();
    await backend.dispose();
    expect(live.bytes()).toBe(0);
  });

  test('a cache and a backend are disposed of with a step in flight', async (context) => {
    const { backend, decoder, reference } = await opened(await deviceOf(context));
    const expected = await written(reference, [3], 2, false);
    const [cache, other] = [await decoder.openCache(4), await decoder.openCache(4)];
    const first = await greedyStep(cache, [3], 0, true);
    await greedyStep(other, [3], 0, true);
    other.dispose();
    await expect(other.step([3], 0, 'greedy')).rejects.toThrow(refusal('DISPOSED'));
    const second = await greedyStep(cache, [first], 1, true);
    expect([first, second]).toEqual(expected);
    await greedyStep(cache, [second], 2, true);
    await backend.dispose();
    await expect(cache.step([second], 2, 'greedy')).rejects.toThrow(refusal('DISPOSED'));
  });

  // The last of them.
  test('a device that is lost with steps in flight rejects the call that waits, the one that asks next, and every other', async (context) => {
    const device = await deviceOf(context);
    const { backend, decoder } = await opened(device);
    const [cache, other, waits] = await Promise.all([8, 8, 8].map((capacity) => decoder.openCache(capacity)));
    if (!cache || !other || !waits) throw new Error('three caches');
    const token = await greedyStep(cache, [3], 0, true);
    await greedyStep(other, [3], 0, true);
    const submit = device.queue.submit;
    const followed = new Promise<void>((resolve) => {
      let count = 0;
      device.queue.submit = (commands) => {
        submit.call(device.queue, commands);
        if (++count === 2) resolve();
      };
    });
    const pending = expect(waits.step([3], 0, 'greedy', true)).rejects.toThrow(refusal('DEVICE_LOST'));
    await followed;
    device.destroy();
    await pending;
    await expect(cache.step([token], 1, 'greedy', true)).rejects.toThrow(refusal('DEVICE_LOST'));
    await expect(cache.step([token], 1, 'greedy', true)).rejects.toThrow(refusal('DEVICE_LOST'));
    await expect(other.step([5], 1, 'nothing')).rejects.toThrow(refusal('DEVICE_LOST'));
    await backend.dispose();
  });
});

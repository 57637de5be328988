// Sessions: going on, going back and several at once give the bits of one text run from its beginning. The device is a model
// of caches alone: what it gives depends on every slot that a step may see, so that a slot that was lost is noticed. It runs
// ahead wherever it may.

import { describe, expect, test } from 'vitest';
import type { DeviceCache, DeviceDecoder, StepResult } from '../../core/model/decoder_backend.js';
import { cacheSlots, type DecoderConfig, type LayerConfig, TOKENS_PER_STEP } from '../../core/model/decoder_config.js';
import { DecoderSession } from '../../core/model/session.js';

const WINDOW = 8;
const sliding: LayerConfig = {
  attention: 'sliding',
  heads: 1,
  keyValueHeads: 1,
  headSize: 32,
  hasValueProjection: true,
  window: WINDOW,
  rotaryTheta: 1e4,
  rotaryFrequencies: 16,
};
const config: DecoderConfig = {
  hiddenSize: 32,
  intermediateSize: 32,
  vocabularySize: 1000,
  maxPositions: 64,
  rmsNormEpsilon: 1e-6,
  softCap: null,
  layers: [sliding, { ...sliding, attention: 'full', window: null }, sliding],
  beginToken: null,
  endTokens: [],
};

/** Each layer mixes what its slots hold of the positions it sees; the result is the next layer's input. */
class SlotDecoder implements DeviceDecoder {
  readonly config = config;
  readonly sizeBytes = 1;
  steps = 0;
  openCaches = 0;
  /** Awaited in every step. */
  pause: () => Promise<void> = async () => {};

  dispose(): void {}

  cacheSizeBytes(capacity: number): number {
    return capacity * 12;
  }

  async openCache(capacity: number): Promise<DeviceCache> {
    this.openCaches++;
    const slots = config.layers.map((layer) => new Int32Array(cacheSlots(layer, capacity)));
    const run = (token: number, position: number) => {
      let value = Math.imul(token + 1, 0x9e3779b1) ^ position;
      for (const [i, layer] of config.layers.entries()) {
        const own = slots[i]!;
        own[position % own.length] = value;
        const first = layer.window === null ? 0 : Math.max(0, position - layer.window + 1);
        for (let p = first; p <= position; p++)
          value = Math.imul(value ^ own[p % own.length]!, 0x01000193) ^ (value >>> 15);
      }
      return value;
    };
    return {
      capacity,
      dispose: () => {
        this.openCaches--;
      },
      step: async (tokens, position, wants, goesOn = false): Promise<StepResult> => {
        if (tokens.length > TOKENS_PER_STEP || position + tokens.length > capacity)
          throw new Error('outside the cache');
        this.steps++;
        await this.pause();
        const values = tokens.map((token, i) => run(token, position + i) / 2 ** 31);
        if (wants === 'nothing') return { wants };
        if (wants === 'greedy') {
          const token = Math.floor(Math.abs(values.at(-1)!) * 999);
          const next = position + tokens.length;
          if (goesOn && next < capacity) run(token, next);
          return { wants, token };
        }
        return { wants, logits: Float32Array.from(wants === 'logits' ? values.slice(-1) : values) };
      },
    };
  }
}

const text = Array.from({ length: 60 }, (_, i) => (i * 37 + 11) % 1000);

async function logitsOf(session: DecoderSession, tokens: readonly number[]): Promise<number[]> {
  const result = await session.append(tokens, 'everyLogit');
  if (result.wants !== 'everyLogit') throw new Error('something else was asked for');
  return [...result.logits];
}

const fresh = async (tokens: readonly number[]) => logitsOf(await DecoderSession.open(new SlotDecoder(), 64), tokens);
const refusal = (code: string) => expect.objectContaining({ code });

describe('the same bits', () => {
  test.each([1, 2, 3, 4, 5, 7, 60])('in pieces of %i tokens', async (size) => {
    const session = await DecoderSession.open(new SlotDecoder(), 60);
    const got: number[] = [];
    for (let i = 0; i < 60; i += size) got.push(...(await logitsOf(session, text.slice(i, i + size))));
    expect(got).toEqual(await fresh(text));
    expect(session.tokens).toEqual(text);
  });

  test.each([false, true])('from every position back to every position, twice; goesOn %s', async (goesOn) => {
    for (let from = 1; from <= 30; from++) {
      for (let to = 0; to <= from; to++) {
        const session = await DecoderSession.open(new SlotDecoder(), 64);
        await session.append(text.slice(0, from), 'greedy', { goesOn });
        session.rewind(to);
        const other = [900, 901, 902];
        expect(await logitsOf(session, other)).toEqual((await fresh([...text.slice(0, to), ...other])).slice(to));
        const back = Math.max(0, to - 1);
        session.rewind(back);
        expect(await logitsOf(session, [7])).toEqual((await fresh([...text.slice(0, back), 7])).slice(back));
      }
    }
  });

  test.each([
    { goesOn: false, kept: TOKENS_PER_STEP + 1 },
    { goesOn: true, kept: TOKENS_PER_STEP },
  ])(
    'tokens are run again only where a sliding cache has lost what is needed; goesOn $goesOn',
    async ({ goesOn, kept }) => {
      const decoder = new SlotDecoder();
      const session = await DecoderSession.open(decoder, 64);
      await session.append(text.slice(0, 40), 'greedy', { goesOn });
      const stepsOf = async (position: number) => {
        session.rewind(position);
        decoder.steps = 0;
        await session.append([1], 'greedy');
        return decoder.steps;
      };
      expect(await stepsOf(40 - kept)).toBe(1);
      expect(await stepsOf(40 - kept - 1)).toBe(1 + Math.ceil((40 - kept - 1) / TOKENS_PER_STEP));
      expect(await stepsOf(0)).toBe(1);
    },
  );

  test('a hint reaches the last step of a call, and no other', async () => {
    const hints: (boolean | undefined)[] = [];
    const decoder = new SlotDecoder();
    const open = decoder.openCache.bind(decoder);
    decoder.openCache = async (capacity) => {
      const cache = await open(capacity);
      const step: DeviceCache['step'] = (tokens, position, wants, goesOn) => {
        hints.push(goesOn);
        return cache.step(tokens, position, wants, goesOn);
      };
      return { ...cache, step };
    };
    const session = await DecoderSession.open(decoder, 64);
    await session.append(text.slice(0, 40), 'greedy', { goesOn: true });
    expect(hints).toEqual([...Array.from({ length: 9 }, () => false), true]);
    // Tokens that are run again give what nobody goes on from.
    session.rewind(20);
    hints.length = 0;
    await session.append([1], 'greedy', { goesOn: true });
    expect(hints).toEqual([...Array.from({ length: 5 }, () => false), true]);
    hints.length = 0;
    await session.append([1], 'greedy');
    expect(hints).toEqual([false]);
  });

  test('a device that runs ahead never leaves the session', async () => {
    const decoder = new SlotDecoder();
    const session = await DecoderSession.open(decoder, 12);
    await session.append(text.slice(0, 12), 'greedy', { goesOn: true });
    // As far as the 12 positions allow: a position 13 would have taken one more.
    session.rewind(7);
    decoder.steps = 0;
    await session.append([3], 'greedy');
    expect(decoder.steps).toBe(1);
  });

  test('a hint takes no position where no greedy step is asked for', async () => {
    const decoder = new SlotDecoder();
    const session = await DecoderSession.open(decoder, 64);
    await session.append(text.slice(0, 40), 'logits', { goesOn: true });
    session.rewind(40 - TOKENS_PER_STEP - 1);
    decoder.steps = 0;
    await session.append([1], 'greedy');
    expect(decoder.steps).toBe(1);
  });

  test('of two sessions in turn and at once', async () => {
    const decoder = new SlotDecoder();
    const sessions = [await DecoderSession.open(decoder, 64), await DecoderSession.open(decoder, 64)] as const;
    const texts = [text, [...text].reverse()];
    const got: number[][] = [[], []];
    for (let i = 0; i < 60; i += 6) {
      const both = await Promise.all(sessions.map((session, s) => logitsOf(session, texts[s]!.slice(i, i + 6))));
      for (const [s, logits] of both.entries()) got[s]!.push(...logits);
    }
    expect(got).toEqual([await fresh(texts[0]!), await fresh(texts[1]!)]);
  });
});

describe('what is refused, and changes nothing', () => {
  test('more than fits: CONTEXT_FULL', async () => {
    const session = await DecoderSession.open(new SlotDecoder(), 20);
    await session.append(text.slice(0, 18), 'nothing');
    await expect(session.append([1, 2, 3], 'greedy')).rejects.toEqual(refusal('CONTEXT_FULL'));
    expect(session.position).toBe(18);
    expect(await logitsOf(session, [1, 2])).toEqual((await fresh([...text.slice(0, 18), 1, 2])).slice(18));
    await expect(DecoderSession.open(new SlotDecoder(), 65)).rejects.toEqual(refusal('CONTEXT_FULL'));
  });

  test.each([
    { name: 'null', options: null },
    { name: 'a number', options: 3 },
    { name: 'a signal in the place of options', options: new AbortController().signal },
  ])('$name for options: ARGUMENT_INVALID', async ({ options }) => {
    const session = await DecoderSession.open(new SlotDecoder(), 20);
    await expect(Reflect.apply(session.append, session, [[1], 'greedy', options])).rejects.toEqual(
      refusal('ARGUMENT_INVALID'),
    );
    expect(session.position).toBe(0);
  });

  test.each([[[]], [[1000]], [[-1]], [[0.5]]])('tokens %j: ARGUMENT_INVALID', async (tokens) => {
    const session = await DecoderSession.open(new SlotDecoder(), 20);
    await expect(session.append(tokens, 'greedy')).rejects.toEqual(refusal('ARGUMENT_INVALID'));
    expect(session.position).toBe(0);
  });

  test.each([0, -1, 1.5, Number.NaN])('a capacity of %d: ARGUMENT_INVALID', async (capacity) => {
    await expect(DecoderSession.open(new SlotDecoder(), capacity)).rejects.toEqual(refusal('ARGUMENT_INVALID'));
  });

  test.each([-1, 4, 0.5])('rewinding 3 tokens to %d: ARGUMENT_INVALID', async (position) => {
    const session = await DecoderSession.open(new SlotDecoder(), 20);
    await session.append([1, 2, 3], 'nothing');
    expect(() => session.rewind(position)).toThrow(refusal('ARGUMENT_INVALID'));
  });

  test('a second call meanwhile: SESSION_BUSY, and the first ends as if alone', async () => {
    const session = await DecoderSession.open(new SlotDecoder(), 64);
    const first = logitsOf(session, text);
    await expect(session.append([1], 'greedy')).rejects.toEqual(refusal('SESSION_BUSY'));
    expect(() => session.rewind(0)).toThrow(refusal('SESSION_BUSY'));
    expect(await first).toEqual(await fresh(text));
  });
});

describe('ends', () => {
  test('a signal ends it between two steps; position says what was taken, and the rest goes on', async () => {
    const decoder = new SlotDecoder();
    const session = await DecoderSession.open(decoder, 64);
    const abort = new AbortController();
    decoder.pause = async () => {
      if (decoder.steps === 3) abort.abort(new Error('enough'));
    };
    await expect(session.append(text, 'nothing', { signal: abort.signal })).rejects.toThrow('enough');
    expect(session.position).toBe(3 * TOKENS_PER_STEP);
    expect(await logitsOf(session, text.slice(12))).toEqual((await fresh(text)).slice(12));
  });

  test('a signal, or a device that fails, within tokens that are run again: the next call begins there', async () => {
    const decoder = new SlotDecoder();
    const session = await DecoderSession.open(decoder, 64);
    await session.append(text, 'nothing');
    session.rewind(30);
    decoder.steps = 0;
    decoder.pause = async () => {
      if (decoder.steps === 3) throw new Error('lost');
    };
    await expect(session.append([5], 'greedy')).rejects.toThrow('lost');
    expect(session.position).toBe(30);
    expect(await logitsOf(session, [5])).toEqual((await fresh([...text.slice(0, 30), 5])).slice(30));
  });

  test('dispose frees the cache once, and refuses what comes after; a call under way rejects', async () => {
    const decoder = new SlotDecoder();
    const session = await DecoderSession.open(decoder, 64);
    expect(session.sizeBytes).toBe(decoder.cacheSizeBytes(64));
    const running = session.append(text, 'nothing');
    session.dispose();
    session.dispose();
    expect(decoder.openCaches).toBe(1);
    await expect(running).rejects.toEqual(refusal('DISPOSED'));
    expect(decoder.openCaches).toBe(0);
    expect(decoder.steps).toBe(1);
    await expect(session.append([1], 'greedy')).rejects.toEqual(refusal('DISPOSED'));
    expect(() => session.rewind(0)).toThrow(refusal('DISPOSED'));
  });
});

// The decoder's reference against transformers: the same logits within rounding, the same texts; and every operation done
// wrong is seen.

import { readFileSync } from 'node:fs';
import { afterEach, beforeAll, describe, expect, test, vi } from 'vitest';
import { bf16FromNumber, numberFromBf16 } from '../../core/index.js';
import { argMax } from '../../core/model/arg_max.js';
import type { CpuDecoderSource } from '../../core/model/cpu_decoder.js';
import type { DecoderConfig, LayerConfig } from '../../core/model/decoder_config.js';
import { bf } from '../../core/model/elementary.js';
import type { LinearName, VectorName } from '../../core/model/step.js';
import { linearShape } from '../../core/model/weight_shapes.js';
import { type Bf16Model, MODEL, openBf16Model, plainLinear } from './bf16_decoder.js';

type Heads = typeof import('../../core/model/heads.js');
type Attention = typeof import('../../core/model/attention.js');
type RmsNorm = typeof import('../../core/model/rms_norm.js');
type Gelu = typeof import('../../core/model/gelu.js');
type Step = typeof import('../../core/model/step.js');

/** transformers' f32 logits and ours, which round activations to bf16 before every linear. */
const TOLERANCE = 0.1;
/** Positions that a fault has to show in. The recorded text is shorter than the window: its end is not seen here. */
const FAULT_POSITIONS = 40;

const texts: readonly { readonly prompt: string; readonly tokens: number[]; readonly prompt_tokens: number }[] =
  JSON.parse(readFileSync(`${MODEL}/reference.json`, 'utf8')).greedy;
const recorded = new Float32Array(new Uint8Array(readFileSync(`${MODEL}/logits_0.bin`)).buffer);

let model: Bf16Model;
beforeAll(async () => {
  model = await openBf16Model();
});

const MODULES = ['heads', 'attention', 'rms_norm', 'gelu', 'step'] as const;
afterEach(() => {
  for (const name of MODULES) vi.doUnmock(`../../core/model/${name}.js`);
  vi.resetModules();
});

/** The decoder of the modules as they are mocked now. */
async function load(source: CpuDecoderSource) {
  const { CpuDecoder } = await import('../../core/model/cpu_decoder.js');
  return CpuDecoder.loadFrom(source);
}

/**
 * How far logits of the first text are from the recorded ones, and at how many positions another token is the largest.
 * Ends early at a position where they are too far.
 */
async function compare(source: CpuDecoderSource, positions: number) {
  const { vocabularySize } = source.config;
  const cache = await (await load(source)).openCache(positions);
  let [worst, otherTokens] = [0, 0];
  for (let position = 0; position < positions && worst < TOLERANCE; position++) {
    const result = await cache.step(texts[0]!.tokens.slice(position, position + 1), position, 'logits');
    if (result.wants !== 'logits') throw new Error('something else was asked for');
    const expected = recorded.subarray(position * vocabularySize, (position + 1) * vocabularySize);
    for (const [i, logit] of expected.entries()) worst = Math.max(worst, Math.abs(result.logits[i]! - logit));
    if (argMax(result.logits) !== argMax(expected)) otherTokens++;
  }
  return { worst, otherTokens };
}

test('every logit of the recorded text within 0.1, the largest at every position the same', async () => {
  const positions = recorded.length / model.source.config.vocabularySize;
  expect(positions).toBe(texts[0]!.tokens.length);
  const { worst, otherTokens } = await compare(model.source, positions);
  expect(worst).toBeLessThan(TOLERANCE);
  expect(otherTokens).toBe(0);
});

test.each(texts)('goes on as recorded: $prompt', async ({ tokens, prompt_tokens }) => {
  const { DecoderSession } = await import('../../core/model/session.js');
  const session = await DecoderSession.open(await load(model.source), tokens.length);
  let added = tokens.slice(0, prompt_tokens);
  while (session.position + added.length < tokens.length) {
    const result = await session.append(added, 'greedy');
    if (result.wants !== 'greedy') throw new Error('something else was asked for');
    added = [result.token];
  }
  expect([...session.tokens, ...added]).toEqual(tokens);
});

describe('a fault is seen', () => {
  const expectSeen = async (source: CpuDecoderSource) => {
    const { worst } = await compare(source, FAULT_POSITIONS);
    expect(worst < TOLERANCE, `worst ${worst}`).toBe(false);
  };

  test('and there is none without one', async () => {
    expect((await compare(model.source, FAULT_POSITIONS)).worst).toBeLessThan(TOLERANCE);
  });

  const ofLayers = (attention: LayerConfig['attention'], change: Partial<LayerConfig>) => (config: DecoderConfig) => ({
    layers: config.layers.map((layer) => (layer.attention === attention ? { ...layer, ...change } : layer)),
  });

  test.each<[string, (config: DecoderConfig) => Partial<DecoderConfig>]>([
    ['no soft cap', () => ({ softCap: null })],
    ['another soft cap', () => ({ softCap: 20 })],
    ['another epsilon', () => ({ rmsNormEpsilon: 1e-2 })],
    ['theta of sliding layers that of full ones', ofLayers('sliding', { rotaryTheta: 1e6 })],
    ['theta of full layers that of sliding ones', ofLayers('full', { rotaryTheta: 1e4 })],
    ['all frequencies of full layers real', ofLayers('full', { rotaryFrequencies: 64 })],
    ['half of the frequencies of sliding layers real', ofLayers('sliding', { rotaryFrequencies: 16 })],
    ['a window within the text', ofLayers('sliding', { window: 32 })],
    ['a window on full layers', ofLayers('full', { window: 16 })],
  ])('in the sizes: %s', async (_, change) => {
    await expectSeen({ ...model.source, config: { ...model.source.config, ...change(model.source.config) } });
  });

  const norms: VectorName[] = ['inputNorm', 'postAttentionNorm', 'preMlpNorm', 'postMlpNorm', 'norm', 'qNorm', 'kNorm'];
  const ONE = bf16FromNumber(1);
  const swapped: Partial<Record<LinearName, LinearName>> = { gate: 'up', up: 'gate' };

  /** Rows of heads 1 and 2, which read different keys, change places. */
  const reordered = (bits: Uint16Array, rows: number, headRows: number) => {
    const row = bits.length / rows;
    const order = [0, 2, 1, 3].flatMap((head) => Array.from({ length: headRows }, (_, i) => head * headRows + i));
    return Uint16Array.from(order.flatMap((from) => [...bits.subarray(from * row, (from + 1) * row)]));
  };

  test.each<[string, (source: CpuDecoderSource) => Partial<CpuDecoderSource>]>([
    ...norms.map((left): [string, (source: CpuDecoderSource) => Partial<CpuDecoderSource>] => [
      `${left} without its weight`,
      (source) => ({
        vector: async (name, layer) => {
          const weight = await source.vector(name, layer);
          return name === left ? weight.map(() => ONE) : weight;
        },
      }),
    ]),
    [
      'norms with one more than their weights',
      (source) => ({
        vector: async (name, layer) =>
          (await source.vector(name, layer)).map((bits) => bf16FromNumber(numberFromBf16(bits) + 1)),
      }),
    ],
    // This model's own scalars are all 1.
    ['another layer scalar', () => ({ layerScalar: async () => 0.9 })],
    [
      'embeddings without their factor',
      (source) => ({
        embedding: async (first, count) =>
          (await source.embedding(first, count)).map((bits) => bf16FromNumber(numberFromBf16(bits) / 16)),
      }),
    ],
    ['gate and up confused', (source) => ({ linear: (name, layer) => source.linear(swapped[name] ?? name, layer) })],
    [
      'values of full layers from the keys of another layer',
      (source) => ({
        config: { ...source.config, layers: source.config.layers.map((l) => ({ ...l, hasValueProjection: true })) },
        linear: async (name, layer) => {
          if (name !== 'v' || layer !== 5) return source.linear(name, layer);
          return plainLinear(model.weight('k', 4), linearShape(source.config, 'k', 5).n);
        },
      }),
    ],
    [
      'query heads in another order',
      (source) => ({
        linear: async (name, layer) => {
          if (name !== 'q' || layer === null || layer === 5) return source.linear(name, layer);
          const { n } = linearShape(source.config, 'q', layer);
          return plainLinear(reordered(model.weight('q', layer), n, n / 4), n);
        },
      }),
    ],
  ])('in the weights: %s', async (_, change) => {
    await expectSeen({ ...model.source, ...change(model.source) });
  });

  /** Replaces functions of one module of the reference by ones that do something else, made of the right ones. */
  async function plant<T extends object>(name: (typeof MODULES)[number], wrong: (right: T) => Partial<T>) {
    const path = `../../core/model/${name}.js`;
    const right = await vi.importActual<T>(path);
    vi.resetModules();
    vi.doMock(path, () => ({ ...right, ...wrong(right) }));
  }

  test.each<[string, () => Promise<void>]>([
    [
      'values without their norm',
      () => plant<Heads>('heads', () => ({ normValues: (heads, _size, _epsilon, out) => out.set(heads.map(bf)) })),
    ],
    [
      'pairs of the rotation side by side',
      () =>
        plant<Heads>('heads', ({ rotateHeads }) => ({
          rotateHeads: (heads, weight, epsilon, table, out) => {
            const still = { cos: table.cos.map(() => 1), sin: table.sin.map(() => 0) };
            rotateHeads(heads, weight, epsilon, still, out);
            for (let i = 0; i < out.length; i += 2) {
              const at = (i % weight.length) / 2;
              const [a, b, c, s] = [out[i]!, out[i + 1]!, table.cos[at]!, table.sin[at]!];
              out[i] = bf(a * c - b * s);
              out[i + 1] = bf(b * c + a * s);
            }
          },
        })),
    ],
    [
      'the rotation turned the other way',
      () =>
        plant<Heads>('heads', ({ rotateHeads }) => ({
          rotateHeads: (heads, weight, epsilon, { cos, sin }, out) =>
            rotateHeads(heads, weight, epsilon, { cos, sin: sin.map((s) => -s) }, out),
        })),
    ],
    [
      'scores divided by the root of the head size',
      () =>
        plant<Attention>('attention', ({ attend }) => ({
          attend: (query, ...rest) =>
            attend(
              query.map((q) => q / Math.sqrt(query.length)),
              ...rest,
            ),
        })),
    ],
    [
      'a token that does not see itself',
      () =>
        plant<Attention>('attention', ({ attend }) => ({
          attend: (query, keys, values, first, last) => attend(query, keys, values, first, Math.max(first, last - 1)),
        })),
    ],
    [
      'the first position not seen',
      () =>
        plant<Attention>('attention', ({ attend }) => ({
          attend: (query, keys, values, first, last) => attend(query, keys, values, Math.min(first + 1, last), last),
        })),
    ],
    [
      'norms about the mean',
      () =>
        plant<RmsNorm>('rms_norm', ({ rmsNorm }) => ({
          rmsNorm: (x, weight, epsilon, y) => {
            const mean = x.reduce((sum, value) => sum + value, 0) / x.length;
            rmsNorm(
              x.map((value) => value - mean),
              weight,
              epsilon,
              y,
            );
          },
        })),
    ],
    ['SiLU for GELU', () => plant<Gelu>('gelu', () => ({ gelu: (g) => g / (1 + Math.exp(-g)) }))],
    [
      'the logits capped twice',
      () => plant<Gelu>('gelu', ({ softCap }) => ({ softCap: (l, cap) => softCap(softCap(l, cap), cap) })),
    ],
    [
      'the norms behind attention and MLP confused',
      () =>
        plant<Step>('step', ({ stepOperations }) => ({
          stepOperations: (config, wantsLogits) =>
            stepOperations(config, wantsLogits).map((operation) => {
              if (operation.kind !== 'norm' || operation.branch === null) return operation;
              const norm = operation.branch.norm === 'postMlpNorm' ? 'postAttentionNorm' : 'postMlpNorm';
              return { ...operation, branch: { ...operation.branch, norm } };
            }),
        })),
    ],
  ])('in the code: %s', async (_, planted) => {
    await planted();
    await expectSeen(model.source);
  });
});

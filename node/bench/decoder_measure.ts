// Whole steps of a decoder on one backend: the cache filled by running tokens, then each context timed by every clock.

import type { WeightForm } from '../../core/forms.js';
import { type Backend, type BackendName, type DeviceInfo, outputDigest, Random } from '../../core/index.js';
import type { DeviceCache, DeviceDecoder } from '../../core/model/decoder_backend.js';
import { type DecoderConfig, TOKENS_PER_STEP } from '../../core/model/decoder_config.js';
import type { Operation } from '../../core/model/step.js';
import { syntheticDecoder } from './decoder_31b.js';
import { type Spread, spreadOf } from './spread.js';

/** What a step's time goes to: kinds of operations, timed without the others. */
export const PARTS = {
  linears: ['linear'],
  attention: ['heads', 'attention'],
  norms: ['norm'],
  rest: ['embed', 'gelu', 'softCap'],
} as const satisfies Record<string, readonly Operation['kind'][]>;
export type Part = keyof typeof PARTS;
const EVERY_KIND = Object.values(PARTS).flat();

/** A step of one token, at the end of a context of so many positions. */
export interface ContextTiming {
  readonly context: number;
  /** Of all logits there, to be compared between backends. */
  readonly sha256: string;
  /** By the device's clock; null where the backend cannot tell. */
  readonly step: Spread | null;
  /** Microseconds of each part alone, by the device's clock. They need not sum up to a step, within which launches overlap. */
  readonly partsUs: Readonly<Record<Part, number>> | null;
  /** By the host's clock, greedy steps that each take the token of the one before: a backend may begin one within another. */
  readonly wall: Spread;
  readonly tokensPerSecond: number;
  /** The process's CPU time per step, and what of the step's wall time it is. */
  readonly hostCpuUs: number;
  readonly hostCpuPercent: number;
}

export interface DecoderReport {
  readonly backend: BackendName;
  readonly device: DeviceInfo;
  readonly layers: number;
  readonly weightBytes: number;
  readonly cacheBytes: number;
  readonly loadMs: number;
  readonly contexts: readonly ContextTiming[];
}

export interface DecoderMeasureOptions {
  readonly config: DecoderConfig;
  /** Of the weights, where it is not the default one. */
  readonly form?: WeightForm;
  /** Ascending. */
  readonly contexts: readonly number[];
  readonly replays: number;
  readonly onProgress: (what: string) => void;
}

const WARM_UPS = 3;

export async function measureDecoder(backend: Backend, options: DecoderMeasureOptions): Promise<DecoderReport> {
  const { config, form, contexts, replays } = options;
  const onProgress = (what: string) => options.onProgress(`${backend.name}: ${what}`);
  const start = performance.now();
  const decoder = await backend.loadDecoder(syntheticDecoder(config, form), {
    onProgress: (done, total) => onProgress(`loading, ${((100 * done) / total).toFixed(0)} %`),
  });
  try {
    const loadMs = performance.now() - start;
    const capacity = contexts.at(-1)! + WARM_UPS + replays + 1;
    const cache = await decoder.openCache(capacity);
    try {
      const timings: ContextTiming[] = [];
      let filled = 0;
      for (const context of contexts) {
        await fill(cache, filled, context, config.vocabularySize, onProgress);
        filled = context;
        onProgress(`timing a context of ${context}`);
        timings.push(await timeContext(backend, cache, context, options));
      }
      return reportOf(backend, decoder, capacity, loadMs, timings);
    } finally {
      cache.dispose();
    }
  } finally {
    decoder.dispose();
  }
}

function reportOf(
  { name, device }: Backend,
  decoder: DeviceDecoder,
  capacity: number,
  loadMs: number,
  contexts: readonly ContextTiming[],
): DecoderReport {
  const layers = decoder.config.layers.length;
  const cacheBytes = decoder.cacheSizeBytes(capacity);
  return { backend: name, device, layers, weightBytes: decoder.sizeBytes, cacheBytes, loadMs, contexts };
}

/** Runs tokens at positions first..end - 1. */
async function fill(
  cache: DeviceCache,
  first: number,
  end: number,
  vocabulary: number,
  onProgress: (what: string) => void,
): Promise<void> {
  for (let position = first; position < end; position += TOKENS_PER_STEP) {
    const count = Math.min(TOKENS_PER_STEP, end - position);
    if (position % 256 < TOKENS_PER_STEP) onProgress(`filling the cache, ${position} of ${end}`);
    const tokens = Array.from({ length: count }, (_, i) => tokenAt(position + i, vocabulary));
    await cache.step(tokens, position, 'nothing');
  }
}

const tokenAt = (position: number, vocabulary: number) => Random.named(`bench token ${position}`).below(vocabulary);

async function timeContext(
  backend: Backend,
  cache: DeviceCache,
  context: number,
  { config, replays }: DecoderMeasureOptions,
): Promise<ContextTiming> {
  const last = context - 1;
  const lastToken = tokenAt(last, config.vocabularySize);
  const result = await cache.step([lastToken], last, 'logits');
  if (!('logits' in result)) throw new Error('a step that was asked for logits gave none');
  const sha256 = outputDigest(result.logits, new Uint16Array(0));

  let token = lastToken;
  const walls: number[] = [];
  let cpuUs = 0;
  const steps = WARM_UPS + replays;
  for (let i = 0; i < steps; i++) {
    const cpu = process.cpuUsage();
    const start = performance.now();
    const step = await cache.step([token], context + i, 'greedy', i + 1 < steps);
    const elapsedUs = (performance.now() - start) * 1000;
    const { user, system } = process.cpuUsage(cpu);
    if (step.wants === 'greedy') token = step.token;
    if (i < WARM_UPS) continue;
    walls.push(elapsedUs);
    cpuUs += user + system;
  }
  const wall = spreadOf(walls);
  const totalUs = walls.reduce((sum, us) => sum + us, 0);

  const { timeStep } = backend.benchmark;
  const timed = async (kinds: readonly Operation['kind'][]) => {
    if (!timeStep) return null;
    await timeStep(cache, last, kinds, WARM_UPS);
    return spreadOf(await timeStep(cache, last, kinds, replays));
  };
  const step = await timed(EVERY_KIND);
  const parts: [string, number][] = [];
  for (const [part, kinds] of Object.entries(PARTS)) {
    const spread = await timed(kinds);
    if (spread) parts.push([part, spread.medianUs]);
  }
  // Timing a part alone leaves anything at its position.
  await cache.step([lastToken], last, 'nothing');
  const of = (part: Part) => parts.find(([name]) => name === part)?.[1] ?? 0;
  return {
    context,
    sha256,
    step,
    partsUs: step && {
      linears: of('linears'),
      attention: of('attention'),
      norms: of('norms'),
      rest: of('rest'),
    },
    wall,
    tokensPerSecond: (1e6 * walls.length) / totalUs,
    hostCpuUs: cpuUs / walls.length,
    hostCpuPercent: (100 * cpuUs) / totalUs,
  };
}

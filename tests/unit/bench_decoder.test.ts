// The benchmark of whole steps: the shape of what it runs, what it measures, and that wrong bits are not timed.

import { expect, test } from 'vitest';
import { CpuBackend } from '../../core/index.js';
import { linearShape, linearsOf } from '../../core/model/weight_shapes.js';
import { decodeLinears } from '../../node/bench/decode_step.js';
import { decoder31b, syntheticDecoder } from '../../node/bench/decoder_31b.js';
import { measureDecoder } from '../../node/bench/decoder_measure.js';
import { differingContexts, formatDecoder } from '../../node/bench/decoder_report.js';

const small = () => ({ ...decoder31b(1, 8), vocabularySize: 96, intermediateSize: 64 });

test('its linears are those of the decode step', () => {
  const config = decoder31b();
  const shapes = linearsOf(config).map(({ name, layer }) => linearShape(config, name, layer));
  expect(shapes).toEqual(decodeLinears().map(({ n, k }) => ({ n, k })));
});

test('rows of the embedding are the same however many are asked for', async () => {
  const source = syntheticDecoder(decoder31b(1));
  const rows = await source.embedding(193, 4);
  expect(rows.subarray(5376 * 3)).toEqual(await source.embedding(196, 1));
  expect(new Set(rows).size).toBeGreaterThan(100);
});

test('a report names every context, and a wrong bit keeps the times back', async () => {
  const backend = new CpuBackend();
  const options = { config: small(), contexts: [2, 5], replays: 2, onProgress: () => {} };
  const report = await measureDecoder(backend, options);
  expect(report.contexts.map(({ context, wall }) => [context, wall.samples])).toEqual([
    [2, 2],
    [5, 2],
  ]);
  expect(report.contexts.every(({ tokensPerSecond, step }) => tokensPerSecond > 0 && step === null)).toBe(true);
  const again = await measureDecoder(backend, options);
  expect(differingContexts(again, [report])).toEqual([]);
  expect(formatDecoder(again, [report])).toContain('every logit at each context has the bits of cpu');

  const [first, second] = report.contexts;
  const wrong = { ...report, contexts: [first!, { ...second!, sha256: 'another' }] };
  expect(differingContexts(wrong, [report])).toEqual([{ context: 5, from: 'cpu' }]);
  expect(formatDecoder(wrong, [report])).toContain('NOT TIMED, the logits differ at a context of 5 from cpu');
  expect(formatDecoder(wrong, [report])).not.toContain('tokens/s');
});

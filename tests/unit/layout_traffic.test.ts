// The counts behind the picture of the two layouts: cache lines and bytes of one warp's scales.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  CACHE_LINE_BYTES,
  rowScaleTraffic,
  SCALE_BYTES,
  WARP_LANES,
  warpScaleRead,
  warpSteps,
} from '../../core/layout_traffic.js';
import { weightShape } from '../../core/limits.js';

const LAYOUTS = ['native', 'coalesced'] as const;
const GEMMA_GATE = weightShape(21_504, 5376, 32);

describe('one warp on a row of Gemma 4 31B, groups of 32', () => {
  test('fetches 32 cache lines for its scales in [nGroups, N]', () => {
    const read = warpScaleRead(GEMMA_GATE, 'native', 0, 0);
    expect(read.lines).toHaveLength(32);
    expect(read.fetchedBytes).toBe(4096);
    expect(read.neededBytes).toBe(64);
    expect(read.reads[1]!.byteOffset - read.reads[0]!.byteOffset).toBe(21_504 * SCALE_BYTES);
  });

  test('fetches 1 cache line in [N, nGroups]', () => {
    const read = warpScaleRead(GEMMA_GATE, 'coalesced', 0, 0);
    expect(read.lines).toEqual([0]);
    expect(read.fetchedBytes).toBe(128);
    expect(read.neededBytes).toBe(64);
    expect(read.reads[1]!.byteOffset - read.reads[0]!.byteOffset).toBe(SCALE_BYTES);
  });

  test('straddles two lines where a row starts late in one', () => {
    // Row 1 starts 336 bytes in, 80 bytes into the third line, and reads 64 bytes: past its end.
    expect(warpScaleRead(GEMMA_GATE, 'coalesced', 1, 0).lines).toEqual([2, 3]);
  });

  test('takes six steps along the row, the last with eight lanes', () => {
    expect(warpSteps(GEMMA_GATE)).toBe(6);
    expect(warpScaleRead(GEMMA_GATE, 'native', 0, 5).reads.map(({ lane }) => lane)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    expect(rowScaleTraffic(GEMMA_GATE, 'native', 0)).toEqual({ lines: 168, neededBytes: 336, fetchedBytes: 21_504 });
    expect(rowScaleTraffic(GEMMA_GATE, 'coalesced', 0)).toEqual({ lines: 6, neededBytes: 336, fetchedBytes: 768 });
  });
});

test('lanes share a scale where a group is longer than a block, and read two where it is shorter', () => {
  const long = warpScaleRead(weightShape(4096, 4096, 128), 'native', 7, 0);
  expect(long.reads.map(({ group }) => group)).toEqual(Array.from({ length: WARP_LANES }, (_, i) => i >> 2));
  expect(long.lines).toHaveLength(8);
  const short = warpScaleRead(weightShape(4096, 4096, 16), 'native', 7, 0);
  expect(short.reads).toHaveLength(64);
  expect(short.lines).toHaveLength(64);
  expect(warpScaleRead(weightShape(4096, 4096, 16), 'coalesced', 7, 0).lines).toHaveLength(1);
});

test('a single column of groups is the same in both layouts', () => {
  const shape = weightShape(64, 1024, 1024);
  expect(warpScaleRead(shape, 'native', 9, 0)).toEqual(warpScaleRead(shape, 'coalesced', 9, 0));
});

test('every scale of a matrix is read exactly where the layout keeps it, and lines are the lines of the reads', () => {
  const shapes = fc
    .record({
      n: fc.integer({ min: 1, max: 40 }),
      blocks: fc.integer({ min: 1, max: 70 }),
      log2: fc.integer({ min: 4, max: 8 }),
    })
    .filter(({ blocks, log2 }) => (blocks * 32) % 2 ** log2 === 0)
    .map(({ n, blocks, log2 }) => weightShape(n, blocks * 32, 2 ** log2));
  fc.assert(
    fc.property(shapes, fc.constantFrom(...LAYOUTS), (shape, layout) => {
      const seen = new Set<number>();
      for (let row = 0; row < shape.n; row++) {
        for (let step = 0; step < warpSteps(shape); step++) {
          const { reads, lines, fetchedBytes } = warpScaleRead(shape, layout, row, step);
          for (const { byteOffset } of reads) seen.add(byteOffset / SCALE_BYTES);
          expect(lines).toEqual([...new Set(lines)]);
          expect(new Set(lines)).toEqual(new Set(reads.map((read) => Math.floor(read.byteOffset / CACHE_LINE_BYTES))));
          expect(fetchedBytes).toBe(lines.length * CACHE_LINE_BYTES);
        }
      }
      expect([...seen].sort((a, b) => a - b)).toEqual(Array.from({ length: shape.n * shape.nGroups }, (_, i) => i));
    }),
  );
});

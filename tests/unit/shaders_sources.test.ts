// The kernels' sources: constants that the host repeats, grids that cover, workgroup memory that every device has.

import { describe, expect, test } from 'vitest';
import { BLOCK_SIZE } from '../../core/index.js';
import {
  BLOCKS_PER_WORKGROUP,
  MAX_ROWS,
  MAX_WORKGROUPS,
  spread,
  WEIGHT_ROWS_PER_WORKGROUP,
} from '../../shaders/dispatches.js';
import { MODULE_SOURCES } from '../../shaders/pipelines.js';
import { BYTES_PER_WORKGROUP } from '../../shaders/read_roof.js';

const { quantize_activations: quantize, int4_plain_mm_packed: matmul, read_bandwidth: read } = MODULE_SOURCES;

/** The integer that a source gives a constant. */
function constant(source: string, name: string): number {
  const value = new RegExp(`^const ${name} = (0x[0-9a-f]+|[0-9]+)u?;`, 'm').exec(source)?.[1];
  if (value === undefined) throw new Error(`no constant ${name}`);
  return Number(value);
}

describe('constants', () => {
  test('of the twins agree with each other and with the reference', () => {
    for (const source of [quantize, matmul]) {
      expect(constant(source, 'BLOCK_SIZE')).toBe(BLOCK_SIZE);
      expect(constant(source, 'NAN_ROW')).toBe(0x7fffffff);
    }
    expect(constant(matmul, 'NAN_BITS')).toBe(0x7fc00000);
    expect(constant(matmul, 'FRACTION_BITS')).toBe(32);
  });

  test('of the grids are those that the host dispatches', () => {
    const blocks = (constant(quantize, 'THREADS') * constant(quantize, 'LANE_SIZE')) / BLOCK_SIZE;
    expect(BLOCKS_PER_WORKGROUP).toBe(blocks);
    expect(MAX_ROWS).toBe(constant(matmul, 'MAX_ROWS'));
    expect(WEIGHT_ROWS_PER_WORKGROUP).toBe(constant(matmul, 'THREADS') / constant(matmul, 'LANES_PER_ROW'));
    expect(BYTES_PER_WORKGROUP).toBe(constant(read, 'THREADS') * constant(read, 'LOADS') * 16);
  });

  test('of 1 / 127 are its f32, exactly', () => {
    expect(Number(/^const INV_127 = ([0-9.]+);/m.exec(quantize)?.[1])).toBe(Math.fround(1 / 127));
  });
});

test('a workgroup has no more threads than the least device takes', () => {
  for (const source of [quantize, matmul, read]) expect(constant(source, 'THREADS')).toBeLessThanOrEqual(256);
});

describe('a grid', () => {
  test.for([1, 2, MAX_WORKGROUPS - 1, MAX_WORKGROUPS])('of %i workgroups has one dimension', (workgroups) => {
    expect(spread(workgroups)).toEqual([workgroups, 1]);
  });

  test.for([MAX_WORKGROUPS + 1, 2 * MAX_WORKGROUPS, 2 * MAX_WORKGROUPS + 1, 2 ** 21, 2 ** 24])(
    'of %i workgroups covers them, with little to spare',
    (workgroups) => {
      const [x, y] = spread(workgroups);
      expect(Math.max(x, y)).toBeLessThanOrEqual(MAX_WORKGROUPS);
      expect(x * y).toBeGreaterThanOrEqual(workgroups);
      expect(x * y - workgroups).toBeLessThan(y);
    },
  );
});

// The kernels' sources: constants that the host repeats, grids that cover, workgroup memory that every device has.

import { describe, expect, test } from 'vitest';
import { BLOCK_SIZE } from '../../core/index.js';
import { BLOCKS_PER_WORKGROUP, MAX_ROWS, MAX_WORKGROUPS, spread } from '../../shaders/dispatches.js';
import {
  LANES_PER_ROW,
  LINEAR_STORAGE_BUFFERS,
  MAX_LINEARS,
  matmulSource,
  QUANTIZE_SOURCE as quantize,
  READ_SOURCE as read,
  SHARED_STORAGE_BUFFERS,
  TILES,
} from '../../shaders/kernel_sources.js';
import { BYTES_PER_WORKGROUP } from '../../shaders/read_roof.js';

const matmul = matmulSource({ reduction: 'workgroup', dot: 'packed' }, 1);

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
      expect(constant(source, 'NAN_BLOCK')).toBe(0x7fffffff);
      expect(constant(source, 'WORD_BIAS')).toBe(0x40000000);
    }
    expect(constant(matmul, 'NAN_BITS')).toBe(0x7fc00000);
    expect(constant(matmul, 'FRACTION_BITS')).toBe(32);
  });

  test('of the grids are those that the host dispatches', () => {
    const blocks = (constant(quantize, 'THREADS') * constant(quantize, 'LANE_SIZE')) / BLOCK_SIZE;
    expect(BLOCKS_PER_WORKGROUP).toBe(blocks);
    expect(MAX_ROWS).toBe(constant(matmul, 'MAX_ROWS'));
    expect(TILES.quantizing.teams * TILES.quantizing.weightRows).toBe(BLOCK_SIZE);
    for (const { weightRows } of Object.values(TILES)) expect([2, 4]).toContain(weightRows);
    expect(BYTES_PER_WORKGROUP).toBe(constant(read, 'THREADS') * constant(read, 'LOADS') * 16);
  });

  test('of 1 / 127 are its f32, exactly, and the word of a scale is its bits', () => {
    const inverse = Number(/^const INV_127 = ([0-9.]+);/m.exec(quantize)?.[1]);
    expect(inverse).toBe(Math.fround(1 / 127));
    const bits = (value: number) => new Uint32Array(Float32Array.of(value).buffer)[0]!;
    expect(constant(matmul, 'UNIT_SCALE_WORD')).toBe(bits(inverse));
    // So a word tells its exponent: P(255) < 2 P(128).
    expect(bits(Math.fround((255 / 128) * inverse))).toBeLessThan(bits(inverse) + (1 << 23));
  });
});

test('a workgroup has no more threads than the least device takes', () => {
  for (const source of [quantize, read]) expect(constant(source, 'THREADS')).toBeLessThanOrEqual(256);
  for (const { teams } of Object.values(TILES)) {
    expect(constant(matmul, 'LANES_PER_ROW') * teams).toBeLessThanOrEqual(256);
    expect(constant(matmul, 'LANES_PER_ROW')).toBe(LANES_PER_ROW);
  }
});

describe('linears side by side', () => {
  test.for([1, 2, MAX_LINEARS])('%i of them: each with bindings of its own, without a gap', (linears) => {
    const source = matmulSource({ reduction: 'subgroup', dot: 'packed' }, linears);
    const shared = [...source.matchAll(/@binding\((\d+)\) var<storage/g)].map((match) => Number(match[1]));
    const own = [...source.matchAll(/@binding\(4u \* (\d)(?: ([-+]) (\d)u)?\) var/g)].map(
      ([, linear, sign, offset = '0']) => 4 * Number(linear) + (sign === '-' ? -1 : 1) * Number(offset),
    );
    expect([...shared, ...own]).toEqual(Array.from({ length: 3 + 4 * linears }, (_, i) => i));
    expect(source).not.toMatch(/LINEAR|NEXT/);
    const storage = [...source.matchAll(/var<storage, read(?:_write)?>/g)].length;
    expect(storage).toBe(SHARED_STORAGE_BUFFERS + linears * LINEAR_STORAGE_BUFFERS);
  });

  test('one fits the least device', () => {
    expect(SHARED_STORAGE_BUFFERS + LINEAR_STORAGE_BUFFERS).toBeLessThanOrEqual(8);
  });

  test('directives stand first, each once', () => {
    const source = matmulSource({ reduction: 'subgroup', dot: 'packed' }, 2);
    const lines = source.split('\n');
    const directives = ['enable subgroups;', 'requires packed_4x8_integer_dot_product;', 'requires subgroup_id;'];
    expect(lines.slice(0, 3).sort()).toEqual(directives);
    expect(lines.filter((line) => /^(?:enable|requires) /.test(line))).toHaveLength(3);
  });
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

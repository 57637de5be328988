// The comparer bites: planted faults that a tolerance, or a comparison of values, would let through.

import { describe, expect, test } from 'vitest';
import { defaultParts } from '../../core/coalesced_parts.js';
import {
  CoalescedInt4Tensor,
  drawActivations,
  drawWeight,
  firstDifference,
  formatDifference,
  int4PlainMM,
} from '../../core/index.js';

const shape = { name: 'planted', n: 12, k: 256, groupSize: 32, m: 3 };
const weight = CoalescedInt4Tensor.fromInt4Tensor(drawWeight({ ...shape, weights: 'plain' }));
const x = drawActivations({ ...shape, activations: 'plain' });
const expected = int4PlainMM(x, weight);

function changed(change: (qdata: Uint8Array, scale: Uint16Array, zeroPoint: Uint16Array) => void): CoalescedInt4Tensor {
  const parts = defaultParts(weight, 'this test');
  const [qdata, scale, zeroPoint] = [parts.qdata.data.slice(), parts.scale.data.slice(), parts.zeroPoint.data.slice()];
  change(qdata, scale, zeroPoint);
  return new CoalescedInt4Tensor({
    ...parts,
    qdata: { ...parts.qdata, data: qdata },
    scale: { ...parts.scale, data: scale },
    zeroPoint: { ...parts.zeroPoint, data: zeroPoint },
  });
}

test('equal outputs have no difference', () => {
  expect(firstDifference(expected, int4PlainMM(x, weight), shape.n)).toBeNull();
});

describe('planted faults are caught', () => {
  const faults: Record<string, () => Float32Array> = {
    'nibbles swapped in one byte': () =>
      int4PlainMM(
        x,
        changed((qdata) => {
          qdata[70] = ((qdata[70]! & 15) << 4) | (qdata[70]! >> 4) || 0x21;
        }),
      ),
    'a scale taken from the next group': () =>
      int4PlainMM(
        x,
        changed((_, scale) => scale.copyWithin(0, 1)),
      ),
    'scale and zero point read as [nGroups, N]': () => {
      const native = drawWeight({ ...shape, weights: 'plain' });
      return int4PlainMM(
        x,
        changed((_, scale, zeroPoint) => {
          scale.set(native.scale);
          zeroPoint.set(native.zeroPoint);
        }),
      );
    },
    'the last bit of one scale': () =>
      int4PlainMM(
        x,
        changed((_, scale) => {
          scale[20]! ^= 1;
        }),
      ),
    'a stale row': () => {
      const y = expected.slice();
      y.copyWithin(shape.n, 0, shape.n);
      return y;
    },
    'one bit of one element': () => {
      const y = expected.slice();
      new Uint32Array(y.buffer)[17]! ^= 1;
      return y;
    },
    'NaN in the place of a number': () => expected.slice().fill(Number.NaN, 5, 6),
    'an output that is too short': () => expected.slice(0, -1),
    'an output that is too long': () => Float32Array.of(...expected, 0),
    'plain f32 accumulation': () => {
      // the same products, summed block by block in f32: what most kernels do
      const y = new Float32Array(expected.length);
      for (let k = 0; k < shape.k; k += 32) {
        const parts = changed((_, scale) => {
          for (let i = 0; i < scale.length; i++) if (i % 8 !== k / 32) scale[i] = 0;
        });
        int4PlainMM(x, parts).forEach((value, i) => {
          y[i] = y[i]! + value;
        });
      }
      return y;
    },
  };
  test.each(Object.entries(faults))('%s', (_, faulty) => {
    expect(firstDifference(expected, faulty(), shape.n)).not.toBeNull();
  });
});

test('NaN equals NaN only in bits, and -0 is not +0', () => {
  const nan = new Float32Array(Uint32Array.of(0x7fc00000).buffer);
  const otherNan = new Float32Array(Uint32Array.of(0x7fc00001).buffer);
  expect(firstDifference(nan, nan.slice(), 1)).toBeNull();
  expect(firstDifference(nan, otherNan, 1)).not.toBeNull();
  expect(firstDifference(Float32Array.of(0), Float32Array.of(-0), 1)).toMatchObject({
    expected: '0x00000000',
    actual: '0x80000000',
  });
});

test('the first difference is named by n, m and both bit patterns', () => {
  const y = expected.slice();
  const bits = new Uint32Array(y.buffer);
  bits[15]! ^= 4;
  bits[30]! ^= 4;
  const difference = firstDifference(expected, y, shape.n);
  expect(difference).toMatchObject({ m: 1, n: 3, count: 2 });
  expect(formatDifference(difference!)).toMatch(
    /^y\[m=1, n=3\]: expected 0x[0-9a-f]{8}, got 0x[0-9a-f]{8} \(2 elements differ\)$/,
  );
});

test('bf16 outputs are compared as bits too, and never with f32', () => {
  const a = Uint16Array.of(0x3f80, 0x7fc0);
  expect(firstDifference(a, a.slice(), 2)).toBeNull();
  expect(firstDifference(a, Uint16Array.of(0x3f80, 0x7fc1), 2)).toMatchObject({ n: 1, expected: '0x7fc0' });
  expect(firstDifference(Float32Array.of(0), Uint16Array.of(0), 1)).not.toBeNull();
});

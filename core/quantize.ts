// Min/max quantization of plain weights to 4 bits, one scale and zero point per group of consecutive k.

import { bf16FromNumber, numberFromBf16 } from './bf16.js';
import { SamebitsError } from './errors.js';
import { roundTiesToEven } from './exact.js';
import { Int4Tensor } from './int4_tensor.js';
import { weightShape } from './limits.js';

export interface QuantizeOptions {
  readonly n: number;
  readonly k: number;
  /** 16, or a power of two >= 32, that divides k. */
  readonly groupSize: number;
  /** true: zeroPoint 8 everywhere and q = signed + 8. false (default): the zero point follows each group's range. */
  readonly symmetric?: boolean;
}

const MAX_CODE = 15;
const SYMMETRIC_ZERO_POINT = 8;

/**
 * Quantizes a weight [n, k], row-major: bf16 bits in a Uint16Array, or f32.
 *
 * Asymmetric: the group's range, widened to include 0, is cut into 15 steps; the zero point is an integer 0..15, so that
 * 0 stays exactly 0. Symmetric: 7.5 steps to the largest magnitude. Codes are chosen against the scale as stored (bf16).
 * @throws SamebitsError for an unsupported shape, a wrong length, or a weight that is Inf or NaN
 */
export function quantizeInt4(weights: Uint16Array | Float32Array, options: QuantizeOptions): Int4Tensor {
  const { n, k, groupSize, nGroups } = weightShape(options.n, options.k, options.groupSize);
  if (weights.length !== n * k) {
    throw new SamebitsError('INPUT_LENGTH_MISMATCH', {
      rule: 'weights must hold exactly [N, K]',
      expected: `${n * k} elements for [${n}, ${k}]`,
      got: `${weights.length} elements`,
      fix: 'Pass the whole matrix, row-major.',
    });
  }
  const symmetric = options.symmetric ?? false;
  const isBf16 = weights instanceof Uint16Array;
  const qdata = new Uint8Array((n * k) / 2);
  const scale = new Uint16Array(nGroups * n);
  const zeroPoint = new Uint16Array(nGroups * n);
  const group = new Float64Array(groupSize);
  for (let row = 0; row < n; row++) {
    for (let g = 0; g < nGroups; g++) {
      const start = row * k + g * groupSize;
      let min = 0;
      let max = 0;
      for (let i = 0; i < groupSize; i++) {
        const w = isBf16 ? numberFromBf16(weights[start + i]!) : weights[start + i]!;
        if (!Number.isFinite(w)) throw weightNotFinite(w, row, start + i - row * k);
        group[i] = w;
        if (w < min) min = w;
        if (w > max) max = w;
      }
      const range = symmetric ? 2 * Math.max(max, -min) : max - min;
      const scaleBits = flushSubnormal(bf16FromNumber(range / MAX_CODE));
      const s = numberFromBf16(scaleBits);
      const z = symmetric ? SYMMETRIC_ZERO_POINT : s === 0 ? 0 : clampCode(Math.round(-min / s));
      scale[g * n + row] = scaleBits;
      zeroPoint[g * n + row] = bf16FromNumber(z);
      for (let i = 0; i < groupSize; i += 2) {
        const even = s === 0 ? z : clampCode(roundTiesToEven(group[i]! / s + z));
        const odd = s === 0 ? z : clampCode(roundTiesToEven(group[i + 1]! / s + z));
        qdata[(start + i) / 2] = even | (odd << 4);
      }
    }
  }
  return new Int4Tensor({
    qdata: { dtype: 'u8', shape: [n, k / 2], data: qdata },
    scale: { dtype: 'bf16', shape: [nGroups, n], data: scale },
    zeroPoint: { dtype: 'bf16', shape: [nGroups, n], data: zeroPoint },
    groupSize,
  });
}

/** A subnormal scale counts as 0 in the operator, so it is stored as 0 and the group's codes agree with it. */
function flushSubnormal(bits: number): number {
  return (bits & 0x7f80) === 0 ? 0 : bits;
}

function clampCode(value: number): number {
  return Math.max(0, Math.min(value, MAX_CODE));
}

function weightNotFinite(value: number, row: number, column: number): SamebitsError {
  return new SamebitsError('WEIGHT_NOT_FINITE', {
    rule: 'a weight that is quantized must be finite',
    expected: 'finite values',
    got: `${value} at [${row}, ${column}]`,
    fix: 'The checkpoint is damaged; quantization cannot represent it.',
  });
}

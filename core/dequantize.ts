// The weights that the codes stand for, and the plain product with them: the path of an Int4Tensor.

import { allocateOutput, kindOf, requireF32 } from './argument_checks.js';
import { CoalescedInt4Tensor } from './coalesced_int4_tensor.js';
import { SamebitsError } from './errors.js';
import { DEFAULT_FORM, GroupNumbers, type Groups, hasOffset } from './forms.js';
import { Int4Tensor } from './int4_tensor.js';
import { activationRows } from './limits.js';

/**
 * What codes stand for as f32[N, K], row-major, from either layout: `RN32(RN32(q - z) * s)`, or with an offset
 * `RN32((q - c) * s + o)`.
 * @throws SamebitsError LAYOUT_WRONG_TYPE for anything else; HOST_OUT_OF_MEMORY
 */
export function dequantize(tensor: Int4Tensor | CoalescedInt4Tensor): Float32Array {
  const { n, k } = requireWeight(tensor);
  const out = allocateOutput(n, k, 'f32');
  for (let row = 0; row < n; row++) dequantizeRow(tensor, row, out.subarray(row * k, (row + 1) * k));
  return out;
}

/**
 * Row `row` of the dequantized weight into `out`, f32[K]. With an offset, `(q - center) * scale` is exact, and the sum is
 * rounded once.
 */
export function dequantizeRow(tensor: Int4Tensor | CoalescedInt4Tensor, row: number, out: Float32Array): void {
  const { k, groupSize, nGroups, qdata } = tensor;
  const { form, groups } =
    tensor.layout === 'coalesced' ? tensor : { form: DEFAULT_FORM, groups: nativeGroups(tensor) };
  const numbers = new GroupNumbers(form, groups, tensor);
  const isOffset = hasOffset(form);
  const weights = new Float32Array(16);
  for (let g = 0; g < nGroups; g++) {
    const index = tensor.layout === 'coalesced' ? row * nGroups + g : g * tensor.n + row;
    const scale = numbers.scale(index);
    const second = numbers.second(index);
    for (let q = 0; q < 16; q++) {
      weights[q] = isOffset ? (q - form.center) * scale + second : Math.fround(q - second) * scale;
    }
    for (let i = g * groupSize; i < (g + 1) * groupSize; i += 2) {
      const byte = qdata[(row * k + i) / 2]!;
      out[i] = weights[byte & 15]!;
      out[i + 1] = weights[byte >> 4]!;
    }
  }
}

function nativeGroups({ scale, zeroPoint }: Int4Tensor): Groups {
  return { scale, second: zeroPoint, steps: null };
}

/**
 * x · wᵀ with dequantized f32 weights, summed in f64 and rounded once to f32: f32[M, N].
 * Slow and exact enough to judge accuracy by; it shares no arithmetic with int4_plain_mm.
 * @param x f32[M, K]
 * @throws SamebitsError DTYPE_MISMATCH, LAYOUT_WRONG_TYPE, INPUT_LENGTH_MISMATCH, M_UNSUPPORTED, HOST_OUT_OF_MEMORY
 */
export function dequantizeAndMultiply(x: Float32Array, tensor: Int4Tensor | CoalescedInt4Tensor): Float32Array {
  const { n, k } = requireWeight(tensor);
  const m = activationRows(requireF32(x, 'x').length, k);
  const y = allocateOutput(m, n, 'f32');
  const weights = new Float32Array(k);
  for (let row = 0; row < n; row++) {
    dequantizeRow(tensor, row, weights);
    for (let i = 0; i < m; i++) {
      let sum = 0;
      for (let j = 0; j < k; j++) sum += x[i * k + j]! * weights[j]!;
      y[i * n + row] = sum;
    }
  }
  return y;
}

function requireWeight(tensor: Int4Tensor | CoalescedInt4Tensor): Int4Tensor | CoalescedInt4Tensor {
  if (Int4Tensor.is(tensor) || CoalescedInt4Tensor.is(tensor)) return tensor;
  throw new SamebitsError('LAYOUT_WRONG_TYPE', {
    rule: 'what is dequantized must be a 4-bit weight',
    expected: 'an Int4Tensor or a CoalescedInt4Tensor',
    got: kindOf(tensor),
    fix: 'Construct one from the operands, or read one from a checkpoint.',
  });
}

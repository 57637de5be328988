// CoalescedInt4Tensor: what kernels read. A type of its own, so that it can never be mistaken for torchao's Int4Tensor.

import {
  COALESCED_LAYOUT,
  type CoalescedInt4Parts,
  groupOperands,
  groupsOf,
  partsForm,
  partsOf,
} from './coalesced_parts.js';
import { SamebitsError } from './errors.js';
import type { Groups, WeightForm } from './forms.js';
import { Int4Tensor } from './int4_tensor.js';
import { checkGroupOperand, checkScaleValues, codesShape } from './validate.js';
import { weightExponent } from './weight_exponent.js';

/**
 * A 4-bit weight with one row's scales side by side; `form` says what a code stands for.
 * Made by `fromInt4Tensor`, by the file reader, or from parts that carry the layout tag.
 * Holds views of the arrays it was given; do not write to them afterwards.
 */
export class CoalescedInt4Tensor {
  readonly layout = 'coalesced';
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly nGroups: number;
  readonly form: WeightForm;
  /** u8[N, K/2]; even k in the low nibble. */
  readonly qdata: Uint8Array;
  /** Scale, and zero point or offset, of every group. */
  readonly groups: Groups;
  /** E_w: every weight that the codes can reach is at most 2^weightExponent in magnitude. */
  readonly weightExponent: number;
  readonly #coalescedLayout = true;

  /** @throws SamebitsError for the first rule that `parts` breaks; LAYOUT_WRONG_TYPE when the layout tag is not there */
  constructor(parts: CoalescedInt4Parts) {
    if (Int4Tensor.is(parts) || parts?.layout !== COALESCED_LAYOUT) throw wrongType('operands', parts);
    const shape = codesShape(parts);
    this.form = partsForm(parts, shape);
    for (const operand of groupOperands(parts, this.form, shape)) checkGroupOperand(operand, shape, 'coalesced');
    this.groups = groupsOf(parts);
    checkScaleValues(this.form, shape, this.groups);
    this.n = shape.n;
    this.k = shape.k;
    this.groupSize = shape.groupSize;
    this.nGroups = shape.nGroups;
    this.qdata = parts.qdata.data;
    this.weightExponent = weightExponent(this.form, shape, this.groups);
  }

  /**
   * Repacks a checkpoint's tensor; owns the transpose of scale and zeroPoint, [nGroups, N] -> [N, nGroups].
   * `qdata` is shared, not copied.
   */
  static fromInt4Tensor(tensor: Int4Tensor): CoalescedInt4Tensor {
    if (!Int4Tensor.is(tensor)) {
      throw new SamebitsError('LAYOUT_WRONG_TYPE', {
        rule: 'fromInt4Tensor repacks an Int4Tensor',
        expected: 'an Int4Tensor',
        got: nameOf(tensor),
        fix: 'Construct an Int4Tensor from the checkpoint first; a CoalescedInt4Tensor needs no repacking.',
      });
    }
    const { n, nGroups } = tensor;
    const shape = [n, nGroups];
    return new CoalescedInt4Tensor({
      ...tensor.parts(),
      layout: COALESCED_LAYOUT,
      scale: { dtype: 'bf16', shape, data: transpose(tensor.scale, nGroups, n) },
      zeroPoint: { dtype: 'bf16', shape, data: transpose(tensor.zeroPoint, nGroups, n) },
    });
  }

  /** Whether `value` was made by this class's constructor; a look-alike is refused. */
  static is(value: unknown): value is CoalescedInt4Tensor {
    return typeof value === 'object' && value !== null && #coalescedLayout in value;
  }

  /** The arrays with their dtypes, shapes and layout tag, as the constructor takes them. */
  parts(): CoalescedInt4Parts {
    return partsOf(this);
  }

  /** Bytes of all arrays. */
  get sizeBytes(): number {
    const { scale, second, steps } = this.groups;
    const stepBytes = steps === null ? 0 : steps.scale.byteLength + steps.second.byteLength;
    return this.qdata.byteLength + scale.byteLength + second.byteLength + stepBytes;
  }
}

/**
 * Refuses everything but a CoalescedInt4Tensor: the gate before every upload and every coalesced kernel.
 * @throws SamebitsError LAYOUT_WRONG_TYPE
 */
export function requireCoalesced(value: unknown): CoalescedInt4Tensor {
  if (CoalescedInt4Tensor.is(value)) return value;
  throw wrongType('weight', value);
}

function wrongType(what: string, value: unknown): SamebitsError {
  return new SamebitsError('LAYOUT_WRONG_TYPE', {
    rule: `the ${what} of the coalesced operator must be a CoalescedInt4Tensor (layout '${COALESCED_LAYOUT}')`,
    expected: 'scale and zeroPoint in [N, nGroups], by type',
    got: nameOf(value),
    fix: "Repack with CoalescedInt4Tensor.fromInt4Tensor or 'samebits convert'.",
  });
}

function nameOf(value: unknown): string {
  if (Int4Tensor.is(value))
    return `an Int4Tensor, torchao's native layout [nGroups, N] = [${value.nGroups}, ${value.n}]`;
  if (typeof value !== 'object' || value === null) return String(value);
  return 'layout' in value
    ? `layout ${JSON.stringify(value.layout)}`
    : `a ${value.constructor?.name ?? 'bare object'} without a layout`;
}

function transpose(source: Uint16Array, rows: number, columns: number): Uint16Array {
  const out = new Uint16Array(source.length);
  for (let r = 0; r < rows; r++) {
    for (let c = 0; c < columns; c++) out[c * rows + r] = source[r * columns + c]!;
  }
  return out;
}

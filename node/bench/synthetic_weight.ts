// Weights for the benchmark: random codes at memory speed, and a sample of rows that the reference can check.

import { partsOf } from '../../core/coalesced_parts.js';
import { GroupNumbers, type Groups, STEP_SIZE } from '../../core/forms.js';
import { bf16FromNumber, CoalescedInt4Tensor, Int4Tensor, Random } from '../../core/index.js';
import { reachOf } from '../../core/weight_exponent.js';

/** A random weight [n, k] in the interchange layout, scales of a bf16 around 0.01, integer zero points. */
export function syntheticWeight(n: number, k: number, groupSize: number): Int4Tensor {
  const random = Random.named(`bench ${n}x${k} group ${groupSize}`);
  const qdata = new Uint8Array((n * k) / 2);
  random.fillBytes(qdata);
  const count = (k / groupSize) * n;
  const scale = new Uint16Array(count);
  const zeroPoint = new Uint16Array(count);
  const smallest = bf16FromNumber(0.0078125);
  const codes = Uint16Array.from({ length: 16 }, (_, z) => bf16FromNumber(z));
  for (let i = 0; i < count; i++) {
    const bits = random.u32();
    scale[i] = smallest + (bits & 127);
    zeroPoint[i] = codes[(bits >>> 8) & 15]!;
  }
  const shape = [k / groupSize, n];
  return new Int4Tensor({
    qdata: { dtype: 'u8', shape: [n, k / 2], data: qdata },
    scale: { dtype: 'bf16', shape, data: scale },
    zeroPoint: { dtype: 'bf16', shape, data: zeroPoint },
    groupSize,
  });
}

/**
 * `count` rows of a weight, or all of them, as a weight of its own with the same E_w: the row with the largest reach is
 * among them, because E_w, and with it every rounding, belongs to the tensor.
 */
export function sampleRows(
  weight: CoalescedInt4Tensor,
  count: number,
): { readonly rows: readonly number[]; readonly sample: CoalescedInt4Tensor } {
  const { n, k, nGroups } = weight;
  const chosen = new Set<number>([rowOfLargestReach(weight)]);
  for (let i = 0; i < Math.min(count, n); i++) chosen.add(Math.floor((i * n) / Math.min(count, n)));
  chosen.add(n - 1);
  const rows = [...chosen].sort((a, b) => a - b);
  const gather = <T extends Uint8Array | Uint16Array>(source: T, out: T, width: number): T => {
    rows.forEach((row, i) => {
      out.set(source.subarray(row * width, (row + 1) * width), i * width);
    });
    return out;
  };
  const bytes = (source: Uint8Array, width: number) => gather(source, new Uint8Array(rows.length * width), width);
  const halves = (source: Uint16Array, width: number) => gather(source, new Uint16Array(rows.length * width), width);
  const { scale, second, steps } = weight.groups;
  const perRow = k / STEP_SIZE;
  const groups: Groups = steps
    ? {
        scale: bytes(scale, nGroups),
        second: bytes(second, nGroups),
        steps: { scale: halves(steps.scale, perRow), second: halves(steps.second, perRow) },
      }
    : { scale: halves(scale, nGroups), second: halves(second, nGroups), steps: null };
  const { groupSize, form } = weight;
  const qdata = bytes(weight.qdata, k / 2);
  const parts = partsOf({ n: rows.length, k, groupSize, nGroups, form, qdata, groups });
  return { rows, sample: new CoalescedInt4Tensor(parts) };
}

function rowOfLargestReach(weight: CoalescedInt4Tensor): number {
  const { form, groups, nGroups } = weight;
  const numbers = new GroupNumbers(form, groups, weight);
  let best = 0;
  let largest = -1;
  for (let i = 0; i < groups.scale.length; i++) {
    const reach = reachOf(form, numbers.scale(i), numbers.second(i));
    if (reach <= largest) continue;
    largest = reach;
    best = Math.floor(i / nGroups);
  }
  return best;
}

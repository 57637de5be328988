// Weights of any other form than the default for the benchmark, codes counted from 0.

import { partsOf } from '../../core/coalesced_parts.js';
import { type Groups, type HalfDtype, hasOffset, isNested, STEP_SIZE, type WeightForm } from '../../core/forms.js';
import { bf16FromNumber, CoalescedInt4Tensor, Random } from '../../core/index.js';
import { type WeightShape, weightShape } from '../../core/limits.js';
import { CODE_DEVIATION } from './decode_step.js';

/**
 * A random weight [n, k]. Its outputs are about as large as its inputs, so that a chain of hundreds of them neither overflows
 * nor vanishes.
 * @throws SamebitsError K_UNSUPPORTED, GROUP_SIZE_UNSUPPORTED
 */
export function formWeight(form: WeightForm, n: number, k: number, groupSize: number): CoalescedInt4Tensor {
  const random = Random.named(`bench ${form.kind} ${n}x${k} group ${groupSize}`);
  const shape = weightShape(n, k, groupSize);
  const qdata = new Uint8Array((n * k) / 2);
  random.fillBytes(qdata);
  const around = 1 / (CODE_DEVIATION * Math.sqrt(k));
  const groups = isNested(form) ? nestedGroups(form, shape, around, random) : plainGroups(form, shape, around, random);
  return new CoalescedInt4Tensor(partsOf({ ...shape, form, qdata, groups }));
}

/** Scales of 0.75 to 1.25 times `around`, in 64 steps; zero points of 7 or 8, offsets of so many scales below 0. */
function plainGroups(form: WeightForm, { n, nGroups }: WeightShape, around: number, random: Random): Groups {
  const scales = Array.from({ length: 64 }, (_, i) => around * (0.75 + i / 128));
  const scaleBits = Uint16Array.from(scales, (scale) => halfNear(form.dtype, scale));
  const seconds = scales.flatMap((scale) =>
    [7, 8].map((code) => halfNear(form.dtype, hasOffset(form) ? -code * scale : code)),
  );
  const scale = new Uint16Array(n * nGroups);
  const second = new Uint16Array(n * nGroups);
  for (let i = 0; i < scale.length; i++) {
    const drawn = random.u32() & 127;
    scale[i] = scaleBits[drawn >> 1]!;
    second[i] = seconds[drawn]!;
  }
  return { scale, second, steps: null };
}

/** Scales of 24 to 31 steps; zero points of 14 or 16 halves, offsets of 7 or 8 times as many steps as the scale has. */
function nestedGroups(form: WeightForm, { n, k, nGroups }: WeightShape, around: number, random: Random): Groups {
  const scale = new Uint8Array(n * nGroups);
  const second = new Uint8Array(n * nGroups);
  for (let i = 0; i < scale.length; i++) {
    const drawn = random.u32();
    scale[i] = 24 + (drawn & 7);
    const code = 7 + ((drawn >>> 3) & 1);
    second[i] = hasOffset(form) ? code * scale[i]! : 2 * code;
  }
  const step = around / 28;
  const count = (n * k) / STEP_SIZE;
  return {
    scale,
    second,
    steps: {
      scale: new Uint16Array(count).fill(halfNear('f16', step)),
      second: new Uint16Array(count).fill(halfNear('f16', hasOffset(form) ? -step : 0.5)),
    },
  };
}

/** The bits of the bf16 or f16 nearest to a number that neither overflows. */
function halfNear(dtype: HalfDtype, value: number): number {
  if (dtype === 'bf16') return bf16FromNumber(value);
  const sign = value < 0 ? 0x8000 : 0;
  const magnitude = Math.abs(value);
  if (magnitude < 2 ** -14) return sign | Math.round(magnitude * 2 ** 24);
  const exponent = Math.floor(Math.log2(magnitude));
  // A significand that rounds up to 2 carries into the exponent.
  return sign | (((exponent + 14) << 10) + Math.round((magnitude / 2 ** exponent) * 1024));
}

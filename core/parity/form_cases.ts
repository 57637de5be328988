// The case table of the forms that `cases.ts` has no word for: every other form over hard shapes, scales and activations.

import { requireObject } from '../argument_checks.js';
import { CoalescedInt4Tensor } from '../coalesced_int4_tensor.js';
import { partsOf } from '../coalesced_parts.js';
import { type Groups, type HalfDtype, hasOffset, isNested, STEP_SIZE, type WeightForm } from '../forms.js';
import { MAX_K, weightShape } from '../limits.js';
import type { ActivationKind, ParityCase } from './cases.js';
import { Random } from './random.js';

/** How scales and zero points or offsets, or the codes and steps that they are made of, are drawn. */
export type FormWeightKind =
  | 'plain' // positive scales around 0.01; zero points in 0..15, or offsets of some scales
  | 'signed' // both signs, zeros and subnormals among them
  | 'subnormal' // mostly subnormals: values in f16, zeros in bf16
  | 'wide' // over 2^-14..2^14
  | 'largest' // the largest that the type holds, where E_w allows it
  | 'saturated' // every weight at the tensor's reach, so that sums are as large as they can be
  | 'zero'; // every scale 0, and with it every weight but for the offsets

/** One case; its name is unique and the seed. */
export interface FormCase extends Omit<ParityCase, 'weights'> {
  readonly form: WeightForm;
  readonly weights: FormWeightKind;
}

const FORMS: readonly WeightForm[] = [
  { kind: 'zero', dtype: 'f16', center: 0 },
  { kind: 'offset', dtype: 'bf16', center: 0 },
  { kind: 'offset', dtype: 'bf16', center: 8 },
  { kind: 'offset', dtype: 'f16', center: 0 },
  { kind: 'offset', dtype: 'f16', center: 8 },
  { kind: 'nested-zero', dtype: 'f16', center: 0 },
  { kind: 'nested-offset', dtype: 'f16', center: 0 },
  { kind: 'nested-offset', dtype: 'f16', center: 8 },
];

type Row = readonly [
  n: number,
  k: number,
  groupSize: number,
  m: number,
  weights?: FormWeightKind,
  activations?: ActivationKind,
];

// biome-ignore format: a table
const ROWS: readonly Row[] = [
  [1, 32, 32, 1], [3, 96, 16, 3], [1, 256, 32, 1], [9, 256, 16, 4], [33, 1056, 32, 4], [257, 256, 64, 2], [24, 1024, 128, 3],
  [24, 1024, 256, 1], [6, 4096, 4096, 2], [20, 512, 32, 7], [12, 5376, 32, 1], [3, 21504, 32, 1], [2, 65_280, 32, 1],
  [19, 512, 32, 2, 'signed'], [19, 512, 16, 1, 'signed', 'any-finite'], [19, 512, 32, 1, 'subnormal'], [19, 512, 16, 3, 'subnormal', 'outlier'],
  [19, 512, 32, 2, 'wide'], [19, 512, 64, 1, 'wide', 'spread'], [19, 512, 32, 1, 'largest'], [19, 512, 32, 1, 'largest', 'max-finite'],
  [19, 512, 32, 1, 'zero'], [18, 768, 32, 1, 'plain', 'outlier'], [18, 768, 32, 1, 'plain', 'ties'], [18, 768, 16, 2, 'plain', 'alternating'],
  [18, 768, 32, 1, 'plain', 'one-hot'], [18, 768, 32, 1, 'plain', 'zero'], [18, 768, 32, 1, 'plain', 'tiny'], [18, 768, 32, 4, 'plain', 'nan-row'],
  [2, MAX_K, 32, 1, 'saturated', 'constant'], [2, 65_280, 16, 4, 'saturated', 'constant'],
];

/** Every case of every form whose steps, if it has any, fit the shape. */
export const FORM_CASES: readonly FormCase[] = FORMS.flatMap((form) =>
  ROWS.filter(([, k, groupSize]) => !isNested(form) || (k % STEP_SIZE === 0 && groupSize <= STEP_SIZE)).map(
    ([n, k, groupSize, m, weights = 'plain', activations = 'plain']) => ({
      name: `${form.kind}-${form.dtype}-${form.center}-n${n}-k${k}-g${groupSize}-m${m}-${weights}-${activations}`,
      form,
      n,
      k,
      groupSize,
      m,
      weights,
      activations,
    }),
  ),
);

/**
 * The weight of a case.
 * @throws SamebitsError for a shape that is not supported
 */
export function drawFormWeight(of: Omit<FormCase, 'm' | 'activations'>): CoalescedInt4Tensor {
  const { form, weights: kind } = requireObject(of, 'a case');
  const shape = weightShape(of.n, of.k, of.groupSize);
  const random = Random.named(`${of.name} weight`);
  const qdata = new Uint8Array((of.n * of.k) / 2);
  if (kind === 'saturated') qdata.fill(0xff);
  else random.fillBytes(qdata);
  const groups = isNested(form) ? drawNested(of, shape.nGroups, random) : drawPlain(of, shape.nGroups, random);
  return new CoalescedInt4Tensor(partsOf({ ...shape, form, qdata, groups }));
}

type Drawn = Pick<FormCase, 'form' | 'weights' | 'n' | 'k'>;

function drawPlain({ form, weights, n }: Drawn, nGroups: number, random: Random): Groups {
  const scale = new Uint16Array(n * nGroups);
  const second = new Uint16Array(n * nGroups);
  for (let i = 0; i < scale.length; i++) {
    const isOdd = Math.floor(i / nGroups) % 2 === 1;
    scale[i] = weights === 'saturated' ? saturated(form.dtype, isOdd) : drawHalf(form.dtype, weights, random);
    second[i] = drawSecond(form, weights, isOdd, random);
  }
  return { scale, second, steps: null };
}

function drawSecond(form: WeightForm, kind: FormWeightKind, isOdd: boolean, random: Random): number {
  if (kind === 'saturated') return hasOffset(form) ? half(form.dtype, isOdd, 4, 0) : half(form.dtype, true, 0, 0);
  if (!hasOffset(form)) return drawZeroPoint(form.dtype, kind, random);
  if (kind !== 'plain') return drawHalf(form.dtype, kind === 'zero' ? 'plain' : kind, random);
  return half(form.dtype, random.below(2) === 1, -5 + random.below(3), random.below(1024));
}

/** Mostly in 0..15 and integer; of both signs and of any size where scales are. */
function drawZeroPoint(dtype: HalfDtype, kind: FormWeightKind, random: Random): number {
  if (kind === 'signed') return half(dtype, random.below(2) === 1, -6 + random.below(16), random.below(1024));
  const value = random.below(16);
  if (value === 0) return 0;
  const exponent = Math.floor(Math.log2(value));
  return half(dtype, false, exponent, (value / 2 ** exponent - 1) * 1024);
}

function drawNested({ form, weights, n, k }: Drawn, nGroups: number, random: Random): Groups {
  const isFull = weights === 'saturated';
  const scale = Uint8Array.from({ length: n * nGroups }, () =>
    isFull ? 255 : random.below(random.below(2) ? 256 : 64),
  );
  const second = Uint8Array.from(scale, () => (isFull ? 255 : random.below(random.below(2) ? 256 : 64)));
  const stepsOfRow = k / STEP_SIZE;
  const steps = { scale: new Uint16Array(n * stepsOfRow), second: new Uint16Array(n * stepsOfRow) };
  for (let i = 0; i < steps.scale.length; i++) {
    const isOdd = Math.floor(i / stepsOfRow) % 2 === 1;
    steps.scale[i] = isFull ? saturated('f16', isOdd) : drawHalf('f16', weights, random);
    // A zero point is at most 65536, so its step is at most 256.
    const limit = hasOffset(form) ? weights : weights === 'largest' || weights === 'wide' ? 'signed' : weights;
    steps.second[i] = isFull
      ? half('f16', hasOffset(form) ? isOdd : true, hasOffset(form) ? 4 : -8, 0)
      : drawHalf('f16', limit, random);
  }
  return { scale, second, steps };
}

/** 1 or -1: with a zero point of -1, or an offset of 16, code 15 then reaches 2^E_w or half of it, all of one sign in a row. */
function saturated(dtype: HalfDtype, isNegative: boolean): number {
  return half(dtype, isNegative, 0, 0);
}

function drawHalf(dtype: HalfDtype, kind: FormWeightKind, random: Random): number {
  const mantissa = random.below(1024);
  const isNegative = random.below(2) === 1;
  const choice = random.below(8);
  switch (kind) {
    case 'zero':
      return isNegative ? 0x8000 : 0;
    case 'signed':
      if (choice === 0) return isNegative ? 0x8000 : 0;
      if (choice === 1) return subnormal(dtype, isNegative, mantissa);
      return half(dtype, isNegative, -7 + random.below(3), mantissa);
    case 'subnormal':
      return choice === 0 ? half(dtype, isNegative, -14, mantissa) : subnormal(dtype, isNegative, mantissa);
    case 'wide':
      return half(dtype, isNegative, -14 + random.below(29), mantissa);
    case 'largest':
      // E_w is at most 100, which bf16 could pass and f16 cannot.
      return half(dtype, isNegative, dtype === 'f16' ? 15 : 94, mantissa);
    default:
      return half(dtype, false, -8 + random.below(3), mantissa);
  }
}

/** A normal number: 2^exponent times 1 + mantissa / 1024, the mantissa cut to what bf16 has. */
function half(dtype: HalfDtype, isNegative: boolean, exponent: number, mantissa: number): number {
  const sign = isNegative ? 0x8000 : 0;
  return dtype === 'f16' ? sign | ((exponent + 15) << 10) | mantissa : sign | ((exponent + 127) << 7) | (mantissa >> 3);
}

function subnormal(dtype: HalfDtype, isNegative: boolean, mantissa: number): number {
  return (isNegative ? 0x8000 : 0) | (dtype === 'f16' ? mantissa : mantissa >> 3);
}

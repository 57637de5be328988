// E_w of NUMERICS.md section 2: one power of two above every weight that a tensor's codes can reach.

import { SamebitsError } from './errors.js';
import { ceilLog2 } from './exact.js';
import { GroupNumbers, type Groups, hasOffset, type WeightForm } from './forms.js';
import { MAX_WEIGHT_EXPONENT, type WeightShape } from './limits.js';

/**
 * The smallest integer with 2^E_w >= R, 0 when R is 0.
 * @throws SamebitsError WEIGHT_EXPONENT_OUT_OF_RANGE
 */
export function weightExponent(form: WeightForm, shape: Pick<WeightShape, 'groupSize'>, groups: Groups): number {
  const numbers = new GroupNumbers(form, groups, shape);
  let reach = 0;
  for (let i = 0; i < groups.scale.length; i++) {
    reach = Math.max(reach, reachOf(form, numbers.scale(i), numbers.second(i)));
  }
  return exponentOfReach(reach);
}

/**
 * What one group adds to R: |s| * max(|z|, |15 - z|), or with an offset 2 * max(|s| * max(c, 15 - c), |o|), which bounds a sum
 * of two terms. Each product is rounded once to f64 where it does not fit.
 */
export function reachOf(form: WeightForm, scale: number, second: number): number {
  if (!hasOffset(form)) return Math.abs(scale) * Math.max(Math.abs(second), Math.abs(15 - second));
  return 2 * Math.max(Math.abs(scale) * Math.max(form.center, 15 - form.center), Math.abs(second));
}

/** @throws SamebitsError WEIGHT_EXPONENT_OUT_OF_RANGE */
export function exponentOfReach(reach: number): number {
  if (reach === 0) return 0;
  const exponent = ceilLog2(reach);
  if (Math.abs(exponent) <= MAX_WEIGHT_EXPONENT) return exponent;
  throw new SamebitsError('WEIGHT_EXPONENT_OUT_OF_RANGE', {
    rule: 'the largest weight that scale and zero point or offset can reach must lie between 2^-100 and 2^100',
    expected: `E_w in -${MAX_WEIGHT_EXPONENT}..${MAX_WEIGHT_EXPONENT}`,
    got: `E_w = ${exponent} (largest reachable weight ${reach})`,
    fix: 'The scales are nonsense for a trained weight; check how they were read.',
  });
}

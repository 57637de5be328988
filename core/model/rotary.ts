// The tables of the rotary embedding, made on the host and given to devices as data: engines differ in Math.cos and Math.pow,
// so there are only integers and + - * / here.

import type { LayerConfig } from './decoder_config.js';

/** {cos, sin} of one position, f32[D / 2] each. */
export interface RotaryTable {
  readonly cos: Float32Array;
  readonly sin: Float32Array;
}

/** f_i = theta^(-2 i / D) rounded to f32, [D / 2]; 0 from `rotaryFrequencies` on. */
export function rotaryFrequencies({ headSize, rotaryTheta, rotaryFrequencies: real }: LayerConfig): Float32Array {
  const lnTheta = fixedLn(rotaryTheta);
  return Float32Array.from({ length: headSize / 2 }, (_, i) =>
    i < real ? numberFromFixed(fixedExp((-2n * BigInt(i) * lnTheta) / BigInt(headSize))) : 0,
  );
}

/** Cosine and sine of RN32(f_i * position), rounded to f32. */
export function rotaryTable(frequencies: Float32Array, position: number): RotaryTable {
  const cos = new Float32Array(frequencies.length);
  const sin = new Float32Array(frequencies.length);
  for (let i = 0; i < frequencies.length; i++) {
    const [c, s] = cosSin(Math.fround(frequencies[i]! * position));
    cos[i] = c;
    sin[i] = s;
  }
  return { cos, sin };
}

// ---- integers of 2^-128 ----

const FRACTION_BITS = 128n;
const ONE = 1n << FRACTION_BITS;

const times = (a: bigint, b: bigint) => (a * b) >> FRACTION_BITS;

/** 2 atanh(s), |s| <= 1/3. */
function twiceAtanh(s: bigint): bigint {
  const square = times(s, s);
  let power = s;
  let sum = 0n;
  for (let i = 1n; power !== 0n && power !== -1n; i += 2n) {
    sum += power / i;
    power = times(power, square);
  }
  return 2n * sum;
}

const LN_2 = twiceAtanh(ONE / 3n);

/** ln(value) of a positive double below 2^100. */
function fixedLn(value: number): bigint {
  let halvings = 0n;
  let m = value;
  for (; m > 1.5; m /= 2) halvings++;
  for (; m < 0.75; m *= 2) halvings--;
  // m is a multiple of 2^-53.
  const fixed = BigInt(m * 2 ** 53) << (FRACTION_BITS - 53n);
  return twiceAtanh(((fixed - ONE) << FRACTION_BITS) / (fixed + ONE)) + halvings * LN_2;
}

/** e^x of x <= 0. */
function fixedExp(x: bigint): bigint {
  const halvings = -x / LN_2;
  const rest = x + halvings * LN_2;
  let term = ONE;
  let sum = 0n;
  for (let i = 1n; term !== 0n && term !== -1n; i++) {
    sum += term;
    term = times(term, rest) / i;
  }
  return sum >> halvings;
}

/** With more bits than an f32 can tell. */
const numberFromFixed = (x: bigint) => Number(x >> 28n) / 2 ** 100;

// ---- doubles ----

/** pi / 2 in parts of 33 bits, whose products with integers below 2^20 are exact. */
const HALF_PI = [1.5707963267341256, 6.077100506303966e-11, 2.0222662487111665e-21] as const;
const TWO_OVER_PI = 0.6366197723675814;
/** 1 / (n (n + 1)) from the last term of the series to the first. */
const SIN_TERMS = [272, 210, 156, 110, 72, 42, 20, 6];
const COS_TERMS = [306, 240, 182, 132, 90, 56, 30, 12, 2];

const series = (square: number, terms: readonly number[]) => terms.reduce((sum, n) => 1 - (sum * square) / n, 1);

/** Good to 1e-15 for x below 2^20. */
function cosSin(x: number): readonly [number, number] {
  const quarter = Math.floor(x * TWO_OVER_PI + 0.5);
  const r = x - quarter * HALF_PI[0] - quarter * HALF_PI[1] - quarter * HALF_PI[2];
  const cos = series(r * r, COS_TERMS);
  const sin = r * series(r * r, SIN_TERMS);
  switch (quarter % 4) {
    case 0:
      return [cos, sin];
    case 1:
      return [-sin, cos];
    case 2:
      return [-cos, -sin];
    default:
      return [sin, -cos];
  }
}

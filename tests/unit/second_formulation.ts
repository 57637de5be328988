// int4_plain_mm again, after the text of NUMERICS.md alone: exact rationals of BigInts, each rounding where the text has
// one. Shares no code and no trick with core/reference.ts, so that a slip there would have to be made here as well.

/** An exact real; den is positive. */
interface Rational {
  readonly num: bigint;
  readonly den: bigint;
}

const ZERO: Rational = { num: 0n, den: 1n };
const times = (a: Rational, b: Rational): Rational => ({ num: a.num * b.num, den: a.den * b.den });
const minus = (a: Rational, b: Rational): Rational => ({ num: a.num * b.den - b.num * a.den, den: a.den * b.den });
const over = (a: Rational, b: Rational): Rational =>
  b.num > 0n ? { num: a.num * b.den, den: a.den * b.num } : { num: -a.num * b.den, den: -a.den * b.num };
const magnitude = (a: Rational): Rational => (a.num < 0n ? { num: -a.num, den: a.den } : a);
const isLess = (a: Rational, b: Rational): boolean => a.num * b.den < b.num * a.den;
const larger = (a: Rational, b: Rational): Rational => (isLess(a, b) ? b : a);
const integer = (value: number | bigint): Rational => ({ num: BigInt(value), den: 1n });
const pow2 = (exponent: number): Rational =>
  exponent >= 0 ? { num: 1n << BigInt(exponent), den: 1n } : { num: 1n, den: 1n << BigInt(-exponent) };

/** The largest integer e with 2^e <= |value|, for a value other than 0. */
function floorLog2(value: Rational): number {
  const { num, den } = magnitude(value);
  const guess = num.toString(2).length - den.toString(2).length;
  return isLess({ num, den }, pow2(guess)) ? guess - 1 : guess;
}

/** RNE: the nearest integer, ties to even. */
function nearestInteger(value: Rational): bigint {
  const { num, den } = magnitude(value);
  const whole = num / den;
  const twiceRest = 2n * (num % den);
  const isUp = twiceRest > den || (twiceRest === den && whole % 2n === 1n);
  const rounded = isUp ? whole + 1n : whole;
  return value.num < 0n ? -rounded : rounded;
}

/** The nearest multiple of 2^quantum, ties to even. */
function nearestMultiple(value: Rational, quantum: number): Rational {
  return times({ num: nearestInteger(over(value, pow2(quantum))), den: 1n }, pow2(quantum));
}

/** Rounded to a significand of `bits` bits, with no bound on the exponent. */
function toSignificand(value: Rational, bits: number): Rational {
  return value.num === 0n ? ZERO : nearestMultiple(value, floorLog2(value) - bits + 1);
}

/** RN32: the nearest f32, whose subnormals are multiples of 2^-149. */
function nearestF32(value: Rational): Rational {
  return value.num === 0n ? ZERO : nearestMultiple(value, Math.max(floorLog2(value) - 23, -149));
}

type Bf16 = { readonly kind: 'finite'; readonly value: Rational } | { readonly kind: 'infinite or NaN' };

/** A bf16 as the operator takes it: subnormals count as 0. */
function decodeBf16(bits: number): Bf16 {
  const biased = (bits >> 7) % 256;
  if (biased === 255) return { kind: 'infinite or NaN' };
  if (biased === 0) return { kind: 'finite', value: ZERO };
  const significand = integer(128 + (bits % 128));
  const value = times(significand, pow2(biased - 127 - 7));
  return { kind: 'finite', value: bits >= 0x8000 ? minus(ZERO, value) : value };
}

function finite(bits: number): Rational {
  const decoded = decodeBf16(bits);
  if (decoded.kind === 'finite') return decoded.value;
  throw new Error(`bits ${bits.toString(16)} are not finite`);
}

/**
 * The bits of a value that has at most `significandBits` (24 for f32, 8 for bf16), with 8 bits of exponent: below 2^-126
 * a zero of the given sign, from 2^128 an infinity.
 */
function encode(value: Rational, isNegative: boolean, significandBits: number): number {
  const fieldBits = significandBits - 1;
  const sign = isNegative ? 2 ** (8 + fieldBits) : 0;
  if (isLess(magnitude(value), pow2(-126))) return sign;
  const exponent = floorLog2(value);
  if (exponent > 127) return sign + 255 * 2 ** fieldBits;
  const significand = nearestInteger(over(magnitude(value), pow2(exponent - fieldBits)));
  return sign + (exponent + 127) * 2 ** fieldBits + Number(significand) - 2 ** fieldBits;
}

/** Section 1, one row. */
interface Row {
  readonly codes: readonly bigint[];
  /** d_b of each block. */
  readonly d: readonly Rational[];
  readonly exponent: number;
}

/** Null when some activation is Inf or NaN. */
function quantizeRow(x: readonly number[]): Row | null {
  const values: Rational[] = [];
  for (const bits of x) {
    const decoded = decodeBf16(bits);
    if (decoded.kind !== 'finite') return null;
    values.push(decoded.value);
  }
  const blocks = Array.from({ length: x.length / 32 }, (_, b) => values.slice(32 * b, 32 * b + 32));
  const largest = blocks.map((block) => block.map(magnitude).reduce(larger));
  // amax = (m / 128) * 2^e with m in 128..255, so e is its floor of log2.
  const exponents = largest.map((amax) => (amax.num === 0n ? null : floorLog2(amax)));
  const exponent = exponents.reduce<number | null>((a, e) => (a === null || (e !== null && e > a) ? e : a), null) ?? 0;
  const codes: bigint[] = [];
  const d: Rational[] = [];
  blocks.forEach((block, b) => {
    const e = exponents[b] ?? null;
    if (e === null || e - exponent < -100) {
      d.push(ZERO);
      for (let i = 0; i < 32; i++) codes.push(0n);
      return;
    }
    const amax = largest[b]!;
    for (const value of block) codes.push(nearestInteger(over(times(integer(127), value), amax)));
    const reciprocal = nearestF32({ num: 1n, den: 127n });
    const significand = nearestF32(over(amax, pow2(e)));
    d.push(times(nearestF32(times(significand, reciprocal)), pow2(e - exponent)));
  });
  return { codes, d, exponent };
}

/** An f16, subnormals included. */
function decodeF16(bits: number): Rational {
  const biased = (bits >> 10) % 32;
  const fraction = bits % 1024;
  if (biased === 31) throw new Error(`bits ${bits.toString(16)} are not finite`);
  const value = biased === 0 ? times(integer(fraction), pow2(-24)) : times(integer(1024 + fraction), pow2(biased - 25));
  return bits >= 0x8000 ? minus(ZERO, value) : value;
}

/** A packed weight: qdata u8[n, k/2], and scale and zero point or offset of every group as its form has them. */
export interface PlainWeight {
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly qdata: Uint8Array;
  readonly form: { readonly kind: string; readonly dtype: string; readonly center: number };
  readonly groups: {
    readonly scale: Uint8Array | Uint16Array;
    readonly second: Uint8Array | Uint16Array;
    readonly steps: { readonly scale: Uint16Array; readonly second: Uint16Array } | null;
  };
}

/** A number of a group: an integer times a step. */
interface Multiple {
  readonly count: bigint;
  readonly step: Rational;
}

const exactly = ({ count, step }: Multiple): Rational => times(integer(count), step);

/** Group g of row j. */
function multipleOf(w: PlainWeight, which: 'scale' | 'second', j: number, g: number): Multiple {
  const decode = w.form.dtype === 'f16' ? decodeF16 : finite;
  const at = j * (w.k / w.groupSize) + g;
  if (w.groups.steps === null) return { count: 1n, step: decode(w.groups[which][at]!) };
  const step = j * (w.k / 256) + Math.floor((g * w.groupSize) / 256);
  return { count: BigInt(w.groups[which][at]!), step: decode(w.groups.steps[which][step]!) };
}

const isOffset = ({ form }: PlainWeight) => form.kind === 'offset' || form.kind === 'nested-offset';

/** Section 2: E_w. */
export function secondWeightExponent(w: PlainWeight): number {
  let reach = ZERO;
  for (let j = 0; j < w.n; j++) {
    for (let g = 0; g < w.k / w.groupSize; g++) {
      const s = magnitude(exactly(multipleOf(w, 'scale', j, g)));
      const second = exactly(multipleOf(w, 'second', j, g));
      if (isOffset(w)) {
        const top = integer(Math.max(w.form.center, 15 - w.form.center));
        reach = larger(reach, times(integer(2), larger(times(s, top), magnitude(second))));
      } else {
        const span = larger(magnitude(second), magnitude(minus(integer(15), second)));
        reach = larger(reach, toSignificand(times(s, span), 53));
      }
    }
  }
  if (reach.num === 0n) return 0;
  const exponent = floorLog2(reach);
  return isLess(pow2(exponent), reach) ? exponent + 1 : exponent;
}

/** Sections 3 and 4: the bits of y[m, n] in both output types, row-major. */
export function secondFormulation(x: Uint16Array, w: PlainWeight): { f32: Uint32Array; bf16: Uint16Array } {
  const { n, k, groupSize } = w;
  const m = x.length / k;
  const exponent = secondWeightExponent(w);
  const f32 = new Uint32Array(m * n);
  const bf16 = new Uint16Array(m * n);
  for (let i = 0; i < m; i++) {
    const row = quantizeRow([...x.subarray(i * k, (i + 1) * k)]);
    for (let j = 0; j < n; j++) {
      const at = i * n + j;
      if (row === null) {
        f32[at] = 0x7fc00000;
        bf16[at] = 0x7fc0;
        continue;
      }
      const total = weightRowSum(row, w, j, exponent);
      const rounded = toSignificand(times(integer(total), pow2(exponent + row.exponent - 32)), 24);
      const y = isLess(magnitude(rounded), pow2(-126)) ? ZERO : rounded;
      f32[at] = encode(y, total < 0n, 24);
      bf16[at] = encode(toSignificand(y, 8), total < 0n, 8);
    }
  }
  return { f32, bf16 };

  function weightRowSum(row: Row, { qdata, form }: PlainWeight, j: number, weightExponent: number): bigint {
    const runSize = groupSize < 32 ? groupSize : 32;
    const inUnits = (c: Rational) => nearestInteger(times(c, pow2(32)));
    let total = 0n;
    for (let first = 0; first < k; first += runSize) {
      let dp = 0n;
      let asum = 0n;
      for (let c = first; c < first + runSize; c++) {
        const byte = qdata[j * (k / 2) + Math.floor(c / 2)]!;
        const q = (c % 2 === 0 ? byte % 16 : Math.floor(byte / 16)) - form.center;
        dp += BigInt(q) * row.codes[c]!;
        asum += row.codes[c]!;
      }
      const g = Math.floor(first / groupSize);
      const d = row.d[Math.floor(first / 32)]!;
      const scale = multipleOf(w, 'scale', j, g);
      const second = multipleOf(w, 'second', j, g);
      const relative = (value: Rational) => nearestF32(times(times(value, pow2(-weightExponent)), d));
      if (isOffset(w)) {
        total += inUnits(nearestF32(times(relative(scale.step), integer(scale.count * dp))));
        total += inUnits(nearestF32(times(relative(second.step), integer(second.count * asum))));
      } else {
        const t = nearestF32(minus(integer(dp), nearestF32(times(exactly(second), integer(asum)))));
        total += inUnits(nearestF32(times(relative(exactly(scale)), t)));
      }
    }
    return total;
  }
}

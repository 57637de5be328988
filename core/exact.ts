// Exact pieces of IEEE arithmetic that engines are free to get wrong (Math.pow, Math.log2) or do not have.

const view = new DataView(new ArrayBuffer(8));

/** 2^exponent, exactly, for -1022..1023. */
export function powerOfTwo(exponent: number): number {
  view.setUint32(0, (exponent + 1023) << 20);
  view.setUint32(4, 0);
  return view.getFloat64(0);
}

/** The smallest integer e with 2^e >= value, for a positive normal value. */
export function ceilLog2(value: number): number {
  view.setFloat64(0, value);
  const bits = view.getBigUint64(0);
  const exponent = Number((bits >> 52n) & 0x7ffn) - 1023;
  return (bits & 0xf_ffff_ffff_ffffn) === 0n ? exponent : exponent + 1;
}

/** RNE: the nearest integer, ties to even, for magnitudes below 2^51. */
export function roundTiesToEven(value: number): number {
  return value + 1.5 * 2 ** 52 - 1.5 * 2 ** 52;
}

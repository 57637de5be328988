// How far one output is from another, in the norm.

/** |actual - exact| / |exact|; NaN where an output is. */
export function relativeError(actual: Float32Array, exact: Float32Array): number {
  let difference = 0;
  let norm = 0;
  for (let i = 0; i < exact.length; i++) {
    difference += (actual[i]! - exact[i]!) ** 2;
    norm += exact[i]! ** 2;
  }
  return norm === 0 ? Math.sqrt(difference) : Math.sqrt(difference / norm);
}

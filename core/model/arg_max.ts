// Which of many is the largest: greedy decoding, as every backend does it.

/** The index of the largest value, the lowest among equals. */
export function argMax(values: Float32Array): number {
  let best = 0;
  for (let i = 1; i < values.length; i++) if (values[i]! > values[best]!) best = i;
  return best;
}

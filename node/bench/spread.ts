// Median, least and largest of repeated times.

/** Microseconds of repeated runs of the same thing. */
export interface Spread {
  readonly medianUs: number;
  readonly minUs: number;
  readonly maxUs: number;
  readonly samples: number;
}

/** @param elapsedUs at least one time */
export function spreadOf(elapsedUs: readonly number[]): Spread {
  const sorted = [...elapsedUs].sort((a, b) => a - b);
  return {
    medianUs: sorted[sorted.length >> 1]!,
    minUs: sorted[0]!,
    maxUs: sorted.at(-1)!,
    samples: sorted.length,
  };
}

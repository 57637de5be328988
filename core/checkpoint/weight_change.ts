// What packing did to a weight.

/** How far the dequantized weights lie from the source's. */
export interface WeightChange {
  /** Whether not a single weight changed, whatever its code. */
  readonly isLossless: boolean;
  /** Root of (sum of squared changes / sum of squared weights); 0 for a weight of zeros. */
  readonly relativeRms: number;
  /** Largest |dequantized - source|. */
  readonly largest: number;
}

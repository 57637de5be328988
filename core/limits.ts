// The shapes that the operator takes, and the checks that every border shares.

import { SamebitsError } from './errors.js';

/** Activations per int8 scale: a block is 32 consecutive k. */
export const BLOCK_SIZE = 32;
/** Above this the WGSL twin's two i32 accumulators could overflow (NUMERICS.md). */
export const MAX_K = 65_504;
/** Keeps row-major element offsets of a four-row pass in 32 bits. */
export const MAX_N = 2 ** 24;
/** The quantizer launches one workgroup a row; 65 535 is the most that every WebGPU device takes. */
export const MAX_M = 65_535;
/** Largest magnitude of a zero point for which z * asum stays exact in f32. */
export const MAX_ZERO_POINT = 65_536;
/** Bounds of E_w; scales beyond them are nonsense. */
export const MAX_WEIGHT_EXPONENT = 100;

/** N output features, K input features, groupSize weights of a row per scale, nGroups = K / groupSize. */
export interface WeightShape {
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly nGroups: number;
}

/**
 * Checks N, K and groupSize and derives nGroups.
 * @throws SamebitsError N_UNSUPPORTED, K_UNSUPPORTED, GROUP_SIZE_UNSUPPORTED
 */
export function weightShape(n: number, k: number, groupSize: number): WeightShape {
  if (!Number.isInteger(n) || n < 1 || n > MAX_N) {
    throw new SamebitsError('N_UNSUPPORTED', {
      rule: 'N, the number of output features, must be a positive integer',
      expected: `1..${MAX_N}`,
      got: String(n),
      fix: 'Check the shape of qdata: u8[N, K/2].',
    });
  }
  if (!Number.isInteger(k) || k < BLOCK_SIZE || k > MAX_K || k % BLOCK_SIZE !== 0) {
    throw new SamebitsError('K_UNSUPPORTED', {
      rule: 'K, the number of input features, must be a positive multiple of 32',
      expected: `a multiple of 32 in 32..${MAX_K}`,
      got: String(k),
      fix: 'Pad the weight and the activations with zeros up to a multiple of 32, or keep this layer in bf16.',
    });
  }
  const isPowerOfTwo =
    Number.isInteger(groupSize) && groupSize >= 16 && 2 ** Math.round(Math.log2(groupSize)) === groupSize;
  if (!isPowerOfTwo || k % groupSize !== 0) {
    throw new SamebitsError('GROUP_SIZE_UNSUPPORTED', {
      rule: 'groupSize must be 16, or a power of two of at least 32, and divide K',
      expected: `a power of two >= 16 that divides K = ${k}`,
      got: String(groupSize),
      fix: 'Repack with a supported group size, for example 32.',
    });
  }
  return { n, k, groupSize, nGroups: k / groupSize };
}

/**
 * M, the rows of activations that `length` elements make.
 * @throws SamebitsError INPUT_LENGTH_MISMATCH, M_UNSUPPORTED
 */
export function activationRows(length: number, k: number): number {
  const m = length / k;
  if (!Number.isInteger(m) || m < 1) {
    throw new SamebitsError('INPUT_LENGTH_MISMATCH', {
      rule: 'x must hold whole rows, bf16[M, K] or f32[M, K]',
      expected: `a positive multiple of K = ${k} elements`,
      got: `${length} elements`,
      fix: 'Pass one row of K activations for each token.',
    });
  }
  checkRows(m);
  return m;
}

/** @throws SamebitsError M_UNSUPPORTED */
export function checkRows(m: number): void {
  if (Number.isInteger(m) && m >= 1 && m <= MAX_M) return;
  throw new SamebitsError('M_UNSUPPORTED', {
    rule: 'M, the rows of activations, must be a positive integer',
    expected: `1..${MAX_M}`,
    got: String(m),
    fix: 'Split the activations into several calls.',
  });
}

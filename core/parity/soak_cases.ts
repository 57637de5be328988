// Cases without end: small shapes and mean values, each drawn from a seed and its number, to be drawn again from these.

import { CoalescedInt4Tensor } from '../coalesced_int4_tensor.js';
import { Int4Tensor } from '../int4_tensor.js';
import { BLOCK_SIZE } from '../limits.js';
import { type ActivationKind, drawActivations, drawWeight, type ParityCase, type WeightKind } from './cases.js';
import { Random } from './random.js';

/** `mixed`: every group of the weight, every block of the activations, of one of three kinds; some rows all zero. */
export interface SoakCase extends Omit<ParityCase, 'weights' | 'activations'> {
  readonly weights: WeightKind | 'mixed';
  readonly activations: ActivationKind | 'mixed';
}

export const SOAK_WEIGHT_KINDS: readonly WeightKind[] = [
  'plain',
  'symmetric',
  'real-zero',
  'signed',
  'wide',
  'far-zero',
  'smallest',
  'subnormal',
  'largest',
  'saturated',
  'zero',
];

/** Those that leave a row finite; a row with NaN or Inf says nothing of its other values. */
export const SOAK_FINITE_KINDS: readonly ActivationKind[] = [
  'plain',
  'outlier',
  'ties',
  'spread',
  'any-finite',
  'alternating',
  'constant',
  'one-hot',
  'zero',
  'subnormal',
  'tiny',
  'huge',
  'max-finite',
];
const NAN_KINDS: readonly ActivationKind[] = ['nan-row', 'inf-row'];

/** Up to this many blocks of 32: enough for every group size below it, and for several runs a lane. */
export const SOAK_MAX_BLOCKS = 16;
const MAX_N = 40;
const MAX_M = 9;

/** Group sizes that divide k, 16 to k. */
export function soakGroupSizes(k: number): number[] {
  const sizes: number[] = [];
  for (let size = 16; k % size === 0; size *= 2) sizes.push(size);
  return sizes;
}

/** Case `index` of the soak with this seed. */
export function soakCase(seed: number, index: number): SoakCase {
  const random = Random.named(`soak ${seed} ${index}`);
  const k = BLOCK_SIZE * (1 + random.below(SOAK_MAX_BLOCKS));
  const isMixed = random.below(2) === 0;
  return {
    name: `soak ${seed}:${index}`,
    n: 1 + random.below(random.below(4) === 0 ? MAX_N : 12),
    k,
    groupSize: pick(random, soakGroupSizes(k)),
    m: 1 + random.below(random.below(4) === 0 ? MAX_M : 4),
    weights: isMixed ? 'mixed' : pick(random, SOAK_WEIGHT_KINDS),
    activations: isMixed ? 'mixed' : pick(random, [...SOAK_FINITE_KINDS, ...NAN_KINDS]),
  };
}

/** The packed weight of a case. */
export function drawSoakWeight(of: Omit<SoakCase, 'activations' | 'm'>): CoalescedInt4Tensor {
  const random = Random.named(`${of.name} mix`);
  const kinds = of.weights === 'mixed' ? pickThree(random, SOAK_WEIGHT_KINDS) : [of.weights];
  const drawn = kinds.map((weights) => drawWeight({ ...of, weights }));
  const parts = drawn[0]!.parts();
  const scale = parts.scale.data.slice();
  const zeroPoint = parts.zeroPoint.data.slice();
  for (let i = 0; i < scale.length; i++) {
    const source = pick(random, drawn);
    scale[i] = source.scale[i]!;
    zeroPoint[i] = source.zeroPoint[i]!;
  }
  if (kinds.some((kind) => kind === 'smallest' || kind === 'subnormal')) {
    // 15 * 255 * 2^-112: without it a tensor of few groups may reach less than 2^-101, and would be refused.
    scale[0] = 0x0b7f;
    zeroPoint[0] = 0;
  }
  return CoalescedInt4Tensor.fromInt4Tensor(
    new Int4Tensor({
      ...parts,
      scale: { ...parts.scale, data: scale },
      zeroPoint: { ...parts.zeroPoint, data: zeroPoint },
    }),
  );
}

/** The activations of a case, bf16[m, k]. */
export function drawSoakActivations(of: Omit<SoakCase, 'weights'>): Uint16Array {
  if (of.activations !== 'mixed') return drawActivations({ ...of, activations: of.activations });
  const random = Random.named(`${of.name} mix of activations`);
  const drawn = pickThree(random, SOAK_FINITE_KINDS).map((activations) => drawActivations({ ...of, activations }));
  const x = new Uint16Array(of.m * of.k);
  for (let row = 0; row < of.m; row++) {
    if (random.below(10) === 0) continue;
    for (let start = row * of.k; start < (row + 1) * of.k; start += BLOCK_SIZE) {
      x.set(pick(random, drawn).subarray(start, start + BLOCK_SIZE), start);
    }
  }
  return x;
}

function pick<T>(random: Random, from: readonly T[]): T {
  return from[random.below(from.length)]!;
}

function pickThree<T>(random: Random, from: readonly T[]): T[] {
  return [pick(random, from), pick(random, from), pick(random, from)];
}

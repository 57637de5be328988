// The built-in case table: one list that feeds every backend, the recorded runs and the page. Drawn from names alone.

import { requireObject } from '../argument_checks.js';
import { bf16FromNumber } from '../bf16.js';
import { Int4Tensor } from '../int4_tensor.js';
import { BLOCK_SIZE, checkRows, MAX_K, weightShape } from '../limits.js';
import { Random } from './random.js';

/** How the scales and zero points of a case are drawn. */
export type WeightKind =
  | 'plain' // positive scales around 0.01, integer zero points
  | 'symmetric' // zero point 8 everywhere
  | 'real-zero' // zero points that are not integers, some outside 0..15
  | 'signed' // scales of both signs, zero scales and subnormal scales among them
  | 'wide' // scales over 2^-60..1
  | 'far-zero' // zero points of +-65536 and of 2^-126
  | 'smallest' // E_w = -100
  | 'subnormal' // E_w = -100 and subnormal scales among the rest, which would show if they were not taken for 0
  | 'largest' // E_w = 100
  | 'saturated' // every weight at the tensor's reach, so that sums are as large as they can be
  | 'zero'; // every scale 0

/** How the activations of a case are drawn. */
export type ActivationKind =
  | 'plain' // bell-shaped, variance 1
  | 'outlier' // one in a hundred 1e4 times the rest
  | 'ties' // every quotient of the int8 quantizer a tie
  | 'spread' // block maxima over the whole exponent range
  | 'any-finite' // random finite bit patterns, subnormals included
  | 'alternating' // equal magnitudes of alternating sign
  | 'constant' // one value with the largest significand
  | 'one-hot'
  | 'zero'
  | 'subnormal'
  | 'tiny' // around 1e-30
  | 'huge' // around 1e25
  | 'max-finite' // the largest finite bf16
  | 'nan-row' // the last row holds a NaN
  | 'inf-row'; // the last row holds an infinity

/** One case: a weight shape, M, and how its values are drawn. */
export interface ParityCase {
  /** Unique; also the seed. */
  readonly name: string;
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly m: number;
  readonly weights: WeightKind;
  readonly activations: ActivationKind;
}

type Row = readonly [
  n: number,
  k: number,
  groupSize: number,
  m: number,
  weights?: WeightKind,
  activations?: ActivationKind,
];

// biome-ignore format: a table
const ROWS: readonly Row[] = [
  // the smallest shapes, one group, one block, every group size that fits
  [1, 32, 16, 1], [1, 32, 32, 1], [1, 64, 16, 2], [2, 64, 64, 1], [3, 96, 32, 1], [3, 96, 16, 3], [5, 160, 32, 4],
  // N around the tiles of 2, 4, 8, 16 rows; odd numbers of groups
  [7, 256, 32, 1], [8, 256, 32, 1], [9, 256, 32, 1], [15, 224, 32, 1], [16, 224, 32, 2], [17, 224, 32, 3], [31, 992, 32, 1],
  [32, 1024, 32, 1], [33, 1056, 32, 4], [257, 288, 32, 1], [1025, 64, 32, 1],
  // every group size up to K
  [24, 1024, 16, 1], [24, 1024, 64, 1], [24, 1024, 128, 2], [24, 1024, 256, 3], [24, 1024, 512, 4], [24, 1024, 1024, 1],
  [9, 1536, 512, 1], [10, 2048, 2048, 1], [6, 4096, 4096, 2],
  // rows of activations: one pass up to 4, then chunks
  [20, 512, 32, 1], [20, 512, 32, 2], [20, 512, 32, 3], [20, 512, 32, 4], [20, 512, 32, 5], [20, 512, 32, 7], [20, 512, 32, 8],
  [21, 512, 16, 5], [21, 512, 128, 9], [3, 64, 32, 67],
  // the K of real layers, and the largest
  [40, 5376, 32, 1], [24, 5376, 128, 4], [24, 8192, 32, 1], [16, 16384, 32, 2], [12, 21504, 32, 1], [12, 21504, 16, 4],
  [21504, 32, 32, 1], [3, MAX_K, 32, 1], [2, MAX_K, 16, 4], [1, 32768, 32768, 1],
  // what scales and zero points may be
  [19, 512, 32, 1, 'symmetric'], [19, 512, 32, 2, 'real-zero'], [19, 512, 16, 1, 'real-zero'], [19, 512, 64, 1, 'signed'],
  [19, 512, 32, 1, 'signed'], [19, 512, 32, 3, 'wide'], [19, 512, 16, 4, 'far-zero'], [19, 512, 32, 1, 'far-zero'],
  [19, 512, 32, 1, 'smallest'], [19, 512, 32, 1, 'largest'], [19, 512, 32, 1, 'zero'], [19, 512, 32, 1, 'subnormal'], [19, 512, 16, 3, 'subnormal'], [3, MAX_K, 32, 1, 'far-zero'],
  // what activations may be
  [18, 768, 32, 1, 'plain', 'outlier'], [18, 768, 32, 4, 'real-zero', 'outlier'], [18, 768, 32, 1, 'plain', 'ties'],
  [18, 768, 16, 3, 'plain', 'ties'], [18, 768, 32, 2, 'plain', 'spread'], [18, 768, 16, 1, 'wide', 'spread'],
  [18, 768, 32, 2, 'plain', 'any-finite'], [18, 768, 16, 4, 'signed', 'any-finite'], [18, 768, 32, 1, 'plain', 'alternating'],
  [18, 768, 32, 3, 'plain', 'one-hot'], [18, 768, 32, 1, 'plain', 'zero'], [18, 768, 32, 1, 'plain', 'subnormal'],
  [18, 768, 32, 1, 'plain', 'tiny'], [18, 768, 32, 1, 'smallest', 'tiny'], [18, 768, 32, 1, 'plain', 'huge'],
  [18, 768, 32, 1, 'largest', 'huge'], [18, 768, 32, 1, 'largest', 'max-finite'], [18, 768, 32, 2, 'plain', 'max-finite'],
  [1, MAX_K, 32, 1, 'symmetric', 'max-finite'], [2, MAX_K, 32, 1, 'saturated', 'constant'], [3, MAX_K, 16, 4, 'saturated', 'constant'],
  [18, 768, 32, 1, 'plain', 'nan-row'], [18, 768, 32, 4, 'plain', 'nan-row'], [18, 768, 32, 7, 'real-zero', 'inf-row'],
  [18, 768, 16, 2, 'far-zero', 'inf-row'],
];

/** Every built-in case. */
export const CASES: readonly ParityCase[] = ROWS.map(
  ([n, k, groupSize, m, weights = 'plain', activations = 'plain']) => ({
    name: `n${n}-k${k}-g${groupSize}-m${m}-${weights}-${activations}`,
    n,
    k,
    groupSize,
    m,
    weights,
    activations,
  }),
);

/**
 * The weight of a case, in the interchange layout; repack it for the coalesced operator.
 * @throws SamebitsError for a shape that is not supported
 */
export function drawWeight(of: Pick<ParityCase, 'name' | 'n' | 'k' | 'groupSize' | 'weights'>): Int4Tensor {
  const { n, k, groupSize, nGroups } = weightShape(requireObject(of, 'a case').n, of.k, of.groupSize);
  const random = Random.named(`${of.name} weight`);
  const qdata = new Uint8Array((n * k) / 2);
  if (of.weights === 'saturated') qdata.fill(0xff);
  else random.fillBytes(qdata);
  const scale = new Uint16Array(nGroups * n);
  const zeroPoint = new Uint16Array(nGroups * n);
  for (let i = 0; i < scale.length; i++) {
    scale[i] = of.weights === 'saturated' ? saturatedScale(i % n) : drawScale(of.weights, random);
    zeroPoint[i] = drawZeroPoint(of.weights, random);
  }
  return new Int4Tensor({
    qdata: { dtype: 'u8', shape: [n, k / 2], data: qdata },
    scale: { dtype: 'bf16', shape: [nGroups, n], data: scale },
    zeroPoint: { dtype: 'bf16', shape: [nGroups, n], data: zeroPoint },
    groupSize,
  });
}

const SIGN = 0x8000;

/** With zero point -1, code 15 then stands for exactly 16 = 2^E_w, all of one sign in a row. */
function saturatedScale(row: number): number {
  return (row % 2) * SIGN + bf16FromNumber(1);
}

function drawScale(kind: WeightKind, random: Random): number {
  const mantissa = random.below(128);
  switch (kind) {
    case 'zero':
      return random.below(2) * SIGN;
    case 'signed': {
      const sign = random.below(2) * SIGN;
      const choice = random.below(8);
      if (choice === 0) return sign;
      if (choice === 1) return sign | mantissa;
      return sign | (120 << 7) | mantissa;
    }
    case 'wide':
      return ((67 + random.below(61)) << 7) | mantissa;
    case 'subnormal':
      if (random.below(4) === 0) return mantissa;
      return ((21 + random.below(2)) << 7) | mantissa;
    case 'smallest': // |s| * 15 < 2^-100
      return ((21 + random.below(2)) << 7) | mantissa;
    case 'largest': // |s| * 15 < 2^100
      return ((221 + random.below(2)) << 7) | mantissa;
    default:
      return ((119 + random.below(3)) << 7) | mantissa;
  }
}

function drawZeroPoint(kind: WeightKind, random: Random): number {
  switch (kind) {
    case 'symmetric':
      return bf16FromNumber(8);
    case 'real-zero':
      return bf16FromNumber(7.5 + 6 * random.normal());
    case 'far-zero': {
      const choice = random.below(4);
      const sign = random.below(2) * SIGN;
      if (choice === 0) return sign | bf16FromNumber(65536);
      if (choice === 1) return sign | 0x0080;
      return sign | bf16FromNumber(random.below(16));
    }
    case 'saturated':
      return bf16FromNumber(-1);
    default:
      return bf16FromNumber(random.below(16));
  }
}

/**
 * Activations bf16[m, k] of a kind, drawn from a name.
 * @throws SamebitsError M_UNSUPPORTED, K_UNSUPPORTED
 */
export function drawActivations(of: Pick<ParityCase, 'name' | 'm' | 'k' | 'activations'>): Uint16Array {
  const { m, k } = requireObject(of, 'a case');
  checkRows(m);
  weightShape(1, k, BLOCK_SIZE);
  const random = Random.named(`${of.name} activations`);
  const x = new Uint16Array(m * k);
  const blockExponents = Array.from({ length: (m * k) / BLOCK_SIZE }, () => random.below(254) + 1);
  const hot = random.below(k);
  for (let i = 0; i < x.length; i++) {
    x[i] = drawActivation(of.activations, i, i % k === hot, blockExponents[Math.floor(i / BLOCK_SIZE)]!, random);
  }
  if (of.activations === 'nan-row') x[(m - 1) * k + hot] = 0x7fc1;
  if (of.activations === 'inf-row') x[(m - 1) * k + hot] = 0xff80;
  return x;
}

function drawActivation(kind: ActivationKind, i: number, isHot: boolean, exponent: number, random: Random): number {
  const sign = random.below(2) * SIGN;
  switch (kind) {
    case 'outlier':
      return bf16FromNumber(random.normal() * (random.below(100) === 0 ? 1e4 : 1));
    case 'ties': // 127 is the block's largest, so 127 * x / amax = x, and x ends in one half
      return sign | bf16FromNumber(i % BLOCK_SIZE === 5 ? 127 : random.below(64) + 0.5);
    case 'spread':
      return sign | (Math.max(exponent - random.below(10), 1) << 7) | random.below(128);
    case 'any-finite':
      return sign | (random.below(255) << 7) | random.below(128);
    case 'alternating':
      return bf16FromNumber(i % 2 === 0 ? 0.75 : -0.75);
    case 'constant':
      return 0x3f7f;
    case 'one-hot':
      return isHot ? sign | bf16FromNumber(3.25) : 0;
    case 'zero':
      return sign;
    case 'subnormal':
      return sign | random.below(128);
    case 'tiny':
      return bf16FromNumber(random.normal() * 1e-30);
    case 'huge':
      return bf16FromNumber(random.normal() * 1e25);
    case 'max-finite':
      return sign | 0x7f7f;
    default:
      return bf16FromNumber(random.normal());
  }
}

// The linears of one decode step of Gemma 4 31B, in launch order, with the dependencies that a step really has: an x is
// an earlier step's y wherever the shapes allow it. What lies between them in the model (attention, norms) is left out.

import { BLOCK_SIZE, bf16FromNumber, COALESCED_LAYOUT, CoalescedInt4Tensor, Random } from '../../core/index.js';

/** One linear: y[1, N] = x[1, K] · wᵀ. */
export interface DecodeLinear {
  /** `layer 7 gate`, `head`. */
  readonly name: string;
  readonly n: number;
  readonly k: number;
  /** The step whose y is this x; null for the embedding that the step begins with. */
  readonly xFrom: number | null;
  /** bf16 where a later step reads it; f32 for the logits. */
  readonly outputType: 'f32' | 'bf16';
}

export const DECODE_SUITE = 'gemma4-31b';
export const DECODE_LAYERS = 60;
export const DECODE_GROUP_SIZE = 32;
const HIDDEN = 5376;
const MLP = 21_504;
const VOCABULARY = 262_144;
/** Every sixth layer attends to everything: more and wider queries, fewer keys, which are the values too. */
const FULL_ATTENTION_EVERY = 6;
const SLIDING = { q: 8192, k: 4096, v: 4096 };
const FULL = { q: 16_384, k: 2048 };

/** Everything of a step with this many layers, the head last. */
export function decodeLinears(layers: number = DECODE_LAYERS): readonly DecodeLinear[] {
  const linears: DecodeLinear[] = [];
  const add = (name: string, n: number, k: number, xFrom: number | null, outputType: 'f32' | 'bf16' = 'bf16') =>
    linears.push({ name, n, k, xFrom, outputType }) - 1;
  let hidden: number | null = null;
  for (let layer = 0; layer < layers; layer++) {
    const isFull = layer % FULL_ATTENTION_EVERY === FULL_ATTENTION_EVERY - 1;
    const heads = isFull ? FULL : SLIDING;
    const q = add(`layer ${layer} q`, heads.q, HIDDEN, hidden);
    add(`layer ${layer} k`, heads.k, HIDDEN, hidden);
    if (!isFull) add(`layer ${layer} v`, SLIDING.v, HIDDEN, hidden);
    const o = add(`layer ${layer} o`, HIDDEN, heads.q, q);
    const gate = add(`layer ${layer} gate`, MLP, HIDDEN, o);
    add(`layer ${layer} up`, MLP, HIDDEN, o);
    hidden = add(`layer ${layer} down`, HIDDEN, MLP, gate);
  }
  add('head', VOCABULARY, HIDDEN, hidden, 'f32');
  return linears;
}

/** Bytes of a weight on the device: 4 bits a code, a bf16 scale and zero point a group. */
export function decodeWeightBytes({ n, k }: Pick<DecodeLinear, 'n' | 'k'>): number {
  return (n * k) / 2 + (n * k * 4) / DECODE_GROUP_SIZE;
}

/** The standard deviation of codes 0..15 around zero points of 7 and 8. */
const CODE_DEVIATION = 4.637;

/**
 * A random weight [n, k]. Its outputs are about as large as its inputs, so that a chain of hundreds of them neither
 * overflows nor vanishes.
 */
export function decodeWeight(n: number, k: number): CoalescedInt4Tensor {
  const random = Random.named(`decode step ${n}x${k}`);
  const qdata = new Uint8Array((n * k) / 2);
  random.fillBytes(qdata);
  const groups = k / DECODE_GROUP_SIZE;
  const around = 1 / (CODE_DEVIATION * Math.sqrt(k));
  // 0.75 to 1.25 times `around`, in steps that bf16 keeps apart.
  const scales = Uint16Array.from({ length: 64 }, (_, i) => bf16FromNumber(around * (0.75 + i / 128)));
  const zeroPoints = Uint16Array.of(bf16FromNumber(7), bf16FromNumber(8));
  const scale = new Uint16Array(n * groups);
  const zeroPoint = new Uint16Array(n * groups);
  for (let i = 0; i < scale.length; i++) {
    const bits = random.u32();
    scale[i] = scales[bits & 63]!;
    zeroPoint[i] = zeroPoints[(bits >>> 6) & 1]!;
  }
  return new CoalescedInt4Tensor({
    layout: COALESCED_LAYOUT,
    groupSize: DECODE_GROUP_SIZE,
    qdata: { dtype: 'u8', shape: [n, k / 2], data: qdata },
    scale: { dtype: 'bf16', shape: [n, groups], data: scale },
    zeroPoint: { dtype: 'bf16', shape: [n, groups], data: zeroPoint },
  });
}

/** The embedding that a step begins with: bf16[1, HIDDEN]. */
export function decodeInput(): Uint16Array {
  const random = Random.named('decode step input');
  return Uint16Array.from({ length: HIDDEN }, () => bf16FromNumber(random.normal()));
}

/** Whether every linear of a list can run: whole blocks, and each x as long as the y that it is. */
export function isChained(linears: readonly DecodeLinear[]): boolean {
  return linears.every(({ k, xFrom }, i) => {
    const source = xFrom === null ? null : linears[xFrom];
    const length = xFrom === null ? HIDDEN : source?.outputType === 'bf16' ? source.n : 0;
    return k % BLOCK_SIZE === 0 && length === k && (xFrom ?? -1) < i;
  });
}

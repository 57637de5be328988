// The linears of one decode step of Gemma 4 31B, in launch order, with the dependencies that a step really has: an x is
// an earlier step's y wherever the shapes allow it. What lies between them in the model (attention, norms) is left out.

import { isNested, STEP_SIZE, type WeightForm } from '../../core/forms.js';
import { BLOCK_SIZE, bf16FromNumber, Int4Tensor, Random } from '../../core/index.js';

/** One linear: y[1, N] = x[1, K] · wᵀ. */
export interface DecodeLinear {
  /** `layer 7 gate`, `head`. */
  readonly name: string;
  /** Null for the head. */
  readonly layer: number | null;
  readonly n: number;
  readonly k: number;
  /** The step whose y is this x; null for the embedding that the step begins with. */
  readonly xFrom: number | null;
  /** bf16 where a later step reads it; f32 for the logits. */
  readonly outputType: 'f32' | 'bf16';
  /** Of the weight, where it is not the default one. */
  readonly form?: WeightForm;
}

export const DECODE_SUITE = 'gemma4-31b';
export const DECODE_LAYERS = 60;
export const DECODE_GROUP_SIZE = 32;
/** What a CPU that plays GPU runs instead: so many layers, every dimension so much smaller. */
export const MINIATURE = { layers: 1, divisor: 8 };
const HIDDEN = 5376;
const MLP = 21_504;
const VOCABULARY = 262_144;
/** Every sixth layer attends to everything: more and wider queries, fewer keys, which are the values too. */
const FULL_ATTENTION_EVERY = 6;
const SLIDING = { q: 8192, k: 4096, v: 4096 };
const FULL = { q: 16_384, k: 2048 };

/**
 * Everything of a step with this many layers, the head last; N and K are divided by `divisor`, and of a nested form rounded up
 * to whole steps.
 */
export function decodeLinears(layers: number = DECODE_LAYERS, divisor = 1, form?: WeightForm): readonly DecodeLinear[] {
  const linears: DecodeLinear[] = [];
  const step = form && isNested(form) ? STEP_SIZE : 1;
  const divided = (size: number) => Math.ceil(size / divisor / step) * step;
  const add = (layer: number | null, name: string, n: number, k: number, xFrom: number | null) =>
    linears.push({
      name: layer === null ? name : `layer ${layer} ${name}`,
      layer,
      n: divided(n),
      k: divided(k),
      xFrom,
      outputType: layer === null ? 'f32' : 'bf16',
      ...(form ? { form } : {}),
    }) - 1;
  let hidden: number | null = null;
  for (let layer = 0; layer < layers; layer++) {
    const isFull = layer % FULL_ATTENTION_EVERY === FULL_ATTENTION_EVERY - 1;
    const heads = isFull ? FULL : SLIDING;
    const q = add(layer, 'q', heads.q, HIDDEN, hidden);
    add(layer, 'k', heads.k, HIDDEN, hidden);
    if (!isFull) add(layer, 'v', SLIDING.v, HIDDEN, hidden);
    const o = add(layer, 'o', HIDDEN, heads.q, q);
    const gate = add(layer, 'gate', MLP, HIDDEN, o);
    add(layer, 'up', MLP, HIDDEN, o);
    hidden = add(layer, 'down', HIDDEN, MLP, gate);
  }
  add(null, 'head', VOCABULARY, HIDDEN, hidden);
  return linears;
}

/** Bytes of a weight on the device: 4 bits a code, two halves a group, or nested two bytes a group and two halves a step. */
export function decodeWeightBytes({ n, k, form }: Pick<DecodeLinear, 'n' | 'k' | 'form'>): number {
  const groups = (n * k) / DECODE_GROUP_SIZE;
  const groupBytes = form && isNested(form) ? 2 * groups + (n * k * 4) / STEP_SIZE : 4 * groups;
  return (n * k) / 2 + groupBytes;
}

/** The standard deviation of codes 0..15 around zero points of 7 and 8. */
export const CODE_DEVIATION = 4.637;

/**
 * A random weight [n, k] as a checkpoint holds it. Its outputs are about as large as its inputs, so that a chain of
 * hundreds of them neither overflows nor vanishes.
 */
export function decodeWeight(n: number, k: number): Int4Tensor {
  const random = Random.named(`decode step ${n}x${k}`);
  const qdata = new Uint8Array((n * k) / 2);
  random.fillBytes(qdata);
  const groups = k / DECODE_GROUP_SIZE;
  const around = 1 / (CODE_DEVIATION * Math.sqrt(k));
  // 0.75 to 1.25 times `around`, in steps that bf16 keeps apart.
  const scales = Uint16Array.from({ length: 64 }, (_, i) => bf16FromNumber(around * (0.75 + i / 128)));
  const zeroPoints = Uint16Array.of(bf16FromNumber(7), bf16FromNumber(8));
  const scale = new Uint16Array(groups * n);
  const zeroPoint = new Uint16Array(groups * n);
  for (let i = 0; i < scale.length; i++) {
    const bits = random.u32();
    scale[i] = scales[bits & 63]!;
    zeroPoint[i] = zeroPoints[(bits >>> 6) & 1]!;
  }
  const shape = [groups, n];
  return new Int4Tensor({
    groupSize: DECODE_GROUP_SIZE,
    qdata: { dtype: 'u8', shape: [n, k / 2], data: qdata },
    scale: { dtype: 'bf16', shape, data: scale },
    zeroPoint: { dtype: 'bf16', shape, data: zeroPoint },
  });
}

/** The embedding that a step begins with: bf16[1, length]. */
export function decodeInput(length: number): Uint16Array {
  const random = Random.named('decode step input');
  return Uint16Array.from({ length }, () => bf16FromNumber(random.normal()));
}

/** Whether every linear of a list can run: whole blocks, and each x as long as the y, or the embedding, that it is. */
export function isChained(linears: readonly DecodeLinear[]): boolean {
  const embedding = linears.find(({ xFrom }) => xFrom === null)?.k ?? 0;
  return linears.every(({ k, xFrom }, i) => {
    const source = xFrom === null ? null : linears[xFrom];
    const length = xFrom === null ? embedding : source?.outputType === 'bf16' ? source.n : 0;
    return k % BLOCK_SIZE === 0 && length === k && (xFrom ?? -1) < i;
  });
}

/** Layers, from the first, whose weights fit into `sizeBytes` with those of the head. */
export function fittingLayers(linears: readonly DecodeLinear[], sizeBytes: number): number {
  const bytesOf = (layer: number | null) =>
    linears.filter((linear) => linear.layer === layer).reduce((sum, linear) => sum + decodeWeightBytes(linear), 0);
  let layers = 0;
  let left = sizeBytes - bytesOf(null);
  for (let bytes = bytesOf(0); bytes > 0 && bytes <= left; bytes = bytesOf(++layers)) left -= bytes;
  return layers;
}

// Turns the scales and offsets of foreign formats into bf16 scales and zero points, and measures what the rounding did.

import { bf16FromNumber, flushedNumberFromBf16, isFiniteBf16 } from '../bf16.js';
import { SamebitsError } from '../errors.js';
import { MAX_ZERO_POINT, type WeightShape } from '../limits.js';
import { weightExponent } from '../validate.js';
import { addChanges, type ChangeSums, CODES_PER_WORD } from './code_moments.js';
import { packedShape, type UnpackedShape } from './packed_shape.js';
import type { PackedRows } from './samebits_writer.js';
import { SliceBuffers } from './slice_buffers.js';
import type { SourceRows } from './source_weight.js';
import { inTensor } from './tensor_error.js';
import type { WeightChange } from './weight_change.js';

const MINUS_ONE_BITS = 0xbf80;
/** Of f32 bits. */
const EXPONENT_BITS = 0x7f800000;
const MAGNITUDE_BITS = 0x7fffffff;
const HIGH_HALF = ~0xffff;
/** MAX_ZERO_POINT as f32 bits; magnitudes compare as integers. */
const MAX_ZERO_BITS = new Int32Array(Float32Array.of(MAX_ZERO_POINT).buffer)[0]!;

/** Groups of one call of a kernel: engines optimize what is called often, and so many stay in the cache. */
const CHUNK_GROUPS = 2048;

/** What rounding made of the groups of some rows. */
interface RoundedGroups {
  /** bf16 bits, in the source's groups. */
  readonly scale: Uint16Array;
  readonly zeroPoint: Uint16Array;
  /** What was taken from the source's scale and offset. */
  readonly slope: Float64Array;
  readonly shift: Float64Array;
  readonly isLossless: boolean;
  /** Groups whose codes must become 0. */
  readonly constants: readonly number[];
}

/** Packs one weight, some rows at a time. */
export class GroupPacker {
  readonly shape: WeightShape;
  readonly #sums: ChangeSums = { sumOfSquares: 0, sumOfSquaredChanges: 0, largestChange: 0 };
  #isLossless = true;
  #hasSkipped = false;
  // The pair that reaches furthest decides the whole tensor's exponent; slices alone could not.
  #reach = -1;
  #reachScale = 0;
  #reachZeroPoint = 0;

  /** @throws SamebitsError N_, K_, GROUP_SIZE_UNSUPPORTED, naming the weight */
  constructor(
    private readonly weight: UnpackedShape,
    private readonly buffers = new SliceBuffers(),
  ) {
    this.shape = packedShape(weight);
  }

  /** Of all rows, once `finish` was called. */
  get change(): WeightChange {
    const { sumOfSquares, sumOfSquaredChanges, largestChange } = this.#sums;
    // Sums of squares by their terms can end just below zero.
    const squared = sumOfSquares > 0 ? Math.max(0, sumOfSquaredChanges / sumOfSquares) : 0;
    return { isLossless: this.#isLossless, relativeRms: Math.sqrt(squared), largest: largestChange };
  }

  /**
   * bf16 scale and zero point of every group; changes `qdata` in place where a group is a constant. Good until the next
   * rows are packed.
   * @throws SamebitsError SCALE_NOT_FINITE, ZERO_POINT_NOT_FINITE, naming the weight
   */
  pack(rows: SourceRows): PackedRows {
    const rounded = this.#round(rows);
    this.#isLossless &&= rounded.isLossless;
    if (this.#isLossless) this.#hasSkipped = true;
    else this.#measure(rows, rounded);
    const { firstRow, qdata } = rows;
    const groupBytes = this.weight.groupSize / 2;
    for (const g of rounded.constants) qdata.fill(0, g * groupBytes, (g + 1) * groupBytes);
    const splits = this.weight.groupSize / this.shape.groupSize;
    return { firstRow, qdata, scale: repeat(rounded.scale, splits), zeroPoint: repeat(rounded.zeroPoint, splits) };
  }

  /**
   * After the last row. While nothing was lost nothing is measured, which is most of the work; should a late slice have lost
   * something after all, the weights before it are needed for the ratio.
   * @param slices all rows again
   * @throws SamebitsError WEIGHT_EXPONENT_OUT_OF_RANGE, naming the weight; what `slices` throws
   */
  async finish(slices: () => AsyncIterable<SourceRows>): Promise<void> {
    try {
      weightExponent(Uint16Array.of(this.#reachScale), Uint16Array.of(this.#reachZeroPoint));
    } catch (error) {
      throw inTensor(this.weight.name, error);
    }
    if (this.#isLossless || !this.#hasSkipped) return;
    Object.assign(this.#sums, { sumOfSquares: 0, sumOfSquaredChanges: 0, largestChange: 0 });
    for await (const rows of slices()) this.#measure(rows, this.#round(rows));
  }

  #measure({ qdata, scale, offset }: SourceRows, { slope, shift }: RoundedGroups): void {
    const words = new Int32Array(qdata.buffer, qdata.byteOffset, qdata.byteLength / 4);
    const wordsPerGroup = this.weight.groupSize / CODES_PER_WORD;
    const groups = { words, wordsPerGroup, scale, offset, slope, shift };
    for (let g = 0; g < scale.length; g += CHUNK_GROUPS) {
      addChanges(groups, g, Math.min(g + CHUNK_GROUPS, scale.length), this.#sums);
    }
  }

  #round(rows: SourceRows): RoundedGroups {
    const { scale: sourceScale, offset: sourceOffset } = rows;
    const count = sourceScale.length;
    const scale = this.buffers.u16('scale', count);
    const zeroPoint = this.buffers.u16('zero point', count);
    const slope = this.buffers.f64('slope', count);
    const shift = this.buffers.f64('shift', count);
    // f32 and its bits side by side: each loop below reads one and writes the other, many groups at a time.
    const restoredScale = this.buffers.f32('restored scale', count);
    restoredScale.set(sourceScale);
    const restoredZero = this.buffers.f32('restored zero point', count);
    const arrays = {
      sourceScale,
      sourceOffset,
      restoredScale,
      restoredZero,
      scaleBits: new Int32Array(restoredScale.buffer, 0, count),
      zeroBits: new Int32Array(restoredZero.buffer, 0, count),
      scale,
      zeroPoint,
      slope,
      shift,
    };
    const constants: number[] = [];
    let changed = 0;
    for (let g = 0; g < count; g += CHUNK_GROUPS) {
      const end = Math.min(g + CHUNK_GROUPS, count);
      divide(arrays, g, end);
      roundInPlace(arrays, g, end, constants);
      changed += compare(arrays, g, end);
      this.#follow(arrays, g, end);
    }
    const zeroed: number[] = [];
    for (const g of constants) {
      const s = sourceScale[g]!;
      const o = sourceOffset[g]!;
      if (!isFiniteBf16(bf16FromNumber(s))) throw this.#notFinite('scale', s, g, rows);
      const bits = bf16FromNumber(o + 7.5 * s);
      if (!Number.isFinite(o) || !isFiniteBf16(bits)) throw this.#notFinite('offset', o, g, rows);
      const constant = flushedNumberFromBf16(bits);
      // Counted above as if it had become 0.
      if (s !== 0 || o !== 0) changed--;
      if (s !== 0 || o !== constant) changed++;
      scale[g] = constant === 0 ? 0 : bits;
      zeroPoint[g] = constant === 0 ? 0 : MINUS_ONE_BITS;
      slope[g] = s;
      shift[g] = o - constant;
      if (constant !== 0) zeroed.push(g);
      if (Math.abs(constant) * 16 > this.#reach) {
        this.#reach = Math.abs(constant) * 16;
        this.#reachScale = bits;
        this.#reachZeroPoint = MINUS_ONE_BITS;
      }
    }
    return { scale, zeroPoint, slope, shift, isLossless: changed === 0, constants: zeroed };
  }

  #follow({ restoredScale, restoredZero, scale, zeroPoint }: RoundingArrays, first: number, end: number): void {
    const furthest = furthestGroup(restoredScale, restoredZero, first, end);
    const reach = reachOf(restoredScale[furthest]!, restoredZero[furthest]!);
    if (reach <= this.#reach) return;
    this.#reach = reach;
    this.#reachScale = scale[furthest]!;
    this.#reachZeroPoint = zeroPoint[furthest]!;
  }

  #notFinite(what: 'scale' | 'offset', value: number, g: number, { firstRow, n, scale }: SourceRows) {
    const rowGroups = scale.length / n;
    return inTensor(
      this.weight.name,
      new SamebitsError(what === 'scale' ? 'SCALE_NOT_FINITE' : 'ZERO_POINT_NOT_FINITE', {
        rule: `the ${what === 'scale' ? 'scale' : 'zero point'} of a group must be finite in bf16`,
        expected: 'finite values',
        got: `${value} in row ${firstRow + Math.floor(g / rowGroups)}, group ${g % rowGroups}`,
        fix: 'The checkpoint is damaged or was quantized from non-finite weights; quantize it again.',
      }),
    );
  }
}

/** What rounding reads and writes, by group. The bits are views of the floats beside them. */
interface RoundingArrays {
  readonly sourceScale: Float64Array;
  readonly sourceOffset: Float64Array;
  readonly restoredScale: Float32Array;
  readonly restoredZero: Float32Array;
  readonly scaleBits: Int32Array;
  readonly zeroBits: Int32Array;
  readonly scale: Uint16Array;
  readonly zeroPoint: Uint16Array;
  readonly slope: Float64Array;
  readonly shift: Float64Array;
}

function divide({ sourceScale, sourceOffset, restoredZero }: RoundingArrays, first: number, end: number): void {
  for (let g = first; g < end; g++) {
    const s = sourceScale[g]!;
    restoredZero[g] = s === 0 ? 0 : -sourceOffset[g]! / s;
  }
}

/**
 * f32 bits to those of the nearest bf16, ties to even, and the bf16 bits beside them. Groups that are no scale and zero point
 * for the operator become 0 and go to `special`: a scale that counts as 0 or is not finite, a zero point beyond its reach.
 */
function roundInPlace(arrays: RoundingArrays, first: number, end: number, special: number[]): void {
  const { scaleBits, zeroBits, scale, zeroPoint } = arrays;
  for (let g = first; g < end; g++) {
    const s = scaleBits[g]!;
    const z = zeroBits[g]!;
    let roundedScale = (s + 0x7fff + ((s >>> 16) & 1)) & HIGH_HALF;
    let roundedZero = (z + 0x7fff + ((z >>> 16) & 1)) & HIGH_HALF;
    const exponent = roundedScale & EXPONENT_BITS;
    const isScale = exponent !== 0 && exponent !== EXPONENT_BITS && (s & EXPONENT_BITS) !== EXPONENT_BITS;
    if (!isScale || (z & MAGNITUDE_BITS) > MAX_ZERO_BITS) {
      special.push(g);
      roundedScale = 0;
      roundedZero = 0;
    } else if ((roundedZero & EXPONENT_BITS) === 0) {
      // A subnormal counts as 0 in the operator, so it is stored as 0.
      roundedZero = 0;
    }
    scaleBits[g] = roundedScale;
    zeroBits[g] = roundedZero;
    scale[g] = roundedScale >>> 16;
    zeroPoint[g] = roundedZero >>> 16;
  }
}

/** What the rounding took; gives the number of groups in which that is anything. */
function compare(arrays: RoundingArrays, first: number, end: number): number {
  const { sourceScale, sourceOffset, restoredScale, restoredZero, slope, shift } = arrays;
  let changed = 0;
  for (let g = first; g < end; g++) {
    const s = restoredScale[g]!;
    const a = sourceScale[g]! - s;
    const b = sourceOffset[g]! + restoredZero[g]! * s;
    slope[g] = a;
    shift[g] = b;
    if (a !== 0 || b !== 0) changed++;
  }
  return changed;
}

/** |s| * max(|z|, |15 - z|), the largest weight that codes can reach. */
function reachOf(scale: number, zero: number): number {
  return Math.abs(scale) * (zero > 7.5 ? zero : 15 - zero);
}

function furthestGroup(scale: Float32Array, zero: Float32Array, first: number, end: number): number {
  let furthest = first;
  let largest = 0;
  for (let g = first; g < end; g++) {
    const reach = reachOf(scale[g]!, zero[g]!);
    if (reach <= largest) continue;
    largest = reach;
    furthest = g;
  }
  return furthest;
}

/** Every value `times` times in a row. */
function repeat(values: Uint16Array, times: number): Uint16Array {
  if (times === 1) return values;
  const out = new Uint16Array(values.length * times);
  for (let i = 0; i < values.length; i++) out.fill(values[i]!, i * times, (i + 1) * times);
  return out;
}

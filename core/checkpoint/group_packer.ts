// Turns the scales and offsets of foreign formats into bf16 scales and zero points, and measures what the rounding did.

import { SamebitsError } from '../errors.js';
import { MAX_ZERO_POINT, type WeightShape, weightShape } from '../limits.js';
import { weightExponent } from '../validate.js';
import type { PackedRows } from './samebits_writer.js';
import type { SourceRows, SourceWeight } from './source_weight.js';
import { inTensor } from './tensor_error.js';
import type { WeightChange } from './weight_change.js';

const f32 = new Float32Array(1);
const f32Bits = new Uint32Array(f32.buffer);

const MINUS_ONE_BITS = 0xbf80;
const EXPONENT_BITS = 0x7f80;
const WORD_CODES = 8;
/** So many words' sums of squares fit the 16 bits that the table packs them in. */
const CHUNK_WORDS = 32;

/** For each byte of two codes: their sum in the low half, the sum of their squares in the high half. */
const MOMENTS = Uint32Array.from({ length: 256 }, (_, byte) => {
  const [low, high] = [byte & 15, byte >> 4];
  return (low + high) | ((low * low + high * high) << 16);
});

/**
 * The shape in which a weight is packed. A group size that is no power of two is split into the largest one that divides
 * it, which changes nothing: the parts share scale and zero point.
 * @throws SamebitsError N_, K_, GROUP_SIZE_UNSUPPORTED, naming the weight
 */
export function packedShape({
  name,
  n,
  k,
  groupSize,
}: Pick<SourceWeight, 'name' | 'n' | 'k' | 'groupSize'>): WeightShape {
  try {
    // A lone group of 16 is of no use to a K of whole blocks, but two of them are.
    const isWhole = Number.isInteger(groupSize) && groupSize > 0 && k % groupSize === 0;
    return weightShape(n, k, isWhole ? groupSize & -groupSize : groupSize);
  } catch (error) {
    throw inTensor(name, error);
  }
}

/** Packs one weight, some rows at a time. */
export class GroupPacker {
  readonly shape: WeightShape;
  #isLossless = true;
  #sumOfSquares = 0;
  #sumOfSquaredChanges = 0;
  #largestChange = 0;
  // The pair that reaches furthest decides the whole tensor's exponent; slices alone could not.
  #reach = -1;
  #reachScale = 0;
  #reachZeroPoint = 0;

  /** @throws SamebitsError N_, K_, GROUP_SIZE_UNSUPPORTED, naming the weight */
  constructor(private readonly weight: Pick<SourceWeight, 'name' | 'n' | 'k' | 'groupSize'>) {
    this.shape = packedShape(weight);
  }

  /** Of the rows so far. */
  get change(): WeightChange {
    const relativeRms = this.#sumOfSquares === 0 ? 0 : Math.sqrt(this.#sumOfSquaredChanges / this.#sumOfSquares);
    return { isLossless: this.#isLossless, relativeRms, largest: this.#largestChange };
  }

  /**
   * bf16 scale and zero point of every group; changes `qdata` in place where a group is a constant.
   * @throws SamebitsError SCALE_NOT_FINITE, ZERO_POINT_NOT_FINITE, naming the weight
   */
  pack({ firstRow, n, qdata, scale: sourceScale, offset: sourceOffset }: SourceRows): PackedRows {
    const { groupSize } = this.weight;
    const splits = groupSize / this.shape.groupSize;
    const scale = new Uint16Array(sourceScale.length * splits);
    const zeroPoint = new Uint16Array(scale.length);
    const words = new Uint32Array(qdata.buffer, qdata.byteOffset, qdata.byteLength / 4);
    const groupWords = groupSize / WORD_CODES;
    for (let g = 0; g < sourceScale.length; g++) {
      const s = sourceScale[g]!;
      const o = sourceOffset[g]!;
      let scaleBits = bf16Bits(s);
      if ((scaleBits & EXPONENT_BITS) === EXPONENT_BITS)
        throw this.#notFinite('scale', s, firstRow, n, g, sourceScale.length);
      let zeroBits = 0;
      // A subnormal scale counts as 0 in the operator, and a zero point beyond its reach means a group that varies
      // less than bf16 can tell: both are constants.
      const zero = s === 0 ? 0 : -o / s;
      const isConstant = (scaleBits & EXPONENT_BITS) === 0 || Math.abs(zero) > MAX_ZERO_POINT;
      let restoredScale = 0;
      let restoredOffset = 0;
      if (isConstant) {
        const constant = o + 7.5 * s;
        scaleBits = flushed(bf16Bits(constant));
        if (!Number.isFinite(o) || (scaleBits & EXPONENT_BITS) === EXPONENT_BITS) {
          throw this.#notFinite('offset', o, firstRow, n, g, sourceScale.length);
        }
        zeroBits = scaleBits === 0 ? 0 : MINUS_ONE_BITS;
        restoredOffset = bf16Value(scaleBits);
      } else {
        zeroBits = flushed(bf16Bits(zero));
        if (!Number.isFinite(zero)) throw this.#notFinite('offset', o, firstRow, n, g, sourceScale.length);
        restoredScale = bf16Value(scaleBits);
        restoredOffset = -bf16Value(zeroBits) * restoredScale;
      }
      this.#measure(words, g * groupWords, groupWords, s, o, s - restoredScale, o - restoredOffset);
      if (isConstant && scaleBits !== 0) words.fill(0, g * groupWords, (g + 1) * groupWords);
      this.#follow(scaleBits, zeroBits);
      for (let i = g * splits; i < (g + 1) * splits; i++) {
        scale[i] = scaleBits;
        zeroPoint[i] = zeroBits;
      }
    }
    return { firstRow, qdata, scale, zeroPoint };
  }

  /**
   * After the last row.
   * @throws SamebitsError WEIGHT_EXPONENT_OUT_OF_RANGE, naming the weight
   */
  finish(): void {
    try {
      weightExponent(Uint16Array.of(this.#reachScale), Uint16Array.of(this.#reachZeroPoint));
    } catch (error) {
      throw inTensor(this.weight.name, error);
    }
  }

  /**
   * Over a group, the change of weight i is `slope * q_i + shift`: sums over codes and their squares give the sums over
   * weights. The largest needs the codes themselves, but only where the group could hold it.
   */
  #measure(words: Uint32Array, first: number, count: number, s: number, o: number, slope: number, shift: number): void {
    let sum = 0;
    let sumOfSquares = 0;
    for (let start = first; start < first + count; start += CHUNK_WORDS) {
      const end = Math.min(start + CHUNK_WORDS, first + count);
      let packed = 0;
      for (let i = start; i < end; i++) {
        const word = words[i]!;
        packed +=
          MOMENTS[word & 255]! + MOMENTS[(word >>> 8) & 255]! + MOMENTS[(word >>> 16) & 255]! + MOMENTS[word >>> 24]!;
      }
      sum += packed & 0xffff;
      sumOfSquares += packed >>> 16;
    }
    const codes = count * WORD_CODES;
    this.#sumOfSquares += s * s * sumOfSquares + 2 * s * o * sum + codes * o * o;
    if (slope === 0 && shift === 0) return;
    this.#isLossless = false;
    this.#sumOfSquaredChanges += slope * slope * sumOfSquares + 2 * slope * shift * sum + codes * shift * shift;
    if (Math.max(Math.abs(shift), Math.abs(15 * slope + shift)) <= this.#largestChange) return;
    for (let i = first; i < first + count; i++) {
      for (let bit = 0; bit < 32; bit += 4) {
        const change = Math.abs(slope * ((words[i]! >>> bit) & 15) + shift);
        if (change > this.#largestChange) this.#largestChange = change;
      }
    }
  }

  #follow(scaleBits: number, zeroBits: number): void {
    const zero = bf16Value(zeroBits);
    const reach = Math.abs(bf16Value(scaleBits)) * Math.max(Math.abs(zero), Math.abs(15 - zero));
    if (reach <= this.#reach) return;
    this.#reach = reach;
    this.#reachScale = scaleBits;
    this.#reachZeroPoint = zeroBits;
  }

  #notFinite(what: 'scale' | 'offset', value: number, firstRow: number, n: number, g: number, groups: number) {
    const rowGroups = groups / n;
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

/** RNE to f32, then RNE to bf16; NaN gives Inf's exponent like any value that is not finite. */
function bf16Bits(value: number): number {
  f32[0] = value;
  const bits = f32Bits[0]!;
  if ((bits & 0x7f800000) === 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

function bf16Value(bits: number): number {
  f32Bits[0] = bits << 16;
  return f32[0]!;
}

/** A subnormal counts as 0 in the operator, so it is stored as 0. */
function flushed(bits: number): number {
  return (bits & EXPONENT_BITS) === 0 ? 0 : bits;
}

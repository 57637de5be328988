// Packs the groups of foreign formats into the operator's, and measures what rounding their scales and zero points did.

import { bf16FromNumber, flushedNumberFromBf16, isFiniteBf16 } from '../bf16.js';
import { SamebitsError } from '../errors.js';
import type { WeightShape } from '../limits.js';
import { weightExponent } from '../validate.js';
import { addChanges, type ChangeSums, CODES_PER_WORD } from './code_moments.js';
import { CHUNK_GROUPS, type RoundedGroups, roundGroups } from './group_rounding.js';
import { packedShape, type UnpackedShape } from './packed_shape.js';
import type { PackedRows } from './samebits_writer.js';
import { SliceBuffers } from './slice_buffers.js';
import type { SourceRows } from './source_weight.js';
import { inTensor } from './tensor_error.js';
import type { WeightChange } from './weight_change.js';

const MINUS_ONE_BITS = 0xbf80;

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
    const { firstRow, qdata, groups } = rows;
    const scale = this.buffers.u16('scale', groups.count);
    const zeroPoint = this.buffers.u16('zero point', groups.count);
    for (let first = 0; first < groups.count; first += CHUNK_GROUPS) {
      const end = Math.min(first + CHUNK_GROUPS, groups.count);
      this.#packGroups(rows, first, end, scale, zeroPoint);
    }
    const splits = this.weight.groupSize / this.shape.groupSize;
    return { firstRow, qdata, scale: repeat(scale, splits), zeroPoint: repeat(zeroPoint, splits) };
  }

  /**
   * After the last row. While nothing was lost nothing is measured, which is most of the work; should a late group have lost
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
    for await (const rows of slices()) this.pack(rows);
  }

  #packGroups(rows: SourceRows, first: number, end: number, scale: Uint16Array, zeroPoint: Uint16Array): void {
    const rounded = roundGroups(rows.groups, first, end, scale, zeroPoint);
    const { zeroed, changedCount } = this.#packConstants(rows, rounded, first, scale, zeroPoint);
    if (rounded.changedCount + changedCount > 0) this.#isLossless = false;
    if (rounded.reach > this.#reach) {
      this.#reach = rounded.reach;
      this.#reachScale = scale[first + rounded.furthest]!;
      this.#reachZeroPoint = zeroPoint[first + rounded.furthest]!;
    }
    const wordsPerGroup = this.weight.groupSize / CODES_PER_WORD;
    const words = new Int32Array(rows.qdata.buffer, rows.qdata.byteOffset, rows.qdata.byteLength / 4);
    if (this.#isLossless) this.#hasSkipped = true;
    else addChanges(words, first * wordsPerGroup, wordsPerGroup, end - first, rounded, this.#sums);
    for (const g of zeroed) words.fill(0, g * wordsPerGroup, (g + 1) * wordsPerGroup);
  }

  /**
   * A group without a usable scale is a constant: code 0, zero point -1, and the constant for a scale. Gives the groups
   * whose codes must become 0, and by how many the groups that changed are more than with such a group at 0.
   */
  #packConstants(
    rows: SourceRows,
    { special, scale: sourceScale, offset, slope, shift }: RoundedGroups,
    first: number,
    scale: Uint16Array,
    zeroPoint: Uint16Array,
  ): { readonly zeroed: readonly number[]; readonly changedCount: number } {
    const zeroed: number[] = [];
    let changedCount = 0;
    for (const index of special) {
      const g = first + index;
      const s = sourceScale[index]!;
      const o = offset[index]!;
      if (!isFiniteBf16(bf16FromNumber(s))) throw this.#notFinite('scale', s, g, rows);
      const bits = bf16FromNumber(o + 7.5 * s);
      if (!Number.isFinite(o) || !isFiniteBf16(bits)) throw this.#notFinite('offset', o, g, rows);
      const constant = flushedNumberFromBf16(bits);
      if (s !== 0 || o !== 0) changedCount--;
      if (s !== 0 || o !== constant) changedCount++;
      scale[g] = constant === 0 ? 0 : bits;
      zeroPoint[g] = constant === 0 ? 0 : MINUS_ONE_BITS;
      slope[index] = s;
      shift[index] = o - constant;
      if (constant !== 0) zeroed.push(g);
      if (Math.abs(constant) * 16 > this.#reach) {
        this.#reach = Math.abs(constant) * 16;
        this.#reachScale = bits;
        this.#reachZeroPoint = MINUS_ONE_BITS;
      }
    }
    return { zeroed, changedCount };
  }

  #notFinite(what: 'scale' | 'offset', value: number, g: number, { firstRow, n, groups }: SourceRows) {
    const rowGroups = groups.count / n;
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

/** Every value `times` times in a row. */
function repeat(values: Uint16Array, times: number): Uint16Array {
  if (times === 1) return values;
  const out = new Uint16Array(values.length * times);
  for (let i = 0; i < values.length; i++) out.fill(values[i]!, i * times, (i + 1) * times);
  return out;
}

// Packs weights of foreign formats into the default form, and measures what rounding their scales and zero points did.

import { bf16FromNumber, flushedNumberFromBf16, isFiniteBf16 } from '../bf16.js';
import { SamebitsError } from '../errors.js';
import { hasOffset } from '../forms.js';
import { exponentOfReach } from '../weight_exponent.js';
import type { KernelMemory } from './kernel_memory.js';
import type { PackedShape } from './packed_parts.js';
import { type Packer, repeatEach } from './packer.js';
import type { PackedRows } from './samebits_writer.js';
import type { SourceRows, SourceWeight } from './source_weight.js';
import { inTensor } from './tensor_error.js';
import type { WeightChange } from './weight_change.js';

const MINUS_ONE_BITS = 0xbf80;

/** Places in the results of the kernels (kernels/groups.ts). */
const RESULT = { reach: 0, changed: 1, special: 2, squares: 3, squaredChanges: 4, largest: 5, count: 6 };
const CODES_PER_BYTE = 2;

/** A scale and a zero point in bf16 for every group. */
export class RoundingPacker implements Packer {
  // What the kernels add to; their memory is used by one weight after the other.
  #sums = new Float64Array(RESULT.count);
  #isLossless = true;
  #hasSkipped = false;

  constructor(
    private readonly weight: SourceWeight,
    private readonly shape: PackedShape,
    private readonly memory: KernelMemory,
  ) {}

  async *rows(): AsyncGenerator<PackedRows & { readonly readBytes: number }> {
    for await (const rows of this.weight.slices(this.memory)) {
      yield { ...this.#pack(rows), readBytes: rows.readBytes };
    }
    await this.#finish();
  }

  get change(): WeightChange {
    const [squares, squaredChanges] = [this.#sums[RESULT.squares]!, this.#sums[RESULT.squaredChanges]!];
    // Sums of squares by their terms can end just below zero.
    const squared = squares > 0 ? Math.max(0, squaredChanges / squares) : 0;
    return { isLossless: this.#isLossless, relativeRms: Math.sqrt(squared), largest: this.#sums[RESULT.largest]! };
  }

  /** Changes the codes in place where a group is a constant. */
  #pack(rows: SourceRows): PackedRows {
    const { firstRow, n, space } = rows;
    const count = (n * this.weight.k) / this.weight.groupSize;
    const chunk = this.#chunkOf(rows, count);
    chunk.results.set(this.#sums);
    for (let first = 0; first < count; first += chunk.size) {
      this.#packGroups(rows, chunk, first, Math.min(chunk.size, count - first));
    }
    this.#sums = chunk.results.slice();
    const splits = this.weight.groupSize / this.shape.groupSize;
    return {
      firstRow,
      qdata: space.qdata.bytes((n * this.weight.k) / CODES_PER_BYTE),
      groups: {
        scale: repeatEach(chunk.scaleOut, splits),
        second: repeatEach(chunk.zeroPointOut, splits),
        steps: null,
      },
    };
  }

  /** While nothing was lost nothing is measured; should a late group lose something, the weights before it count too. */
  async #finish(): Promise<void> {
    try {
      exponentOfReach(this.#sums[RESULT.reach]!);
    } catch (error) {
      throw inTensor(this.weight.name, error);
    }
    if (this.#isLossless || !this.#hasSkipped) return;
    this.#sums.fill(0, RESULT.squares);
    for await (const rows of this.weight.slices(this.memory)) this.#pack(rows);
  }

  /** Views of what the kernels keep of some groups, and of where those are packed. */
  #chunkOf({ space }: SourceRows, count: number): Chunk {
    const { memory } = this;
    const { CHUNK_GROUPS, scales, offsets, slopes, shifts, specials, results } = memory.kernels;
    const size: number = CHUNK_GROUPS.value;
    const f64 = (at: WebAssembly.Global) => memory.region(at.value, 8 * size).f64(size);
    return {
      size,
      scale: f64(scales),
      offset: f64(offsets),
      slope: f64(slopes),
      shift: f64(shifts),
      specials: memory.region(specials.value, 4 * size).u32(size),
      results: memory.region(results.value, 8 * RESULT.count).f64(RESULT.count),
      scaleOut: space.packedScale.u16(count),
      zeroPointOut: space.packedSecond.u16(count),
    };
  }

  #packGroups(rows: SourceRows, chunk: Chunk, first: number, count: number): void {
    const { roundGroups, addChanges } = this.memory.kernels;
    const { scale, second, qdata, packedScale, packedSecond } = rows.space;
    const { form, groupSize } = this.weight;
    const [from, to] = [4 * first, 2 * first];
    roundGroups(
      scale.address + from,
      second.address + from,
      hasOffset(form),
      form.center,
      count,
      packedScale.address + to,
      packedSecond.address + to,
    );
    const { results } = chunk;
    const { zeroed, changedCount } = results[RESULT.special] === 0 ? NONE : this.#packConstants(rows, chunk, first);
    if (results[RESULT.changed]! + changedCount > 0) this.#isLossless = false;
    const groupBytes = groupSize / CODES_PER_BYTE;
    if (this.#isLossless) this.#hasSkipped = true;
    else addChanges(qdata.address + first * groupBytes, groupBytes, count);
    if (zeroed.length === 0) return;
    const words = qdata.u32(qdata.sizeBytes / 4);
    const groupWords = groupBytes / 4;
    for (const g of zeroed) for (let i = g * groupWords; i < (g + 1) * groupWords; i++) words[i] = 0;
  }

  /**
   * A group without a usable scale is a constant: code 0, zero point -1, and the constant for a scale.
   */
  #packConstants(
    rows: SourceRows,
    { scale: sourceScale, offset, slope, shift, specials, results, scaleOut: scale, zeroPointOut: zeroPoint }: Chunk,
    first: number,
  ): Constants {
    const zeroed: number[] = [];
    let changedCount = 0;
    const count = results[RESULT.special]!;
    for (let i = 0; i < count; i++) {
      const index = specials[i]!;
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
      results[RESULT.reach] = Math.max(results[RESULT.reach]!, Math.abs(constant) * 16);
    }
    return { zeroed, changedCount };
  }

  #notFinite(what: 'scale' | 'offset', value: number, g: number, { firstRow }: SourceRows) {
    const rowGroups = this.weight.k / this.weight.groupSize;
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

/** What is known of the groups that were rounded last, in the kernels' memory. */
interface Chunk {
  /** The most groups of a call. */
  readonly size: number;
  /** What the source says: `scale * q + offset`. */
  readonly scale: Float64Array;
  readonly offset: Float64Array;
  /** It became `(scale - slope) * q + (offset - shift)`. */
  readonly slope: Float64Array;
  readonly shift: Float64Array;
  /** Groups that are no scale and zero point for the operator: they were rounded to 0. */
  readonly specials: Uint32Array;
  readonly results: Float64Array;
  /** bf16 bits, of all rows. */
  readonly scaleOut: Uint16Array;
  readonly zeroPointOut: Uint16Array;
}

/** What became of groups that are a constant. */
interface Constants {
  /** Groups whose codes must become 0. */
  readonly zeroed: readonly number[];
  /** By how many the groups that changed are more than with such a group at 0. */
  readonly changedCount: number;
}

const NONE: Constants = { zeroed: [], changedCount: 0 };

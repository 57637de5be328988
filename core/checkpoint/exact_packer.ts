// Packs weights of foreign formats in their own form: scales, and zero points or offsets, as the source has them.

import { flushedNumberFromBf16 } from '../bf16.js';
import { SamebitsError } from '../errors.js';
import { numberFromF16 } from '../f16.js';
import { hasOffset } from '../forms.js';
import { MAX_ZERO_POINT } from '../limits.js';
import { exponentOfReach } from '../weight_exponent.js';
import type { KernelMemory } from './kernel_memory.js';
import type { PackedShape } from './packed_parts.js';
import { type Packer, repeatEach } from './packer.js';
import type { PackedRows } from './samebits_writer.js';
import type { SourceRows, SourceWeight } from './source_weight.js';
import { inTensor } from './tensor_error.js';
import type { WeightChange } from './weight_change.js';

/** Places in the results of the kernel (kernels/narrow.ts). */
const RESULT = { reach: 0, changed: 1, infinite: 2, count: 3 };

/** 16 bits each for scale, and zero point or offset; only a source with more than that loses anything. */
export class ExactPacker implements Packer {
  change: WeightChange = { isLossless: true, relativeRms: 0, largest: 0 };

  constructor(
    private readonly weight: SourceWeight,
    private readonly shape: PackedShape,
    private readonly memory: KernelMemory,
  ) {}

  async *rows(): AsyncGenerator<PackedRows & { readonly readBytes: number }> {
    const { weight, memory } = this;
    let results = new Float64Array(RESULT.count);
    for await (const rows of weight.slices(memory)) {
      const place = memory.region(memory.kernels.narrowed.value, 8 * RESULT.count).f64(RESULT.count);
      place.set(results);
      const packed = this.#narrow(rows);
      results = place.slice();
      if (results[RESULT.infinite] !== 0) this.#refuseInfinite(rows, packed);
      if (this.shape.form.kind === 'zero') this.#refuseFar(rows);
      yield { ...packed, readBytes: rows.readBytes };
    }
    try {
      exponentOfReach(results[RESULT.reach]!);
    } catch (error) {
      throw inTensor(weight.name, error);
    }
    if (results[RESULT.changed] !== 0) this.change = await this.#measure();
  }

  #narrow({ firstRow, n, space }: SourceRows): PackedRows {
    const { weight, shape, memory } = this;
    const { form } = shape;
    const count = (n * weight.k) / weight.groupSize;
    memory.kernels.narrowGroups(
      space.scale.address,
      space.second.address,
      hasOffset(form),
      Math.max(form.center, 15 - form.center),
      form.dtype === 'f16',
      count,
      space.packedScale.address,
      space.packedSecond.address,
    );
    const splits = weight.groupSize / shape.groupSize;
    const ofGroups = (values: Uint16Array) => repeatEach(values, splits);
    return {
      firstRow,
      qdata: space.qdata.bytes((n * weight.k) / 2),
      groups: {
        scale: ofGroups(space.packedScale.u16(count)),
        second: ofGroups(space.packedSecond.u16(count)),
        steps: null,
      },
    };
  }

  /** What narrowing took, of all rows: they come again, for almost no source needs this. */
  async #measure(): Promise<WeightChange> {
    const { weight, shape, memory } = this;
    const { form } = shape;
    const decode = form.dtype === 'f16' ? numberFromF16 : flushedNumberFromBf16;
    const offsetOf = (scale: number, second: number) =>
      hasOffset(form) ? second - form.center * scale : -second * scale;
    let squares = 0;
    let squaredChanges = 0;
    let largest = 0;
    for await (const rows of weight.slices(memory)) {
      const { n, space } = rows;
      this.#narrow(rows);
      const count = (n * weight.k) / weight.groupSize;
      const [scale, second] = [space.scale.f32(count), space.second.f32(count)];
      const [packedScale, packedSecond] = [space.packedScale.u16(count), space.packedSecond.u16(count)];
      const qdata = space.qdata.bytes((n * weight.k) / 2);
      const groupBytes = weight.groupSize / 2;
      for (let g = 0; g < count; g++) {
        const [slope, offset] = [scale[g]!, offsetOf(scale[g]!, second[g]!)];
        const narrowSlope = decode(packedScale[g]!);
        const narrowOffset = offsetOf(narrowSlope, decode(packedSecond[g]!));
        for (let i = g * groupBytes; i < (g + 1) * groupBytes; i++) {
          for (const q of [qdata[i]! & 15, qdata[i]! >> 4]) {
            const change = (slope - narrowSlope) * q + (offset - narrowOffset);
            squares += (slope * q + offset) ** 2;
            squaredChanges += change ** 2;
            largest = Math.max(largest, Math.abs(change));
          }
        }
      }
    }
    return { isLossless: false, relativeRms: squares === 0 ? 0 : Math.sqrt(squaredChanges / squares), largest };
  }

  #refuseInfinite({ n, firstRow, space }: SourceRows, { groups }: PackedRows): never {
    const { form, nGroups } = this.shape;
    const exponent = form.dtype === 'f16' ? 0x7c00 : 0x7f80;
    const isInfinite = (bits: number) => (bits & exponent) === exponent;
    const inScale = groups.scale.findIndex(isInfinite);
    const at = inScale < 0 ? groups.second.findIndex(isInfinite) : inScale;
    const count = (n * this.weight.k) / this.weight.groupSize;
    const values = (inScale < 0 ? space.second : space.scale).f32(count);
    const what = inScale >= 0 ? 'scale' : hasOffset(form) ? 'offset' : 'zero point';
    const code = inScale >= 0 ? 'SCALE_NOT_FINITE' : hasOffset(form) ? 'OFFSET_NOT_FINITE' : 'ZERO_POINT_NOT_FINITE';
    const value = values[Math.floor((at * count) / groups.scale.length)]!;
    throw inTensor(
      this.weight.name,
      new SamebitsError(code, {
        rule: `the ${what} of a group must be finite in ${form.dtype}`,
        expected: 'finite values',
        got: `${value} in row ${firstRow + Math.floor(at / nGroups)}, group ${at % nGroups}`,
        fix: Number.isFinite(value)
          ? 'Convert with --rounded (`rounded: true`): bf16 reaches further.'
          : 'The checkpoint is damaged or was quantized from non-finite weights; quantize it again.',
      }),
    );
  }

  #refuseFar({ n, firstRow, space }: SourceRows): void {
    const count = (n * this.weight.k) / this.weight.groupSize;
    const at = this.memory.kernels.firstOutside(space.second.address, 0, count, -MAX_ZERO_POINT, MAX_ZERO_POINT);
    if (at < 0) return;
    const rowGroups = this.weight.k / this.weight.groupSize;
    throw inTensor(
      this.weight.name,
      new SamebitsError('ZERO_POINT_OUT_OF_RANGE', {
        rule: 'zeroPoint must not exceed 65536 in magnitude',
        expected: `at most ${MAX_ZERO_POINT}`,
        got: `${space.second.f32(count)[at]} in row ${firstRow + Math.floor(at / rowGroups)}, group ${at % rowGroups}`,
        fix: 'The checkpoint is damaged; fetch it again.',
      }),
    );
  }
}

// Passes on weights whose source has codes and steps of scales already: nothing is computed, only checked.

import { GroupNumbers, groupsPerStep } from '../forms.js';
import { checkScaleValues } from '../validate.js';
import { exponentOfReach, reachOf } from '../weight_exponent.js';
import type { KernelMemory } from './kernel_memory.js';
import type { PackedShape } from './packed_parts.js';
import type { Packer } from './packer.js';
import type { NestedRows, SourceWeight } from './source_weight.js';
import { inTensor } from './tensor_error.js';
import type { WeightChange } from './weight_change.js';

export class NestedPacker implements Packer {
  readonly change: WeightChange = { isLossless: true, relativeRms: 0, largest: 0 };

  constructor(
    private readonly weight: SourceWeight & Required<Pick<SourceWeight, 'nestedSlices'>>,
    private readonly shape: PackedShape,
    private readonly memory: KernelMemory,
  ) {}

  async *rows(): AsyncGenerator<NestedRows> {
    const { name } = this.weight;
    let reach = 0;
    for await (const rows of this.weight.nestedSlices(this.memory)) {
      try {
        checkScaleValues(this.shape.form, this.shape, rows.groups);
      } catch (error) {
        throw inTensor(name, error, rows.firstRow === 0 ? '' : `, rows counted from ${rows.firstRow}`);
      }
      reach = Math.max(reach, this.#reachOf(rows));
      yield rows;
    }
    try {
      exponentOfReach(reach);
    } catch (error) {
      throw inTensor(name, error);
    }
  }

  #reachOf({ groups }: NestedRows): number {
    const { form } = this.shape;
    const numbers = new GroupNumbers(form, groups, this.shape);
    const perStep = groupsPerStep(this.shape);
    let reach = 0;
    for (let first = 0; first < groups.scale.length; first += perStep) {
      // Decoded once for all groups that share them: this loop is most of a conversion.
      const [scaleStep, secondStep] = [numbers.scaleStep(first), numbers.secondStep(first)];
      for (let i = first; i < first + perStep; i++) {
        reach = Math.max(reach, reachOf(form, numbers.scaleCode(i) * scaleStep, numbers.secondCode(i) * secondStep));
      }
    }
    return reach;
  }
}

// The seam between formats: what an importer finds in a checkpoint, and how it hands over a 4-bit weight.

import { SamebitsError } from '../errors.js';
import type { HalfDtype, NestedGroups, WeightForm } from '../forms.js';
import type { KernelMemory } from './kernel_memory.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { packedShape } from './packed_shape.js';
import type { PackedRows } from './samebits_writer.js';
import type { SliceSpace } from './slice_space.js';
import { quoted } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';

/** Some rows of a 4-bit weight in the source's own terms. Good until the next rows come. */
export interface SourceRows {
  readonly firstRow: number;
  /** Rows. */
  readonly n: number;
  /**
   * Holds qdata, scale and second, a zero point or an offset as the form has it, of these rows. Belongs to the receiver, who may
   * change it.
   */
  readonly space: SliceSpace;
  /** Bytes of the source that these rows took. */
  readonly readBytes: number;
}

/** Rows as they are stored. Good until the next rows come. */
export interface NestedRows extends PackedRows {
  readonly groups: NestedGroups;
  readonly readBytes: number;
}

/** A 4-bit weight of a foreign format. */
export interface SourceWeight {
  /** What it is called once packed: its module's name and `.weight`. */
  readonly name: string;
  /** For people and for the tag's `source`: `gptq:v1`, `gguf:Q4_K`. */
  readonly format: string;
  /** The tensors it is made of. */
  readonly parts: readonly ModelTensor[];
  readonly n: number;
  readonly k: number;
  /** Weights that share a scale in the source; it divides K. */
  readonly groupSize: number;
  /** What its codes stand for; packed in this form it loses nothing, unless the source's numbers are f32. */
  readonly form: WeightForm;
  /** All rows once, in order, in slices of bounded size, in a memory that it has for itself. Errors name the tensor. */
  slices(memory: KernelMemory): AsyncGenerator<SourceRows>;
  /** Of a nested form: the same rows with their codes and steps instead of the numbers that these make. */
  readonly nestedSlices?: (memory: KernelMemory) => AsyncGenerator<NestedRows>;
}

/** What an importer makes of the tensors that belong together. */
export type Found =
  | { readonly kind: 'weight'; readonly weight: SourceWeight }
  /** Not to be packed, and no reason to refuse the rest: another width in a mixed checkpoint. */
  | { readonly kind: 'left'; readonly name: string; readonly parts: readonly ModelTensor[]; readonly reason: string }
  /** The conversion is refused with this unless the weight is excluded. */
  | {
      readonly kind: 'refused';
      readonly name: string;
      readonly parts: readonly ModelTensor[];
      readonly error: SamebitsError;
    };

/** One format: finds its weights by names, dtypes and config. Gives nothing for a checkpoint of another format. */
export type Importer = (model: ModelCheckpoint, layout: LayoutChoice) => Promise<readonly Found[]>;

/** Codes with a zero point, `(q - second) * scale`; scales of this element type. */
export function zeroForm(dtype: string): WeightForm {
  return { kind: 'zero', dtype: halfOf(dtype), center: 0 };
}

/** Codes with an offset, `(q - center) * scale + second`; scales of this element type. */
export function offsetForm(dtype: string, center: 0 | 8): WeightForm {
  return { kind: 'offset', dtype: halfOf(dtype), center };
}

/** f16 is closer to scales in f32, which are far from its limits. */
const halfOf = (dtype: string): HalfDtype => (dtype === 'BF16' ? 'bf16' : 'f16');

/** The outcome of `make`: the weight, or the refusal that it ended with, its shape being one that can be packed included. */
export async function foundWeight(
  name: string,
  parts: readonly ModelTensor[],
  make: () => SourceWeight | Promise<SourceWeight>,
): Promise<Found> {
  try {
    const weight = await make();
    packedShape(weight);
    return { kind: 'weight', weight };
  } catch (error) {
    if (error instanceof SamebitsError) return { kind: 'refused', name, parts, error };
    throw error;
  }
}

/** FILE_FORMAT_UNSUPPORTED for one weight. */
export function unsupportedWeight(name: string, rule: string, expected: string, got: string, fix?: string) {
  return new SamebitsError('FILE_FORMAT_UNSUPPORTED', {
    rule: `weight ${quoted(name)}: ${rule}`,
    expected,
    got,
    fix: fix ?? "Leave it out with --exclude, or start from the model's unquantized weights.",
  });
}

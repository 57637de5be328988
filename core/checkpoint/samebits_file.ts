// Opens a samebits checkpoint: packed weights as CoalescedInt4Tensor, every other tensor as its bytes.

import { CoalescedInt4Tensor } from '../coalesced_int4_tensor.js';
import { COALESCED_LAYOUT, partsOf } from '../coalesced_parts.js';
import { SamebitsError } from '../errors.js';
import type { Dtype } from './dtypes.js';
import { arraysOf, type PackedShape, packedParts, QDATA_SUFFIX } from './packed_parts.js';
import type { TensorInfo } from './safetensors_header.js';
import { openSafetensors, type SafetensorsFile } from './safetensors_reader.js';
import type { RandomAccessSource } from './source.js';
import { readTag } from './tag.js';
import { inTensor, quoted } from './tensor_error.js';

/** An open samebits checkpoint. Every name, dtype and shape has been checked; values are checked as they are read. */
export class SamebitsFile {
  constructor(
    private readonly file: SafetensorsFile,
    /** N, K, groupSize, nGroups and form of every packed weight, by name. */
    readonly weights: ReadonlyMap<string, PackedShape>,
    /** Every other tensor, in the order of its data. */
    readonly plainTensors: ReadonlyMap<string, TensorInfo>,
    /** What the file was converted from, e.g. `hf:bf16`; undefined when it does not say. */
    readonly convertedFrom: string | undefined,
  ) {}

  get name(): string {
    return this.file.name;
  }

  /**
   * One packed weight, checked again as a whole.
   * @throws SamebitsError FILE_TENSOR_MISSING; SCALE_NOT_FINITE, ZERO_POINT_NOT_FINITE, OFFSET_NOT_FINITE,
   * ZERO_POINT_OUT_OF_RANGE, WEIGHT_EXPONENT_OUT_OF_RANGE, naming the tensor
   */
  async readWeight(name: string): Promise<CoalescedInt4Tensor> {
    const shape = this.weights.get(name);
    if (!shape) throw this.missing(name, 'a packed weight', [...this.weights.keys()]);
    const bytes: Uint8Array<ArrayBuffer>[] = [];
    for (const { suffix } of packedParts(shape)) bytes.push(await this.file.read(name + suffix));
    try {
      return new CoalescedInt4Tensor(partsOf({ ...shape, ...arraysOf(shape.form, bytes) }));
    } catch (error) {
      throw inTensor(name, error);
    }
  }

  /** The bytes of a plain tensor, little-endian, or some of them. @throws SamebitsError FILE_TENSOR_MISSING */
  async readPlain(name: string, start?: number, length?: number): Promise<Uint8Array<ArrayBuffer>> {
    if (!this.plainTensors.has(name)) throw this.missing(name, 'a plain tensor', [...this.plainTensors.keys()]);
    return this.file.read(name, start, length);
  }

  close(): Promise<void> {
    return this.file.close();
  }

  private missing(name: string, what: string, names: readonly string[]): SamebitsError {
    const some = names.slice(0, 3).map(quoted).join(', ');
    return new SamebitsError('FILE_TENSOR_MISSING', {
      rule: `${quoted(name)} must be ${what} of ${this.name}`,
      expected:
        names.length === 0
          ? 'a file that holds one'
          : `one of ${names.length}: ${some}${names.length > 3 ? ', …' : ''}`,
      got: 'a name that is not there',
      fix: "List the names with 'samebits inspect'.",
    });
  }
}

/**
 * Opens a tagged file and checks its structure. On success the file owns `source`; on an error the caller still does.
 * @throws SamebitsError what openSafetensors and readTag throw; FILE_TENSOR_MISSING, FILE_TENSOR_INVALID,
 * LAYOUT_NATIVE_SCALE, naming the tensor
 */
export async function openSamebitsFile(source: RandomAccessSource): Promise<SamebitsFile> {
  return asSamebitsFile(await openSafetensors(source));
}

/** The same for a safetensors file that is already open. */
export function asSamebitsFile(file: SafetensorsFile): SamebitsFile {
  const weights = readTag(file);
  const plain = new Map(file.tensors);
  for (const [name, shape] of weights) {
    for (const { suffix, dtype, columns, words } of packedParts(shape)) {
      const expected = [shape.n, columns];
      if (suffix !== QDATA_SUFFIX) refuseNative(file, name + suffix, words, expected);
      checkPart(file, name + suffix, dtype, words, expected);
      plain.delete(name + suffix);
    }
  }
  return new SamebitsFile(file, weights, plain, file.metadata.get('source'));
}

function checkPart(file: SafetensorsFile, name: string, dtype: Dtype, words: string, shape: readonly number[]): void {
  const found = file.tensors.get(name);
  if (!found) {
    throw new SamebitsError('FILE_TENSOR_MISSING', {
      rule: `tensor ${quoted(name)}, a part of a packed weight that the tag lists, must be in ${file.name}`,
      expected: `${words} = [${shape}]`,
      got: 'no tensor of that name',
      fix: "The file was assembled wrongly; write it again with 'samebits convert'.",
    });
  }
  if (found.dtype === dtype && found.shape.join() === shape.join()) return;
  throw new SamebitsError('FILE_TENSOR_INVALID', {
    rule: `tensor ${quoted(name)} must be ${words}`,
    expected: `${dtype} [${shape}]`,
    got: `${found.dtype} [${found.shape}]`,
    fix: "Write the file again with 'samebits convert'.",
  });
}

/** A tagged file with the old order inside is refused by its own name; a square one is trusted, for it has the tag. */
function refuseNative(file: SafetensorsFile, name: string, words: string, [n, columns]: readonly number[]): void {
  if (n === columns || file.tensors.get(name)?.shape.join() !== [columns, n].join()) return;
  throw new SamebitsError('LAYOUT_NATIVE_SCALE', {
    rule: `tensor ${quoted(name)} must be ${words}`,
    expected: `[${n},${columns}]`,
    got: `[${columns},${n}], torchao's native layout, in a file whose tag says ${COALESCED_LAYOUT}`,
    fix: "Write the file again with 'samebits convert'.",
  });
}

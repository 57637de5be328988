// GGUF: Q4_0, Q4_1 and Q4_K blocks, whose scales lie between the codes.

import { isNested, STEP_SIZE, type WeightForm } from '../forms.js';
import { isBlockType } from './gguf_types.js';
import type { KernelMemory, Kernels } from './kernel_memory.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { PartBlock, rowBlocks, rowsPerBlock } from './part_reader.js';
import { SliceSpace } from './slice_space.js';
import {
  type Found,
  foundWeight,
  type NestedRows,
  offsetForm,
  type SourceRows,
  type SourceWeight,
  zeroForm,
} from './source_weight.js';
import type { ModelTensor } from './tensor_file.js';

const GROUP_SIZE = 32;

/** How blocks of one type are read. */
interface BlockReader {
  /** Codes of a block: as many groups of 32. */
  readonly groups: number;
  readonly form: WeightForm;
  readonly unpack: (kernels: Kernels) => Kernels['unpackQ40'];
}

const READERS: Readonly<Partial<Record<string, BlockReader>>> = {
  Q4_0: { groups: 1, form: zeroForm('F16'), unpack: ({ unpackQ40 }) => unpackQ40 },
  Q4_1: { groups: 1, form: offsetForm('F16', 0), unpack: ({ unpackQ41 }) => unpackQ41 },
  Q4_K: {
    groups: 8,
    form: { kind: 'nested-offset', dtype: 'f16', center: 0 },
    unpack: ({ unpackQ4K }) => unpackQ4K,
  },
};

/** Tensors of block types; those of 4 bits become weights, the others stay behind. */
export async function importGguf(model: ModelCheckpoint, _layout: LayoutChoice): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const [name, tensor] of model.tensors) {
    if (!isBlockType(tensor.dtype)) continue;
    const reader = READERS[tensor.dtype];
    const left = (reason: string) => found.push({ kind: 'left', name, parts: [tensor], reason });
    if (!reader) left(`${tensor.dtype} is not a 4-bit type that can be packed`);
    else if (tensor.shape.length !== 2) left(`not a matrix, rank ${tensor.shape.length}`);
    else found.push(await foundWeight(name, [tensor], () => blockWeight(tensor, reader)));
  }
  return found;
}

function blockWeight(tensor: ModelTensor, { groups, form, unpack }: BlockReader): SourceWeight {
  const { name, dtype, sizeBytes } = tensor;
  const [n = 0, k = 0] = tensor.shape;
  const rowBytes = sizeBytes / n;
  async function* slices(memory: KernelMemory): AsyncGenerator<SourceRows> {
    memory.clear();
    const sliceRows = rowsPerBlock(n, rowBytes);
    const blocks = new PartBlock(memory, tensor, sliceRows, 'rows');
    const space = new SliceSpace(memory, sliceRows, k, k / GROUP_SIZE);
    const { qdata, scale, second } = space;
    for (const { firstRow, n: rows } of rowBlocks(n, rowBytes)) {
      const readBytes = await blocks.read(firstRow, rows);
      const count = (rows * k) / GROUP_SIZE / groups;
      unpack(memory.kernels)(blocks.address(0), count, qdata.address, scale.address, second.address);
      yield { firstRow, n: rows, space, readBytes };
    }
  }
  const weight = { name, format: `gguf:${dtype}`, parts: [tensor], n, k, groupSize: GROUP_SIZE, form, slices };
  return isNested(form) ? { ...weight, nestedSlices: (memory) => nestedSlices(tensor, memory) } : weight;
}

/** Q4_K as it is: two f16 for 256 weights, six bits twice for 32. */
async function* nestedSlices(tensor: ModelTensor, memory: KernelMemory): AsyncGenerator<NestedRows> {
  const [n = 0, k = 0] = tensor.shape;
  const rowBytes = tensor.sizeBytes / n;
  memory.clear();
  const sliceRows = rowsPerBlock(n, rowBytes);
  const blocks = new PartBlock(memory, tensor, sliceRows, 'rows');
  const qdata = memory.take((sliceRows * k) / 2);
  const [scale, offset] = [memory.take((sliceRows * k) / GROUP_SIZE), memory.take((sliceRows * k) / GROUP_SIZE)];
  const stepBytes = (2 * sliceRows * k) / STEP_SIZE;
  const [scaleStep, offsetStep] = [memory.take(stepBytes), memory.take(stepBytes)];
  for (const { firstRow, n: rows } of rowBlocks(n, rowBytes)) {
    const readBytes = await blocks.read(firstRow, rows);
    const [groups, steps] = [(rows * k) / GROUP_SIZE, (rows * k) / STEP_SIZE];
    memory.kernels.unpackNestedQ4K(
      blocks.address(0),
      steps,
      qdata.address,
      scale.address,
      offset.address,
      scaleStep.address,
      offsetStep.address,
    );
    yield {
      firstRow,
      qdata: qdata.bytes((rows * k) / 2),
      groups: {
        scale: scale.bytes(groups),
        second: offset.bytes(groups),
        steps: { scale: scaleStep.u16(steps), second: offsetStep.u16(steps) },
      },
      readBytes,
    };
  }
}

// Act-order: columns sorted by importance, so that group indices jump. The operator's groups are consecutive columns.

import type { SamebitsError } from '../errors.js';
import { checkPart } from './part_reader.js';
import { unsupportedWeight } from './source_weight.js';
import type { ModelTensor } from './tensor_file.js';
import { i32View } from './views.js';

/**
 * Accepts group indices that only spell out the order of the columns.
 * @param gIdx I32 [K]; -1 in compressed-tensors means that the column stays where it is
 * @throws SamebitsError FILE_FORMAT_UNSUPPORTED, FILE_TENSOR_INVALID
 */
export async function refuseActOrder(name: string, gIdx: ModelTensor, k: number, groupSize: number): Promise<void> {
  checkPart(gIdx, ['I32'], [k], 'group indices I32 [K]');
  const groups = i32View(await gIdx.file.read(gIdx.name));
  if (groups.every((group) => group === -1)) return;
  const first = groups.findIndex((group, i) => group !== Math.floor(i / groupSize));
  if (first >= 0) throw actOrderError(name, groupSize, `g_idx[${first}] = ${groups[first]}`);
}

export function actOrderError(name: string, groupSize: number, got: string): SamebitsError {
  return unsupportedWeight(
    name,
    'columns must lie in the order of their groups (no act-order, desc_act)',
    `g_idx[k] = floor(k / ${groupSize})`,
    `${got}: activations would have to be permuted to fit`,
    'Quantize the model again without act-order, or start from its unquantized weights.',
  );
}

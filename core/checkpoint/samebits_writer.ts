// Writes samebits checkpoints: the layout from shapes first, then tensors as they come.

import { kindOf, requireBytes, requireFields, requireList } from '../argument_checks.js';
import { type CoalescedInt4Tensor, requireCoalesced } from '../coalesced_int4_tensor.js';
import { SamebitsError } from '../errors.js';
import type { Groups } from '../forms.js';
import { type PackedShape, packedArrays, packedParts } from './packed_parts.js';
import { planSafetensors, type SafetensorsPlan, type TensorSpec } from './safetensors_writer.js';
import type { RandomAccessSink } from './sink.js';
import { tagMetadata } from './tag.js';
import { quoted } from './tensor_error.js';
import { bytesOf } from './views.js';

/** A plain tensor to write: its bytes are little-endian, row-major. */
export interface PlainTensor extends TensorSpec {
  readonly data: Uint8Array;
}

export interface SamebitsContent {
  readonly weights: ReadonlyMap<string, CoalescedInt4Tensor>;
  readonly plainTensors?: readonly PlainTensor[];
  /** The tag's `source`, e.g. `hf:bf16`. */
  readonly convertedFrom?: string;
}

/** Lays out a samebits file from shapes: packed weights first, each with its parts side by side. */
export function planSamebitsFile(
  weights: ReadonlyMap<string, PackedShape>,
  plainTensors: readonly TensorSpec[],
  convertedFrom?: string,
): SafetensorsPlan {
  const parts = [...weights].flatMap(([name, shape]) =>
    packedParts(shape).map(
      ({ suffix, dtype, columns }): TensorSpec => ({ name: name + suffix, dtype, shape: [shape.n, columns] }),
    ),
  );
  return planSafetensors([...parts, ...plainTensors], tagMetadata(weights, convertedFrom));
}

/** Rows `firstRow`... of a packed weight, coalesced. */
export interface PackedRows {
  readonly firstRow: number;
  /** u8[rows, K/2] */
  readonly qdata: Uint8Array;
  /** Of these rows, in the form that was planned. */
  readonly groups: Groups;
}

/** Writes some rows of packed weight `name` to their places in the planned file. */
export async function writePackedRows(
  sink: RandomAccessSink,
  plan: SafetensorsPlan,
  name: string,
  shape: PackedShape,
  { firstRow, qdata, groups }: PackedRows,
): Promise<void> {
  const arrays = packedArrays(qdata, groups);
  for (const [i, { suffix, columns }] of packedParts(shape).entries()) {
    const values = arrays[i]!;
    const at = offsetIn(plan, name + suffix) + firstRow * columns * values.BYTES_PER_ELEMENT;
    await sink.writeAt(at, bytesOf(values));
  }
}

/** Where a planned tensor starts in the file. `name` is one of the plan's. */
export function offsetIn(plan: SafetensorsPlan, name: string): number {
  return plan.tensors.get(name)!.offset;
}

/**
 * Writes a whole checkpoint from tensors in memory.
 * @throws SamebitsError ARGUMENT_INVALID for names that collide, data that is not its shape and what is no content;
 * LAYOUT_WRONG_TYPE, DTYPE_MISMATCH
 */
export async function writeSamebitsFile(sink: RandomAccessSink, content: SamebitsContent): Promise<void> {
  requireFields(sink, 'a sink', ['writeAt']);
  const { weights, plainTensors = [], convertedFrom } = checkedContent(content);
  const plan = planSamebitsFile(weights, plainTensors, convertedFrom);
  await sink.writeAt(0, plan.header);
  for (const [name, weight] of weights) {
    const { qdata, groups } = weight;
    await writePackedRows(sink, plan, name, weight, { firstRow: 0, qdata, groups });
  }
  for (const { name, data } of plainTensors) {
    const { offset, sizeBytes, dtype, shape } = plan.tensors.get(name)!;
    if (data.byteLength !== sizeBytes) {
      throw new SamebitsError('ARGUMENT_INVALID', {
        rule: `the data of tensor ${quoted(name)} must be exactly its shape`,
        expected: `${sizeBytes} bytes for ${dtype} [${shape}]`,
        got: `${data.byteLength} bytes`,
        fix: 'Pass all bytes of the tensor, little-endian, row-major.',
      });
    }
    await sink.writeAt(offset, data);
  }
}

function checkedContent(content: SamebitsContent): SamebitsContent {
  const { weights, plainTensors = [], convertedFrom } = requireFields(content, 'what a file is to hold', ['weights']);
  if (!(weights instanceof Map))
    throw wrongContent('the packed weights of a file', 'a Map from names to weights', weights);
  for (const [name, weight] of weights) {
    if (typeof name !== 'string') throw wrongContent('the name of a weight', 'a string', name);
    requireCoalesced(weight);
  }
  for (const tensor of requireList(plainTensors, 'plain tensors')) {
    const { name, dtype, shape, data } = requireFields(tensor, 'a plain tensor', ['name', 'dtype', 'shape', 'data']);
    for (const text of [name, dtype]) {
      if (typeof text !== 'string') throw wrongContent('the name and dtype of a tensor', 'strings', text);
    }
    requireList(shape, 'the shape of a tensor');
    requireBytes(data, 'the data of a tensor');
  }
  if (convertedFrom === undefined || typeof convertedFrom === 'string') return content;
  throw wrongContent('what a file was converted from', 'a string', convertedFrom);
}

function wrongContent(what: string, expected: string, got: unknown): SamebitsError {
  const rule = `${what} must be of its type`;
  return new SamebitsError('ARGUMENT_INVALID', { rule, expected, got: kindOf(got), fix: 'See SamebitsContent.' });
}

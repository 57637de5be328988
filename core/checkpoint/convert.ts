// Converts a model into a samebits checkpoint, from plain weights or from 4-bit ones of another format: one pass over the
// source, bounded memory, same bytes every time.

import { requireFields, requireObject } from '../argument_checks.js';
import { SamebitsError } from '../errors.js';
import { areSameForm } from '../forms.js';
import { isDtype } from './dtypes.js';
import { ExactPacker } from './exact_packer.js';
import { KernelMemory } from './kernel_memory.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { NestedPacker } from './nested_packer.js';
import type { PackedShape } from './packed_parts.js';
import type { Packer } from './packer.js';
import { PlainWeight, SLICE_BYTES } from './plain_weight.js';
import { RoundingPacker } from './rounding_packer.js';
import type { SafetensorsPlan, TensorSpec } from './safetensors_writer.js';
import { offsetIn, planSamebitsFile, writePackedRows } from './samebits_writer.js';
import {
  kept,
  type SelectedTensor,
  type SelectedWeight,
  type Selection,
  type SelectionOptions,
  selectTensors,
} from './selection.js';
import type { RandomAccessSink } from './sink.js';
import type { SourceWeight } from './source_weight.js';
import { isTagged } from './tag.js';
import { quoted } from './tensor_error.js';
import type { WeightChange } from './weight_change.js';

/** What a conversion will do, before any weight is read. */
export interface ConversionPlan {
  readonly symmetric: boolean;
  readonly tensors: readonly Selection[];
  readonly output: SafetensorsPlan;
  /** Bytes of tensor data that will be read. */
  readonly sourceBytes: number;
}

export interface ConversionProgress {
  readonly doneBytes: number;
  readonly totalBytes: number;
  /** The tensor that is worked on. */
  readonly tensor: string;
}

export interface ConversionControl {
  readonly onProgress?: (progress: ConversionProgress) => void;
  /** Ends the conversion between two slices by throwing the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What became of one tensor. */
export interface ConvertedTensor {
  readonly name: string;
  /** The element type; of a weight that had 4 bits, its format. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** N, K, groupSize, nGroups and form when it was packed. */
  readonly packed: PackedShape | undefined;
  /** Whether the file holds it as it was, too or only. Neither packed nor kept: the file lacks it. */
  readonly keptPlain: boolean;
  readonly reason: string;
  /** Undefined for a tensor that was not packed: nothing changed. */
  readonly change: WeightChange | undefined;
  readonly sourceBytes: number;
  readonly elapsedMs: number;
}

export interface ConversionReport {
  readonly tensors: readonly ConvertedTensor[];
  readonly packedCount: number;
  readonly sourceBytes: number;
  readonly outputBytes: number;
}

/** Endings of tensors that only quantized checkpoints have. */
const QUANTIZED_NAMES =
  /(\.qweight|\.qdata|_qdata|\.weight_packed|\.scales|\.weight_scale|\.weight_scale_inv|\.weight_format|\.absmax)$/;

/**
 * Decides what becomes of every tensor and lays out the file. A packed weight is called what its tensor was called,
 * `model.layers.0.mlp.up_proj.weight`, so that its parts are `….weight.qdata` and so on; a tied head that is packed
 * stays in the file as the plain embedding of the same name.
 * @throws SamebitsError FILE_FORMAT_UNSUPPORTED for a model that is quantized in an unknown way, is converted already, or
 * has nothing to pack; those of selectTensors
 */
export async function planConversion(model: ModelCheckpoint, options: SelectionOptions = {}): Promise<ConversionPlan> {
  requireFields(model, 'an open model', ['tensors', 'files', 'config']);
  if (model.files.some(isTagged)) {
    throw unsupported(model, 'must not be a samebits checkpoint', 'a samebits checkpoint, converted already');
  }
  const sideFiles = model.sideFiles.map((file) => kept(file, 'a file of the model'));
  const tensors = [...(await selectTensors(model, options)), ...sideFiles];
  if (!tensors.some(({ kind }) => kind === 'weight')) refuseQuantized(model, tensors);
  const weights = new Map<string, PackedShape>();
  for (const { name, packed } of tensors) if (packed) weights.set(name, packed);
  if (weights.size === 0) {
    throw unsupported(model, 'must hold a weight that can be packed', `${tensors.length} tensors, none of them packed`);
  }
  return {
    symmetric: options.symmetric ?? false,
    tensors,
    output: planSamebitsFile(weights, tensors.flatMap(plainSpec), formatsOf(tensors)),
    sourceBytes: tensors.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
  };
}

function plainSpec(selected: Selection): readonly TensorSpec[] {
  const { name, dtype, shape, keepPlain } = selected;
  return keepPlain && isDtype(dtype) ? [{ name, dtype, shape }] : [];
}

/** The tag's `source`: `hf:bf16+f32`, `gguf:Q4_0+Q4_K`. */
function formatsOf(tensors: readonly Selection[]): string {
  const formats = new Set(
    tensors.flatMap(({ kind, dtype, packed }) =>
      packed ? [kind === 'weight' ? dtype : `hf:${dtype.toLowerCase()}`] : [],
    ),
  );
  const byFamily = new Map<string, string[]>();
  for (const format of [...formats].sort()) {
    const [family = '', variant = ''] = format.split(':');
    byFamily.set(family, [...(byFamily.get(family) ?? []), variant]);
  }
  return [...byFamily].map(([family, variants]) => `${family}:${variants.join('+')}`).join(', ');
}

/**
 * Reads every tensor once, in slices, and writes the planned file to `sink`. Never holds more than a few slices.
 * The file is whole only when this resolves.
 * @throws SamebitsError WEIGHT_NOT_FINITE, SCALE_NOT_FINITE, ZERO_POINT_NOT_FINITE, WEIGHT_EXPONENT_OUT_OF_RANGE, naming
 * the tensor; WEBASSEMBLY_UNAVAILABLE, HOST_OUT_OF_MEMORY; what source and sink throw; the reason of `control.signal`
 */
export async function runConversion(
  plan: ConversionPlan,
  sink: RandomAccessSink,
  control: ConversionControl = {},
): Promise<ConversionReport> {
  requireFields(plan, 'a plan', ['output', 'tensors']);
  requireFields(sink, 'a sink', ['writeAt']);
  requireObject(control, 'the control of a conversion');
  const converted: ConvertedTensor[] = [];
  const buffers = new ConversionBuffers();
  let doneBytes = 0;
  control.signal?.throwIfAborted();
  await sink.writeAt(0, plan.output.header);
  for (const selected of plan.tensors) {
    const advance = (bytes: number) => {
      doneBytes += bytes;
      control.onProgress?.({ doneBytes, totalBytes: plan.sourceBytes, tensor: selected.name });
      control.signal?.throwIfAborted();
    };
    converted.push(await convertTensor(plan, selected, sink, advance, buffers));
  }
  return conversionReport(plan, converted);
}

/** What became of all tensors of a plan, in its order. */
export function conversionReport(plan: ConversionPlan, tensors: readonly ConvertedTensor[]): ConversionReport {
  return {
    tensors,
    packedCount: tensors.filter(({ packed }) => packed).length,
    sourceBytes: plan.sourceBytes,
    outputBytes: plan.output.sizeBytes,
  };
}

/** Told after every slice how many more bytes of the source are done; ends the conversion by throwing. */
export type Advance = (bytes: number) => void;

/** Memory that all weights of a conversion share, one after the other. */
export class ConversionBuffers {
  #kernels: Promise<KernelMemory> | undefined;

  /** @throws SamebitsError WEBASSEMBLY_UNAVAILABLE, HOST_OUT_OF_MEMORY */
  kernels(): Promise<KernelMemory> {
    this.#kernels ??= KernelMemory.create();
    return this.#kernels;
  }
}

/**
 * Converts one tensor of the plan to its place in `sink`. Tensors may be converted in any order, and several at once with
 * buffers of their own.
 * @throws as runConversion
 */
export async function convertTensor(
  plan: ConversionPlan,
  selected: Selection,
  sink: RandomAccessSink,
  advance: Advance,
  buffers: ConversionBuffers,
): Promise<ConvertedTensor> {
  const { name, dtype, shape, packed, keepPlain: keptPlain, reason, sizeBytes } = selected;
  const startMs = performance.now();
  let doneBytes = 0;
  const change = await convertOne(plan, sink, selected, buffers, (bytes) => {
    doneBytes += bytes;
    advance(bytes);
  });
  // Parts that only shape the plan, such as group indices, are not read again.
  if (doneBytes < sizeBytes) advance(sizeBytes - doneBytes);
  const elapsedMs = performance.now() - startMs;
  return { name, dtype, shape, packed, keptPlain, reason, change, sourceBytes: sizeBytes, elapsedMs };
}

function convertOne(
  plan: ConversionPlan,
  sink: RandomAccessSink,
  selected: Selection,
  buffers: ConversionBuffers,
  advance: Advance,
) {
  if (selected.kind === 'weight') return repack(plan, sink, selected, buffers, advance);
  if (selected.packed) return quantize(plan, sink, selected, selected.packed, buffers, advance);
  return selected.keepPlain ? copy(plan, sink, selected, advance) : undefined;
}

async function repack(
  { output }: ConversionPlan,
  sink: RandomAccessSink,
  { name, weight, packed }: SelectedWeight,
  buffers: ConversionBuffers,
  advance: Advance,
): Promise<WeightChange> {
  const memory = await buffers.kernels();
  const packer = packerOf(weight, packed, memory);
  for await (const rows of packer.rows()) {
    await writePackedRows(sink, output, name, packed, rows);
    advance(rows.readBytes);
  }
  return packer.change;
}

function packerOf(weight: SourceWeight, packed: PackedShape, memory: KernelMemory): Packer {
  const { nestedSlices } = weight;
  if (!areSameForm(packed.form, weight.form)) return new RoundingPacker(weight, packed, memory);
  if (nestedSlices) return new NestedPacker({ ...weight, nestedSlices }, packed, memory);
  return new ExactPacker(weight, packed, memory);
}

async function quantize(
  { output, symmetric }: ConversionPlan,
  sink: RandomAccessSink,
  { name, tensor, keepPlain }: SelectedTensor,
  packed: PackedShape,
  buffers: ConversionBuffers,
  advance: Advance,
): Promise<WeightChange> {
  const weight = new PlainWeight(tensor, packed, symmetric, await buffers.kernels());
  let start = 0;
  for await (const rows of weight.rows()) {
    await writePackedRows(sink, output, name, packed, rows);
    if (keepPlain) await sink.writeAt(offsetIn(output, name) + start, rows.sourceBytes);
    start += rows.sourceBytes.byteLength;
    advance(rows.sourceBytes.byteLength);
  }
  return weight.change;
}

async function copy(
  { output }: ConversionPlan,
  sink: RandomAccessSink,
  { name, tensor }: SelectedTensor,
  advance: Advance,
): Promise<undefined> {
  const offset = offsetIn(output, name);
  for (let start = 0; start < tensor.sizeBytes; start += SLICE_BYTES) {
    const length = Math.min(SLICE_BYTES, tensor.sizeBytes - start);
    await sink.writeAt(offset + start, await tensor.file.read(name, start, length));
    advance(length);
  }
}

/** A model whose config or names say that it is quantized, in a way that no importer knows. */
function refuseQuantized(model: ModelCheckpoint, tensors: readonly Selection[]): void {
  const must = 'must hold plain weights, or 4-bit weights of a known format,';
  for (const key of ['quantization_config', 'quantization']) {
    if (model.config.has(key)) throw unsupported(model, must, `a quantized model: config.json has ${quoted(key)}`);
  }
  const quantized = tensors.find(
    ({ name, reason }) => !/^(excluded|not included)$/.test(reason) && QUANTIZED_NAMES.test(name),
  );
  if (quantized) throw unsupported(model, must, `a quantized model: it has a tensor ${quoted(quantized.name)}`);
}

function unsupported(model: ModelCheckpoint, must: string, got: string): SamebitsError {
  return new SamebitsError('FILE_FORMAT_UNSUPPORTED', {
    rule: `${model.name} ${must} to be converted`,
    expected: 'linear weights in bf16, f16 or f32, or in one of the 4-bit formats that samebits reads',
    got,
    fix: "Start from the model's unquantized safetensors files; 'samebits inspect' shows what a file holds.",
  });
}

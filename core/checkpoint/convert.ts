// Converts a model's plain weights into a samebits checkpoint: one pass over the source, bounded memory, same bytes
// every time.

import { SamebitsError } from '../errors.js';
import type { WeightShape } from '../limits.js';
import type { Dtype } from './dtypes.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { PlainWeight, SLICE_BYTES, type WeightChange } from './plain_weight.js';
import type { SafetensorsPlan } from './safetensors_writer.js';
import { offsetIn, planSamebitsFile, writePackedRows } from './samebits_writer.js';
import { type SelectedTensor, type SelectionOptions, selectTensors } from './selection.js';
import type { RandomAccessSink } from './sink.js';
import { isTagged } from './tag.js';
import { quoted } from './tensor_error.js';

/** What a conversion will do, before any weight is read. */
export interface ConversionPlan {
  readonly symmetric: boolean;
  readonly tensors: readonly SelectedTensor[];
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
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  /** N, K, groupSize and nGroups when it was packed. */
  readonly packed: WeightShape | undefined;
  /** Whether the file holds it as it was, too or only. */
  readonly keptPlain: boolean;
  readonly reason: string;
  /** Undefined for a tensor that was not packed: nothing changed. */
  readonly change: WeightChange | undefined;
}

export interface ConversionReport {
  readonly tensors: readonly ConvertedTensor[];
  readonly packedCount: number;
  readonly sourceBytes: number;
  readonly outputBytes: number;
}

/** Endings of tensors that only quantized checkpoints have. */
const QUANTIZED_NAMES = /(\.qweight|\.qdata|_qdata|\.weight_packed|\.scales|\.weight_scale|\.weight_scale_inv)$/;

/**
 * Decides what becomes of every tensor and lays out the file. A packed weight is called what its tensor was called,
 * `model.layers.0.mlp.up_proj.weight`, so that its parts are `….weight.qdata` and so on; a tied head that is packed
 * stays in the file as the plain embedding of the same name.
 * @throws SamebitsError FILE_FORMAT_UNSUPPORTED for a model that is quantized already, or has nothing to pack; those of
 * selectTensors
 */
export function planConversion(model: ModelCheckpoint, options: SelectionOptions = {}): ConversionPlan {
  refuseQuantized(model);
  const tensors = selectTensors(model, options);
  const weights = new Map<string, WeightShape>();
  for (const { tensor, packed } of tensors) if (packed) weights.set(tensor.name, packed);
  if (weights.size === 0) {
    throw unsupported(model, 'must hold a weight that can be packed', `${tensors.length} tensors, all kept plain`);
  }
  const plain = tensors.filter(({ keepPlain }) => keepPlain).map(({ tensor }) => tensor);
  const dtypes = new Set(tensors.flatMap(({ tensor, packed }) => (packed ? [tensor.dtype.toLowerCase()] : [])));
  return {
    symmetric: options.symmetric ?? false,
    tensors,
    output: planSamebitsFile(weights, plain, `hf:${[...dtypes].sort().join('+')}`),
    sourceBytes: tensors.reduce((sum, { tensor }) => sum + tensor.sizeBytes, 0),
  };
}

/**
 * Reads every tensor once, in slices, and writes the planned file to `sink`. Never holds more than a few slices.
 * The file is whole only when this resolves.
 * @throws SamebitsError WEIGHT_NOT_FINITE, WEIGHT_EXPONENT_OUT_OF_RANGE, naming the tensor; what source and sink throw;
 * the reason of `control.signal`
 */
export async function runConversion(
  plan: ConversionPlan,
  sink: RandomAccessSink,
  control: ConversionControl = {},
): Promise<ConversionReport> {
  const converted: ConvertedTensor[] = [];
  let doneBytes = 0;
  const advance = (tensor: string, bytes: number) => {
    doneBytes += bytes;
    control.onProgress?.({ doneBytes, totalBytes: plan.sourceBytes, tensor });
    control.signal?.throwIfAborted();
  };
  control.signal?.throwIfAborted();
  await sink.writeAt(0, plan.output.header);
  for (const selected of plan.tensors) {
    const { tensor, packed, keepPlain, reason } = selected;
    const { name, dtype, shape } = tensor;
    const change = await (packed
      ? pack(plan, sink, { ...selected, packed }, (bytes) => advance(name, bytes))
      : copy(plan, sink, selected, (bytes) => advance(name, bytes)));
    converted.push({ name, dtype, shape, packed, keptPlain: keepPlain, reason, change });
  }
  return {
    tensors: converted,
    packedCount: converted.filter(({ packed }) => packed).length,
    sourceBytes: plan.sourceBytes,
    outputBytes: plan.output.sizeBytes,
  };
}

async function pack(
  { output, symmetric }: ConversionPlan,
  sink: RandomAccessSink,
  { tensor, packed, keepPlain }: SelectedTensor & { readonly packed: WeightShape },
  advance: (bytes: number) => void,
): Promise<WeightChange> {
  const weight = new PlainWeight(tensor, packed, symmetric);
  let start = 0;
  for await (const rows of weight.rows()) {
    await writePackedRows(sink, output, tensor.name, packed, rows);
    if (keepPlain) await sink.writeAt(offsetIn(output, tensor.name) + start, rows.sourceBytes);
    start += rows.sourceBytes.byteLength;
    advance(rows.sourceBytes.byteLength);
  }
  return weight.change;
}

async function copy(
  { output }: ConversionPlan,
  sink: RandomAccessSink,
  { tensor }: SelectedTensor,
  advance: (bytes: number) => void,
): Promise<undefined> {
  const offset = offsetIn(output, tensor.name);
  for (let start = 0; start < tensor.sizeBytes; start += SLICE_BYTES) {
    const length = Math.min(SLICE_BYTES, tensor.sizeBytes - start);
    await sink.writeAt(offset + start, await tensor.file.read(tensor.name, start, length));
    advance(length);
  }
}

function refuseQuantized(model: ModelCheckpoint): void {
  const plain = 'must hold plain weights';
  if (model.files.some(isTagged)) throw unsupported(model, plain, 'a samebits checkpoint, converted already');
  for (const key of ['quantization_config', 'quantization']) {
    if (model.config.has(key)) throw unsupported(model, plain, `a quantized model: config.json has ${quoted(key)}`);
  }
  const name = [...model.tensors.keys()].find((tensor) => QUANTIZED_NAMES.test(tensor));
  if (name !== undefined) throw unsupported(model, plain, `a quantized model: it has a tensor ${quoted(name)}`);
}

function unsupported(model: ModelCheckpoint, must: string, got: string): SamebitsError {
  return new SamebitsError('FILE_FORMAT_UNSUPPORTED', {
    rule: `${model.name} ${must} to be converted`,
    expected: 'linear weights in bf16, f16 or f32',
    got,
    fix: "Start from the model's unquantized safetensors files; 'samebits inspect' shows what a file holds.",
  });
}

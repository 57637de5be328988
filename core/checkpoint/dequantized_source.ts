// Any tensor of any readable checkpoint as f32[N, K], a slice at a time: what other tools should find in the same file.

import { requireFields, requireObject } from '../argument_checks.js';
import { dequantizeRow } from '../dequantize.js';
import { SamebitsError } from '../errors.js';
import { hasOffset, type WeightForm } from '../forms.js';
import { floatValues } from './float_values.js';
import { findWeights } from './importers.js';
import { KernelMemory } from './kernel_memory.js';
import { type ImportOptions, LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { SLICE_BYTES } from './plain_weight.js';
import { SafetensorsFile } from './safetensors_reader.js';
import { asSamebitsFile } from './samebits_file.js';
import { nameOf } from './selection.js';
import type { SourceWeight } from './source_weight.js';
import { isTagged } from './tag.js';
import { inTensor, quoted } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';

/** A tensor whose values can be had in f32. */
export interface DequantizedSource {
  /** `bf16`, `gptq:v1`, ... */
  readonly format: string;
  /** Row-major; [N, K] of a weight. */
  readonly shape: readonly number[];
  /**
   * All values in order. A 4-bit weight's are the exact ones of its format, rounded once to f32.
   * @throws SamebitsError SCALE_NOT_FINITE; WEBASSEMBLY_UNAVAILABLE, HOST_OUT_OF_MEMORY; what the source throws
   */
  slices(): AsyncGenerator<Float32Array<ArrayBuffer>>;
}

/**
 * Finds a tensor or packed weight by its name.
 * @throws SamebitsError FILE_TENSOR_MISSING; FILE_DTYPE_UNKNOWN for a dtype without f32 values; the refusal of a weight that
 * cannot be read
 */
export async function dequantizedSource(
  model: ModelCheckpoint,
  name: string,
  options: ImportOptions = {},
): Promise<DequantizedSource> {
  requireObject(options, 'the options of an import');
  for (const file of requireFields(model, 'an open model', ['tensors', 'files', 'config']).files) {
    if (!isTagged(file) || !(file instanceof SafetensorsFile)) continue;
    const packed = asSamebitsFile(file);
    const shape = packed.weights.get(name);
    if (shape) return { format: 'samebits', shape: [shape.n, shape.k], slices: () => packedSlices(packed, name) };
  }
  const layout = new LayoutChoice(options);
  const found = (await findWeights(model, layout)).find((entry) => nameOf(entry) === name);
  if (found?.kind === 'refused') throw found.error;
  layout.refuseUnasked();
  if (found?.kind === 'weight') {
    const { weight } = found;
    return { format: weight.format, shape: [weight.n, weight.k], slices: () => weightSlices(weight) };
  }
  const tensor = model.tensors.get(name);
  if (!tensor) throw missing(model, name);
  if (!['BF16', 'F16', 'F32'].includes(tensor.dtype)) {
    throw new SamebitsError('FILE_DTYPE_UNKNOWN', {
      rule: `tensor ${quoted(name)} must be of a type that has f32 values here`,
      expected: 'BF16, F16, F32 or a 4-bit weight of a known format',
      got: found?.kind === 'left' ? `${tensor.dtype}: ${found.reason}` : tensor.dtype,
      fix: "'samebits inspect' lists what can be read.",
    });
  }
  return { format: tensor.dtype.toLowerCase(), shape: tensor.shape, slices: () => plainSlices(tensor) };
}

async function* plainSlices({ name, dtype, sizeBytes, file }: ModelTensor): AsyncGenerator<Float32Array<ArrayBuffer>> {
  for (let start = 0; start < sizeBytes; start += SLICE_BYTES) {
    const bytes = await file.read(name, start, Math.min(SLICE_BYTES, sizeBytes - start));
    yield floatValues(dtype, bytes);
  }
}

async function* weightSlices(weight: SourceWeight): AsyncGenerator<Float32Array<ArrayBuffer>> {
  const { k, groupSize } = weight;
  const chunk = Math.floor(SLICE_BYTES / 4 / groupSize) || 1;
  for await (const { n, space } of weight.slices(await KernelMemory.create())) {
    const count = (n * k) / groupSize;
    const source = { qdata: space.qdata.bytes(), scale: space.scale.f32(count), second: space.second.f32(count) };
    for (let first = 0; first < count; first += chunk) {
      yield dequantizeGroups(weight, source, first, Math.min(first + chunk, count));
    }
  }
}

interface Groups {
  readonly qdata: Uint8Array;
  readonly scale: Float32Array;
  readonly second: Float32Array;
}

function dequantizeGroups(
  { name, groupSize, form }: SourceWeight,
  { qdata, scale, second }: Groups,
  first: number,
  end: number,
): Float32Array<ArrayBuffer> {
  const out = new Float32Array((end - first) * groupSize);
  for (let g = first, to = 0; g < end; g++) {
    const s = scale[g]!;
    const o = offsetOf(form, s, second[g]!);
    if (!Number.isFinite(s) || !Number.isFinite(o)) throw inTensor(name, notFinite(s, o, g));
    for (let byte = (g * groupSize) / 2; byte < ((g + 1) * groupSize) / 2; byte++) {
      out[to++] = s * (qdata[byte]! & 15) + o;
      out[to++] = s * (qdata[byte]! >> 4) + o;
    }
  }
  return out;
}

/** What is added to `scale * q`, exactly. */
function offsetOf(form: WeightForm, scale: number, second: number): number {
  return hasOffset(form) ? second - form.center * scale : -second * scale;
}

async function* packedSlices(
  file: ReturnType<typeof asSamebitsFile>,
  name: string,
): AsyncGenerator<Float32Array<ArrayBuffer>> {
  const weight = await file.readWeight(name);
  const { n, k } = weight;
  const rowsPerSlice = Math.max(1, Math.floor(SLICE_BYTES / 4 / k));
  for (let first = 0; first < n; first += rowsPerSlice) {
    const rows = Math.min(rowsPerSlice, n - first);
    const out = new Float32Array(rows * k);
    for (let row = 0; row < rows; row++) dequantizeRow(weight, first + row, out.subarray(row * k, (row + 1) * k));
    yield out;
  }
}

function notFinite(scale: number, offset: number, group: number): SamebitsError {
  return new SamebitsError('SCALE_NOT_FINITE', {
    rule: 'scale and zero point of a group must be finite',
    expected: 'finite values',
    got: `scale ${scale}, offset ${offset} in group ${group} of a slice`,
    fix: 'The checkpoint is damaged; fetch it again.',
  });
}

function missing(model: ModelCheckpoint, name: string): SamebitsError {
  return new SamebitsError('FILE_TENSOR_MISSING', {
    rule: `${quoted(name)} must be a tensor or a weight of ${model.name}`,
    expected: `one of ${model.tensors.size} tensors, or the name of a weight that some of them make up`,
    got: 'a name that is not there',
    fix: "List the names with 'samebits inspect'.",
  });
}

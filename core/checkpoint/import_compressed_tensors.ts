// compressed-tensors, pack-quantized: rows of I32 that are qdata's rows, scales [N, G], zero points packed along N.

import { refuseActOrder } from './group_order.js';
import type { KernelMemory } from './kernel_memory.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { checkPart, FLOAT_DTYPES, FloatBlock, PartBlock, requirePart, rowBlocks, rowsPerBlock } from './part_reader.js';
import { quantizationConfig, setting } from './quantization_config.js';
import { SliceSpace } from './slice_space.js';
import {
  type Found,
  foundWeight,
  type SourceRows,
  type SourceWeight,
  unsupportedWeight,
  zeroForm,
} from './source_weight.js';
import { describeJson, isJsonObject, type JsonObject } from './strict_json.js';
import type { ModelTensor } from './tensor_file.js';
import { i32View } from './views.js';

const PACKED = '.weight_packed';
const SYMMETRIC_ZERO = 8;

/** Modules with `weight_packed` and `weight_shape`. */
export async function importCompressedTensors(
  model: ModelCheckpoint,
  _layout: LayoutChoice,
): Promise<readonly Found[]> {
  const config = quantizationConfig(model);
  const found: Found[] = [];
  for (const [tensorName, packed] of model.tensors) {
    if (!tensorName.endsWith(PACKED)) continue;
    const module = tensorName.slice(0, -PACKED.length);
    const name = `${module}.weight`;
    const optional = (suffix: string) => model.tensors.get(`${module}.weight_${suffix}`);
    const parts = ['packed', 'scale', 'shape', 'zero_point', 'g_idx'].flatMap((suffix) => optional(suffix) ?? []);
    found.push(
      await foundWeight(name, parts, async () => {
        if (config) checkConfig(name, config);
        const part = (suffix: string) => requirePart(model.tensors, `${module}.weight_${suffix}`, name);
        const [scale, shape] = [part('scale'), part('shape')];
        const zeroPoint = isAsymmetric(config) ? part('zero_point') : optional('zero_point');
        return packedWeight({ name, packed, scale, shape, zeroPoint, gIdx: optional('g_idx'), parts });
      }),
    );
  }
  return found;
}

/** Formats differ per group of modules in a mixed checkpoint; there the tensors themselves have to tell. */
function checkConfig(name: string, config: JsonObject): void {
  const format = setting(config, 'format');
  if (format !== undefined && format !== 'pack-quantized' && format !== 'mixed-precision') {
    const rule = 'its compressed-tensors format must be one whose layout is known';
    throw unsupportedWeight(name, rule, '"pack-quantized"', describeJson(format));
  }
  const schemes = weightSchemes(config);
  const bits = schemes.map((scheme) => setting(scheme, 'num_bits'));
  if (schemes.length > 0 && !bits.includes(4)) {
    throw unsupportedWeight(
      name,
      'codes must have 4 bits',
      'num_bits 4',
      `num_bits ${bits.map(describeJson).join(', ')}`,
    );
  }
  if (schemes.length === 1 && (setting(schemes[0]!, 'type') ?? 'int') !== 'int') {
    throw unsupportedWeight(name, 'codes must be integers', 'type "int"', describeJson(setting(schemes[0]!, 'type')));
  }
}

function weightSchemes(config: JsonObject): readonly JsonObject[] {
  const groups = config.get('config_groups');
  if (!isJsonObject(groups)) return [];
  return [...groups.values()].flatMap((group) => {
    const weights = isJsonObject(group) ? group.get('weights') : undefined;
    return isJsonObject(weights) ? [weights] : [];
  });
}

function isAsymmetric(config: JsonObject | undefined): boolean {
  const schemes = config ? weightSchemes(config) : [];
  return schemes.length === 1 && setting(schemes[0]!, 'symmetric') === false;
}

interface PackedParts {
  readonly name: string;
  readonly packed: ModelTensor;
  readonly scale: ModelTensor;
  readonly shape: ModelTensor;
  readonly zeroPoint: ModelTensor | undefined;
  readonly gIdx: ModelTensor | undefined;
  readonly parts: readonly ModelTensor[];
}

async function packedWeight({
  name,
  packed,
  scale,
  shape,
  zeroPoint,
  gIdx,
  parts,
}: PackedParts): Promise<SourceWeight> {
  const [n, k] = await readShape(shape);
  const nGroups = scale.shape[1] ?? 0;
  checkPart(packed, ['I32', 'U32'], [n, Math.ceil(k / 8)], '4-bit codes I32 [N, K/8]');
  checkPart(scale, FLOAT_DTYPES, [n, nGroups], 'floats [N, G], a scale for each group or row');
  const groupSize = k / nGroups;
  // Files from before April 2025 keep zero points unpacked and signed.
  const isPacked = zeroPoint?.dtype === 'I32' || zeroPoint?.dtype === 'U32';
  if (zeroPoint && isPacked) checkPart(zeroPoint, ['I32', 'U32'], [Math.ceil(n / 8), nGroups], 'I32 [N/8, G]');
  else if (zeroPoint) checkPart(zeroPoint, ['I8'], [n, nGroups], 'I32 [N/8, G] or I8 [N, G]');
  if (gIdx) await refuseActOrder(name, gIdx, k, groupSize);

  async function* slices(memory: KernelMemory): AsyncGenerator<SourceRows> {
    memory.clear();
    const sliceRows = rowsPerBlock(n, k / 2);
    const space = new SliceSpace(memory, sliceRows, k, nGroups);
    const codes = new PartBlock(memory, packed, sliceRows, 'rows', 1, space.qdata);
    const scales = new FloatBlock(memory, scale, sliceRows, sliceRows, 'rows');
    const zeros = zeroPoint && new PartBlock(memory, zeroPoint, sliceRows, 'rows', isPacked ? 8 : 1);
    const { unpackZeroPoints } = memory.kernels;
    for (const { firstRow, n: rows } of rowBlocks(n, k / 2)) {
      let readBytes = 0;
      for (const part of [codes, scales, ...(zeros ? [zeros] : [])]) readBytes += await part.read(firstRow, rows);
      scales.widen(0, rows, space.scale);
      const [count, to] = [rows * nGroups, space.second];
      if (!zeros) to.f32(count).fill(SYMMETRIC_ZERO);
      else if (isPacked) unpackZeroPoints(zeros.address(0), zeros.stride, 4, rows, nGroups, 0, 0, false, to.address);
      else zerosFromSigned(zeros.region.bytes(count), to.f32(count));
      yield { firstRow, n: rows, space, readBytes };
    }
  }
  return {
    name,
    format: 'compressed-tensors:pack-quantized',
    parts,
    n,
    k,
    groupSize,
    form: zeroForm(scale.dtype),
    slices,
  };
}

function zerosFromSigned(signed: Uint8Array, zeros: Float32Array): void {
  for (let i = 0; i < zeros.length; i++) zeros[i] = ((signed[i]! << 24) >> 24) + SYMMETRIC_ZERO;
}

/** N and K, which the packed codes alone do not tell. */
async function readShape(shape: ModelTensor): Promise<readonly [number, number]> {
  checkPart(shape, ['I64', 'I32'], [2], 'N and K, I64 [2]');
  const bytes = await shape.file.read(shape.name);
  if (shape.dtype === 'I32') {
    const [n = 0, k = 0] = i32View(bytes);
    return [n, k];
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return [Number(view.getBigInt64(0, true)), Number(view.getBigInt64(8, true))];
}

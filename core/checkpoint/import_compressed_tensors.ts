// compressed-tensors, pack-quantized: rows of I32 that are qdata's rows, scales [N, G], zero points packed along N.

import { refuseActOrder } from './group_order.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { checkPart, FLOAT_DTYPES, floats, readRows, requirePart, rowBlocks } from './part_reader.js';
import { quantizationConfig, setting } from './quantization_config.js';
import { zeroPointGroups } from './row_groups.js';
import { SliceBuffers } from './slice_buffers.js';
import { type Found, foundWeight, type SourceRows, type SourceWeight, unsupportedWeight } from './source_weight.js';
import { describeJson, isJsonObject, type JsonObject } from './strict_json.js';
import type { ModelTensor } from './tensor_file.js';
import { i32View, u32View } from './views.js';

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

  async function* slices(buffers = new SliceBuffers()): AsyncGenerator<SourceRows> {
    for (const { firstRow, n: rows } of rowBlocks(n, k / 2)) {
      const qdata = await readRows(packed, firstRow, rows, buffers);
      const scaleBytes = await readRows(scale, firstRow, rows, buffers);
      const zeroBytes =
        zeroPoint &&
        (await (isPacked
          ? readRows(zeroPoint, firstRow / 8, Math.ceil(rows / 8), buffers)
          : readRows(zeroPoint, firstRow, rows, buffers)));
      const zeros = buffers.f32('zeros', rows * nGroups).fill(SYMMETRIC_ZERO);
      if (zeroBytes && isPacked) unpackZeros(u32View(zeroBytes), rows, nGroups, zeros);
      else if (zeroBytes)
        zeros.set(
          new Int8Array(zeroBytes.buffer, zeroBytes.byteOffset, zeroBytes.byteLength).map(
            (zero) => zero + SYMMETRIC_ZERO,
          ),
        );
      const groups = zeroPointGroups(floats(scale, scaleBytes, buffers), zeros);
      const readBytes = qdata.byteLength + scaleBytes.byteLength + (zeroBytes?.byteLength ?? 0);
      yield { firstRow, n: rows, qdata, groups, readBytes };
    }
  }
  return { name, format: 'compressed-tensors:pack-quantized', parts, n, k, groupSize, slices };
}

/** u32[rows / 8, G], eight rows to a word, to [rows, G]. */
function unpackZeros(words: Uint32Array, rows: number, nGroups: number, zeros: Float32Array): void {
  for (let row = 0; row < rows; row++) {
    const shift = 4 * (row & 7);
    const first = (row >> 3) * nGroups;
    for (let g = 0; g < nGroups; g++) zeros[row * nGroups + g] = (words[first + g]! >>> shift) & 15;
  }
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

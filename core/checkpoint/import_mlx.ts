// MLX, 4-bit affine: rows of U32 that are qdata's rows, `w = scales * q + biases` with both [N, G].

import type { KernelMemory } from './kernel_memory.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { checkPart, FLOAT_DTYPES, FloatBlock, PartBlock, requirePart, rowBlocks, rowsPerBlock } from './part_reader.js';
import { setting } from './quantization_config.js';
import { SliceSpace } from './slice_space.js';
import {
  type Found,
  foundWeight,
  offsetForm,
  type SourceRows,
  type SourceWeight,
  unsupportedWeight,
} from './source_weight.js';
import { describeJson, isJsonObject, type JsonObject } from './strict_json.js';
import { quoted } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';

const WEIGHT = '.weight';

/** Modules with `weight` U32, `scales` and `biases`. */
export async function importMlx(model: ModelCheckpoint, layout: LayoutChoice): Promise<readonly Found[]> {
  const config = mlxConfig(model);
  const found: Found[] = [];
  for (const [name, weight] of model.tensors) {
    const module = name.slice(0, -WEIGHT.length);
    const scales = model.tensors.get(`${module}.scales`);
    if (!name.endsWith(WEIGHT) || weight.dtype !== 'U32' || !scales) continue;
    const biases = model.tensors.get(`${module}.biases`);
    const parts = [weight, scales, ...(biases ? [biases] : [])];
    const own = config?.get(module);
    const settings = isJsonObject(own) ? own : config;
    const bits = settings && setting(settings, 'bits');
    if (isJsonObject(own) && bits !== 4) {
      found.push({ kind: 'left', name, parts, reason: `bits ${describeJson(bits)}, not 4` });
      continue;
    }
    found.push(
      await foundWeight(name, parts, () => {
        if (settings) checkSettings(name, settings);
        else
          layout.ask(['mlx'], `weight ${quoted(name)}: a config must say how many bits a code has`, 'no config.json');
        return mlxWeight(name, weight, scales, requirePart(model.tensors, `${module}.biases`, name), settings);
      }),
    );
  }
  return found;
}

/** `quantization`, or its copy `quantization_config` in files that other loaders should recognise. */
function mlxConfig(model: ModelCheckpoint): JsonObject | undefined {
  for (const key of ['quantization', 'quantization_config']) {
    const value = model.config.get(key);
    if (isJsonObject(value) && value.has('bits')) return value;
  }
  return undefined;
}

function checkSettings(name: string, settings: JsonObject): void {
  const mode = setting(settings, 'mode') ?? 'affine';
  if (mode !== 'affine') throw unsupportedWeight(name, 'its MLX mode must be known', '"affine"', describeJson(mode));
  const bits = setting(settings, 'bits');
  if (bits !== 4) throw unsupportedWeight(name, 'codes must have 4 bits', 'bits 4', describeJson(bits));
}

function mlxWeight(
  name: string,
  weight: ModelTensor,
  scales: ModelTensor,
  biases: ModelTensor,
  settings: JsonObject | undefined,
): SourceWeight {
  const [n = 0, kWords = 0] = weight.shape;
  const k = 8 * kWords;
  const nGroups = scales.shape[1] ?? 0;
  checkPart(weight, ['U32'], [n, kWords], 'codes U32 [N, K/8]');
  for (const part of [scales, biases]) checkPart(part, FLOAT_DTYPES, [n, nGroups], 'floats [N, G]');
  const groupSize = k / nGroups;
  const told = settings && setting(settings, 'group_size');
  if (told !== undefined && told !== groupSize) {
    throw unsupportedWeight(
      name,
      'scales must be [N, K/group_size]',
      `group_size ${groupSize} by their shape`,
      describeJson(told),
    );
  }
  async function* slices(memory: KernelMemory): AsyncGenerator<SourceRows> {
    memory.clear();
    const sliceRows = rowsPerBlock(n, k / 2);
    const space = new SliceSpace(memory, sliceRows, k, nGroups);
    const codes = new PartBlock(memory, weight, sliceRows, 'rows', 1, space.qdata);
    const scale = new FloatBlock(memory, scales, sliceRows, sliceRows, 'rows');
    const bias = new FloatBlock(memory, biases, sliceRows, sliceRows, 'rows');
    for (const { firstRow, n: rows } of rowBlocks(n, k / 2)) {
      let readBytes = 0;
      for (const part of [codes, scale, bias]) readBytes += await part.read(firstRow, rows);
      scale.widen(0, rows, space.scale);
      bias.widen(0, rows, space.second);
      yield { firstRow, n: rows, space, readBytes };
    }
  }
  return {
    name,
    format: 'mlx:affine',
    parts: [weight, scales, biases],
    n,
    k,
    groupSize,
    form: offsetForm(scales.dtype, 0),
    slices,
  };
}

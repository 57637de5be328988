// AWQ, GEMM version: codes packed along N with interleaved columns in u32[K, N/8], zero points alike, scales [G, N].

import type { KernelMemory } from './kernel_memory.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import {
  BLOCK_BYTES,
  COLUMN_BLOCK_BYTES,
  checkPart,
  FLOAT_DTYPES,
  FloatBlock,
  PartBlock,
  requirePart,
  rowBlocks,
  rowsPerBlock,
} from './part_reader.js';
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
import { describeJson, type JsonObject } from './strict_json.js';
import type { ModelTensor } from './tensor_file.js';

const QWEIGHT = '.qweight';
/** A row of codes is spread over all K rows of the part; more rows at once are longer runs of each. */
const SLICE_BYTES = 2 * BLOCK_BYTES;

/** Modules with `qweight` I32 [K, N/8]. */
export async function importAwq(model: ModelCheckpoint, _layout: LayoutChoice): Promise<readonly Found[]> {
  const config = quantizationConfig(model);
  const method = config && setting(config, 'quant_method');
  if (method !== undefined && method !== 'awq') return [];
  const found: Found[] = [];
  for (const [tensorName, qweight] of model.tensors) {
    if (!tensorName.endsWith(QWEIGHT)) continue;
    const module = tensorName.slice(0, -QWEIGHT.length);
    const columns = model.tensors.get(`${module}.scales`)?.shape[1];
    if (method === undefined && columns !== 8 * (qweight.shape[1] ?? 0)) continue;
    const name = `${module}.weight`;
    const parts = ['qweight', 'qzeros', 'scales'].flatMap((part) => model.tensors.get(`${module}.${part}`) ?? []);
    found.push(
      await foundWeight(name, parts, () => {
        if (config) checkConfig(name, config);
        const part = (suffix: string) => requirePart(model.tensors, `${module}.${suffix}`, name);
        return awqWeight(name, qweight, part('qzeros'), part('scales'), config);
      }),
    );
  }
  return found;
}

function checkConfig(name: string, config: JsonObject): void {
  const version = setting(config, 'version') ?? 'gemm';
  if (typeof version !== 'string' || version.toLowerCase() !== 'gemm') {
    throw unsupportedWeight(name, 'its AWQ version must be one whose layout is known', '"gemm"', describeJson(version));
  }
  const bits = setting(config, 'bits', 'w_bit') ?? 4;
  if (bits !== 4) throw unsupportedWeight(name, 'codes must have 4 bits', 'bits 4', describeJson(bits));
}

function awqWeight(
  name: string,
  qweight: ModelTensor,
  qzeros: ModelTensor,
  scales: ModelTensor,
  config: JsonObject | undefined,
): SourceWeight {
  const [k = 0, words = 0] = qweight.shape;
  const n = 8 * words;
  const nGroups = scales.shape[0] ?? 0;
  checkPart(qweight, ['I32', 'U32'], [k, words], 'codes I32 [K, N/8]');
  checkPart(scales, FLOAT_DTYPES, [nGroups, n], 'floats [G, N]');
  checkPart(qzeros, ['I32', 'U32'], [nGroups, words], 'zero points I32 [G, N/8]');
  const groupSize = k / nGroups;
  const told = config && setting(config, 'group_size', 'q_group_size');
  if (typeof told === 'number' && told > 0 && told !== groupSize) {
    throw unsupportedWeight(
      name,
      'scales must be [K/group_size, N]',
      `${k / told} groups of ${told}`,
      `${nGroups} groups`,
    );
  }
  async function* slices(memory: KernelMemory): AsyncGenerator<SourceRows> {
    memory.clear();
    const blockRows = rowsPerBlock(n, k / 2, COLUMN_BLOCK_BYTES);
    const sliceRows = rowsPerBlock(blockRows, k / 2, SLICE_BYTES);
    const codes = new PartBlock(memory, qweight, blockRows, 'columns', 8);
    const zeros = new PartBlock(memory, qzeros, blockRows, 'columns', 8);
    const scale = new FloatBlock(memory, scales, blockRows, sliceRows, 'columns');
    const space = new SliceSpace(memory, sliceRows, k, nGroups);
    const { transposeAwq, unpackZeroPoints } = memory.kernels;
    for (const { firstRow, n: blockN } of rowBlocks(n, k / 2, COLUMN_BLOCK_BYTES)) {
      let blockBytes = 0;
      for (const part of [codes, zeros, scale]) blockBytes += await part.read(firstRow, blockN);
      for (const { firstRow: row, n: rows } of rowBlocks(blockN, k / 2, SLICE_BYTES)) {
        transposeAwq(codes.address(row), codes.stride, k, rows / 8, space.qdata.address);
        scale.widen(row, rows, space.scale);
        const [from, to] = [zeros.address(row), space.second.address];
        unpackZeroPoints(from, 4, zeros.stride, rows, nGroups, 0, 0, true, to);
        yield { firstRow: firstRow + row, n: rows, space, readBytes: (blockBytes * rows) / blockN };
      }
    }
  }
  return {
    name,
    format: 'awq:gemm',
    parts: [qweight, qzeros, scales],
    n,
    k,
    groupSize,
    form: zeroForm(scales.dtype),
    slices,
  };
}

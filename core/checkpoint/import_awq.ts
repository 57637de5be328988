// AWQ, GEMM version: codes packed along N with interleaved columns in u32[K, N/8], zero points alike, scales [G, N].

import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { AWQ_ORDER, transposeAwq } from './nibbles.js';
import { checkPart, FLOAT_DTYPES, floats, readColumns, requirePart, rowBlocks } from './part_reader.js';
import { quantizationConfig, setting } from './quantization_config.js';
import { groupsByRow } from './row_groups.js';
import { SliceBuffers } from './slice_buffers.js';
import { type Found, foundWeight, type SourceRows, type SourceWeight, unsupportedWeight } from './source_weight.js';
import { describeJson, type JsonObject } from './strict_json.js';
import type { ModelTensor } from './tensor_file.js';
import { u32View } from './views.js';

const QWEIGHT = '.qweight';
/** The nibble in which each of eight neighbouring columns lies. */
const POSITION = AWQ_ORDER.map((_, column) => AWQ_ORDER.indexOf(column));

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
  async function* slices(buffers = new SliceBuffers()): AsyncGenerator<SourceRows> {
    for (const { firstRow, n: rows } of rowBlocks(n, k / 2, 'columns')) {
      const columns = rows / 8;
      const codes = await readColumns(qweight, firstRow / 8, columns, buffers);
      const scaleBytes = await readColumns(scales, firstRow, rows, buffers);
      const zeroBytes = await readColumns(qzeros, firstRow / 8, columns, buffers);
      const qdata = buffers.bytes('qdata', codes.length);
      transposeAwq(u32View(codes), k, columns, u32View(qdata));
      const s = floats(scales, scaleBytes, buffers);
      const words = u32View(zeroBytes);
      const zeros = buffers.f32('zeros', s.length);
      for (let i = 0; i < zeros.length; i++) zeros[i] = (words[i >> 3]! >>> (4 * POSITION[i & 7]!)) & 15;
      const groups = groupsByRow(s, zeros, rows, 'zero point', buffers);
      const readBytes = codes.byteLength + scaleBytes.byteLength + zeroBytes.byteLength;
      yield { firstRow, n: rows, qdata, ...groups, readBytes };
    }
  }
  return { name, format: 'awq:gemm', parts: [qweight, qzeros, scales], n, k, groupSize, slices };
}

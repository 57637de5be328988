// AWQ, GEMM version: codes packed along N with interleaved columns in u32[K, N/8], zero points alike, scales [G, N].

import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { AWQ_ORDER, transposeAwq } from './nibbles.js';
import { checkPart, FLOAT_DTYPES, floatColumns, readColumns, requirePart, rowBlocks } from './part_reader.js';
import { quantizationConfig, setting } from './quantization_config.js';
import { zeroPointGroups } from './row_groups.js';
import { SliceBuffers } from './slice_buffers.js';
import { type Found, foundWeight, type SourceRows, type SourceWeight, unsupportedWeight } from './source_weight.js';
import { describeJson, type JsonObject } from './strict_json.js';
import type { ModelTensor } from './tensor_file.js';
import type { ColumnRange } from './transpose.js';
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
    for (const block of rowBlocks(n, k / 2, 'columns')) {
      const codes = await readColumns(qweight, block.firstRow / 8, block.n / 8, buffers);
      const scaleBytes = await readColumns(scales, block.firstRow, block.n, buffers);
      const zeroBytes = await readColumns(qzeros, block.firstRow / 8, block.n / 8, buffers);
      const blockBytes = codes.byteLength + scaleBytes.byteLength + zeroBytes.byteLength;
      for (const { firstRow: column, n: rows } of rowBlocks(block.n, k / 2)) {
        const words = { stride: block.n / 8, column: column / 8, columns: rows / 8 };
        const qdata = buffers.bytes('qdata', (rows * k) / 2);
        transposeAwq(u32View(codes), { ...words, rows: k }, u32View(qdata));
        const range = { stride: block.n, column, rows: nGroups, columns: rows };
        const scale = floatColumns(scales, scaleBytes, range, buffers);
        const zeros = buffers.f32('zeros', scale.length);
        unpackZeros(u32View(zeroBytes), { ...words, rows: nGroups }, zeros);
        const readBytes = (blockBytes * rows) / block.n;
        yield { firstRow: block.firstRow + column, n: rows, qdata, groups: zeroPointGroups(scale, zeros), readBytes };
      }
    }
  }
  return { name, format: 'awq:gemm', parts: [qweight, qzeros, scales], n, k, groupSize, slices };
}

/** u32[G, columns], eight rows to a word, to f32[columns * 8, G]. */
function unpackZeros(words: Uint32Array, { stride, column, rows: nGroups }: ColumnRange, zeros: Float32Array): void {
  for (let row = 0, to = 0; to < zeros.length; row++) {
    const first = column + (row >> 3);
    const shift = 4 * POSITION[row & 7]!;
    for (let g = 0; g < nGroups; g++, to++) zeros[to] = (words[g * stride + first]! >>> shift) & 15;
  }
}

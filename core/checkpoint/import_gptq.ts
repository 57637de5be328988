// GPTQ, versions 1 and 2: codes packed along K in u32[K/8, N], zero points along N, scales [G, N].

import { actOrderError, refuseActOrder } from './group_order.js';
import type { KernelMemory } from './kernel_memory.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import {
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
import { quoted } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';

const QWEIGHT = '.qweight';

/** How a stored zero point becomes the one that is meant. */
type ZeroRule = 'as stored' | 'plus one' | 'whole word plus one';

/**
 * What is added to the word of eight zero points, then to each. GPTQModel took 1 from whole words, with borrows across
 * nibbles, so 1 is given back to whole words.
 */
const ADDENDS: Readonly<Record<ZeroRule, readonly [word: number, each: number]>> = {
  'as stored': [0, 0],
  'plus one': [0, 1],
  'whole word plus one': [0x11111111, 0],
};

/** Modules with `qweight` I32 [K/8, N]. AWQ has the same names and [K, N/8]. */
export async function importGptq(model: ModelCheckpoint, layout: LayoutChoice): Promise<readonly Found[]> {
  const config = quantizationConfig(model);
  const method = config && setting(config, 'quant_method');
  if (method !== undefined && method !== 'gptq') return [];
  const found: Found[] = [];
  for (const [tensorName, qweight] of model.tensors) {
    if (!tensorName.endsWith(QWEIGHT)) continue;
    const module = tensorName.slice(0, -QWEIGHT.length);
    const columns = model.tensors.get(`${module}.scales`)?.shape[1];
    if (method === undefined && columns !== undefined && columns === 8 * (qweight.shape[1] ?? 0)) continue;
    const name = `${module}.weight`;
    const parts = ['qweight', 'qzeros', 'scales', 'g_idx'].flatMap(
      (part) => model.tensors.get(`${module}.${part}`) ?? [],
    );
    found.push(
      await foundWeight(name, parts, async () => {
        const part = (suffix: string) => requirePart(model.tensors, `${module}.${suffix}`, name);
        const weight = { name, qweight, qzeros: part('qzeros'), scales: part('scales') };
        return gptqWeight(weight, model.tensors.get(`${module}.g_idx`), zeroRule(name, config, layout), config);
      }),
    );
  }
  return found;
}

/** @throws SamebitsError FILE_FORMAT_UNSUPPORTED where writers disagree, FILE_LAYOUT_AMBIGUOUS without a config */
function zeroRule(name: string, config: JsonObject | undefined, layout: LayoutChoice): ZeroRule {
  if (config === undefined) {
    const answer = layout.ask(
      ['gptq-v1', 'gptq-v2'],
      `weight ${quoted(name)}: a GPTQ model must say its version`,
      'neither quantization_config in config.json nor quantize_config.json',
    );
    return answer === 'gptq-v1' ? 'plus one' : 'as stored';
  }
  const bits = setting(config, 'bits');
  if (bits !== undefined && bits !== 4)
    throw unsupportedWeight(name, 'codes must have 4 bits', 'bits 4', describeJson(bits));
  const format = setting(config, 'checkpoint_format', 'format') ?? 'gptq';
  if (format === 'gptq_v2') return 'as stored';
  if (format !== 'gptq') {
    const rule = 'its GPTQ format must be one whose layout is known';
    throw unsupportedWeight(name, rule, 'checkpoint_format "gptq" or "gptq_v2"', describeJson(format));
  }
  if (layout.options.assumeZeroOffset || setting(config, 'sym') !== false) return 'plus one';
  const meta = config.get('meta');
  const quantizer = meta instanceof Map ? meta.get('quantizer') : undefined;
  const writers = Array.isArray(quantizer) ? quantizer : [quantizer];
  if (writers.some((writer) => typeof writer === 'string' && /^gptqmodel\b/i.test(writer)))
    return 'whole word plus one';
  throw unsupportedWeight(
    name,
    'zero points of an asymmetric GPTQ v1 model must have one meaning',
    'checkpoint_format "gptq_v2", sym true, or a model that GPTQModel wrote (meta.quantizer)',
    'sym false in version 1 by another writer, whose readers disagree',
    'Convert it to gptq_v2 with GPTQModel, or pass --assume-zero-offset to read stored + 1.',
  );
}

interface GptqParts {
  readonly name: string;
  readonly qweight: ModelTensor;
  readonly qzeros: ModelTensor;
  readonly scales: ModelTensor;
}

async function gptqWeight(
  { name, qweight, qzeros, scales }: GptqParts,
  gIdx: ModelTensor | undefined,
  rule: ZeroRule,
  config: JsonObject | undefined,
): Promise<SourceWeight> {
  const [kWords = 0, n = 0] = qweight.shape;
  const k = 8 * kWords;
  const nGroups = scales.shape[0] ?? 0;
  checkPart(qweight, ['I32', 'U32'], [kWords, n], 'codes I32 [K/8, N]');
  checkPart(scales, FLOAT_DTYPES, [nGroups, n], 'floats [G, N]');
  checkPart(qzeros, ['I32', 'U32'], [nGroups, n / 8], 'zero points I32 [G, N/8]');
  const groupSize = k / nGroups;
  const told = config && setting(config, 'group_size');
  if (typeof told === 'number' && told > 0 && told !== groupSize) {
    const rule = 'scales must be [K/group_size, N]';
    throw unsupportedWeight(name, rule, `${k / told} groups of ${told}`, `${nGroups} groups`);
  }
  if (gIdx) await refuseActOrder(name, gIdx, k, groupSize);
  else if (config && setting(config, 'desc_act') === true)
    throw actOrderError(name, groupSize, 'desc_act without g_idx');

  async function* slices(memory: KernelMemory): AsyncGenerator<SourceRows> {
    memory.clear();
    const blockRows = rowsPerBlock(n, k / 2, COLUMN_BLOCK_BYTES);
    const sliceRows = rowsPerBlock(blockRows, k / 2);
    const codes = new PartBlock(memory, qweight, blockRows, 'columns');
    const zeros = new PartBlock(memory, qzeros, blockRows, 'columns', 8);
    const scale = new FloatBlock(memory, scales, blockRows, sliceRows, 'columns');
    const space = new SliceSpace(memory, sliceRows, k, nGroups);
    const { transpose32, unpackZeroPoints } = memory.kernels;
    const [wordAddend, addend] = ADDENDS[rule];
    for (const { firstRow, n: blockN } of rowBlocks(n, k / 2, COLUMN_BLOCK_BYTES)) {
      let blockBytes = 0;
      for (const part of [codes, zeros, scale]) blockBytes += await part.read(firstRow, blockN);
      for (const { firstRow: row, n: rows } of rowBlocks(blockN, k / 2)) {
        transpose32(codes.address(row), codes.stride, kWords, rows, space.qdata.address);
        scale.widen(row, rows, space.scale);
        const [from, to] = [zeros.address(row), space.second.address];
        unpackZeroPoints(from, 4, zeros.stride, rows, nGroups, wordAddend, addend, false, to);
        yield { firstRow: firstRow + row, n: rows, space, readBytes: (blockBytes * rows) / blockN };
      }
    }
  }
  const parts = gIdx ? [qweight, qzeros, scales, gIdx] : [qweight, qzeros, scales];
  const format = rule === 'as stored' ? 'gptq:v2' : 'gptq:v1';
  return { name, format, parts, n, k, groupSize, form: zeroForm(scales.dtype), slices };
}

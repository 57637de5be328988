// GPTQ, versions 1 and 2: codes packed along K in u32[K/8, N], zero points along N, scales [G, N].

import { actOrderError, refuseActOrder } from './group_order.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { checkPart, FLOAT_DTYPES, floatColumns, readColumns, requirePart, rowBlocks } from './part_reader.js';
import { quantizationConfig, setting } from './quantization_config.js';
import { zeroPointGroups } from './row_groups.js';
import { SliceBuffers } from './slice_buffers.js';
import { type Found, foundWeight, type SourceRows, type SourceWeight, unsupportedWeight } from './source_weight.js';
import { describeJson, type JsonObject } from './strict_json.js';
import { quoted } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';
import { transposeWords } from './transpose.js';
import { u32View } from './views.js';

const QWEIGHT = '.qweight';

/** How a stored zero point becomes the one that is meant. */
type ZeroRule = 'as stored' | 'plus one' | 'whole word plus one';

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

  async function* slices(buffers = new SliceBuffers()): AsyncGenerator<SourceRows> {
    for (const block of rowBlocks(n, k / 2, 'columns')) {
      const codes = await readColumns(qweight, block.firstRow, block.n, buffers);
      const scaleBytes = await readColumns(scales, block.firstRow, block.n, buffers);
      const zeroBytes = await readColumns(qzeros, block.firstRow / 8, block.n / 8, buffers);
      const blockBytes = codes.byteLength + scaleBytes.byteLength + zeroBytes.byteLength;
      for (const { firstRow: column, n: rows } of rowBlocks(block.n, k / 2)) {
        const range = { stride: block.n, column, columns: rows };
        const qdata = buffers.bytes('qdata', (rows * k) / 2);
        transposeWords(u32View(codes), { ...range, rows: kWords }, u32View(qdata));
        const scale = floatColumns(scales, scaleBytes, { ...range, rows: nGroups }, buffers);
        const zeros = buffers.f32('zeros', scale.length);
        unpackZeros(u32View(zeroBytes), block.n / 8, column, nGroups, rule, zeros);
        const readBytes = (blockBytes * rows) / block.n;
        yield { firstRow: block.firstRow + column, n: rows, qdata, groups: zeroPointGroups(scale, zeros), readBytes };
      }
    }
  }
  const parts = gIdx ? [qweight, qzeros, scales, gIdx] : [qweight, qzeros, scales];
  return { name, format: rule === 'as stored' ? 'gptq:v2' : 'gptq:v1', parts, n, k, groupSize, slices };
}

/** Of u32[G, stride], eight columns to a word, columns `column`... to f32[rows, G]. */
function unpackZeros(
  words: Uint32Array,
  stride: number,
  column: number,
  nGroups: number,
  rule: ZeroRule,
  zeros: Float32Array,
): void {
  for (let row = 0, to = 0; to < zeros.length; row++) {
    const first = (column + row) >> 3;
    for (let g = 0; g < nGroups; g++, to++) zeros[to] = storedZero(words[g * stride + first]!, row & 7, rule);
  }
}

/** GPTQModel took 1 from whole words, with borrows across nibbles, so 1 is given back to whole words. */
function storedZero(word: number, nibble: number, rule: ZeroRule): number {
  if (rule === 'whole word plus one') return ((word + 0x11111111) >>> (4 * nibble)) & 15;
  const stored = (word >>> (4 * nibble)) & 15;
  return rule === 'plus one' ? stored + 1 : stored;
}

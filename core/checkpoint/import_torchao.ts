// torchao's safetensors: Int4Tensor, unsigned (ExecuTorch) or two's complement (stock), and IntxUnpackedToInt8Tensor.

import { SamebitsError } from '../errors.js';
import type { KernelMemory, Kernels } from './kernel_memory.js';
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
import { SliceSpace } from './slice_space.js';
import {
  type Found,
  foundWeight,
  offsetForm,
  type SourceRows,
  type SourceWeight,
  unsupportedWeight,
  zeroForm,
} from './source_weight.js';
import { describeJson, isJsonObject, type JsonObject, parseStrictJson, parseStrictJsonObject } from './strict_json.js';
import { quoted } from './tensor_error.js';
import type { ModelTensor, TensorFile } from './tensor_file.js';

const NAMES_KEY = 'tensor_names';
/** How far a zero point may lie outside the codes before the convention is in doubt. */
const UNSIGNED_ZERO = [-1, 16] as const;
/** The same in scales. */
const SIGNED_ZERO = [-8.5, 8.5] as const;

/** Weights that the metadata of a file describes. */
export async function importTorchao(model: ModelCheckpoint, layout: LayoutChoice): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const file of model.files) {
    for (const name of tensorNames(file)) {
      const what = `the metadata of ${quoted(name)} in ${file.name}`;
      const entry = parseStrictJsonObject(file.metadata.get(name) ?? '', what);
      if (entry.get('_type') !== 'Tensor') found.push(await findOne(model, layout, name, entry));
    }
  }
  return found;
}

function tensorNames(file: TensorFile): readonly string[] {
  const text = file.metadata.get(NAMES_KEY);
  if (text === undefined) return [];
  const names = parseStrictJson(text, `${NAMES_KEY} in the metadata of ${file.name}`);
  if (Array.isArray(names) && names.every((name) => typeof name === 'string')) return names;
  throw new SamebitsError('FILE_HEADER_INVALID', {
    rule: `${NAMES_KEY} in the metadata of ${file.name} must list names`,
    expected: 'an array of strings',
    got: describeJson(names),
    fix: 'The file is damaged; fetch it again.',
  });
}

/** `P.W` keeps its attribute A in the tensor `P._W_A`. */
export function torchaoPartName(name: string, attribute: string): string {
  const dot = name.lastIndexOf('.');
  return `${name.slice(0, dot + 1)}_${name.slice(dot + 1)}_${attribute}`;
}

async function findOne(model: ModelCheckpoint, layout: LayoutChoice, name: string, entry: JsonObject): Promise<Found> {
  const listed = entry.get('_tensor_data_names');
  const attributes = Array.isArray(listed) ? listed.filter((attribute) => typeof attribute === 'string') : [];
  const parts = attributes.flatMap((attribute) => model.tensors.get(torchaoPartName(name, attribute)) ?? []);
  const data = entry.get('_data');
  const settings: JsonObject = isJsonObject(data) ? data : new Map();
  const type = entry.get('_type');
  if (type === 'IntxUnpackedToInt8Tensor') {
    const target = settings.get('target_dtype');
    const bits = isJsonObject(target) ? target.get('_data') : target;
    if (bits !== 'int4') return { kind: 'left', name, parts, reason: `target_dtype ${describeJson(bits)}, not int4` };
    return foundWeight(name, parts, () => intxWeight(model, name, settings));
  }
  return foundWeight(name, parts, () => {
    if (type !== 'Int4Tensor') {
      const rule = 'its tensor type must be one whose layout is known';
      throw unsupportedWeight(name, rule, 'Int4Tensor or IntxUnpackedToInt8Tensor', describeJson(type));
    }
    if (attributes.includes('act_pre_scale')) {
      const rule = 'its activations must not need a scale of their own';
      throw unsupportedWeight(name, rule, 'no act_pre_scale', 'act_pre_scale, which the operator would not apply');
    }
    const part = (attribute: string) => requirePart(model.tensors, torchaoPartName(name, attribute), name);
    const [qdata, scale, zeroPoint] = [part('qdata'), part('scale'), part('zero_point')];
    return int4Weight({
      name,
      qdata,
      scale,
      zeroPoint,
      groupSize: groupSizeOf(name, settings),
      order: 'native',
      layout,
    });
  });
}

function groupSizeOf(name: string, settings: JsonObject): number {
  const blockSize = settings.get('block_size');
  if (Array.isArray(blockSize) && blockSize.length === 2 && blockSize[0] === 1 && Number.isSafeInteger(blockSize[1])) {
    return Number(blockSize[1]);
  }
  throw unsupportedWeight(
    name,
    'it must be a matrix with groups along K',
    'block_size [1, g]',
    describeJson(blockSize),
  );
}

export interface Int4Parts {
  readonly name: string;
  readonly qdata: ModelTensor;
  readonly scale: ModelTensor;
  readonly zeroPoint: ModelTensor;
  readonly groupSize: number;
  /** native: scale and zero_point are [K/groupSize, N]; coalesced: [N, K/groupSize]. */
  readonly order: 'native' | 'coalesced';
  readonly layout: LayoutChoice;
}

/**
 * Codes two a byte with scale and zero_point tensors. U8: `w = (q - zero_point) * scale`. I8, stock torchao: codes in two's
 * complement and the zero point in units of the weight, `w = s * scale + zero_point`.
 */
export function int4Weight({ name, qdata, scale, zeroPoint, groupSize, order, layout }: Int4Parts): SourceWeight {
  const [n = 0, kHalf = 0] = qdata.shape;
  const k = 2 * kHalf;
  checkPart(qdata, ['U8', 'I8'], [n, kHalf], 'codes U8 or I8 [N, K/2]');
  const nGroups = k / groupSize;
  const shape = order === 'native' ? [nGroups, n] : [n, nGroups];
  for (const part of [scale, zeroPoint]) {
    checkPart(part, FLOAT_DTYPES, shape, order === 'native' ? 'floats [K/group_size, N]' : 'floats [N, K/group_size]');
  }
  const told = layout.given(['signed', 'unsigned']);
  const isSigned = (told ?? (qdata.dtype === 'I8' ? 'signed' : 'unsigned')) === 'signed';
  const [by, blockBytes] =
    order === 'native' ? (['columns', COLUMN_BLOCK_BYTES] as const) : (['rows', BLOCK_BYTES] as const);
  async function* slices(memory: KernelMemory): AsyncGenerator<SourceRows> {
    memory.clear();
    const blockRows = rowsPerBlock(n, kHalf, blockBytes);
    const sliceRows = rowsPerBlock(blockRows, kHalf);
    const space = new SliceSpace(memory, sliceRows, k, nGroups);
    const codes = new PartBlock(memory, qdata, sliceRows, 'rows', 1, space.qdata);
    const scales = new FloatBlock(memory, scale, blockRows, sliceRows, by);
    const zeros = new FloatBlock(memory, zeroPoint, blockRows, sliceRows, by);
    for (const { firstRow, n: blockN } of rowBlocks(n, kHalf, blockBytes)) {
      let groupBytes = 0;
      for (const part of [scales, zeros]) groupBytes += await part.read(firstRow, blockN);
      for (const { firstRow: row, n: rows } of rowBlocks(blockN, kHalf)) {
        const codeBytes = await codes.read(firstRow + row, rows);
        if (isSigned) memory.kernels.flipSigns(space.qdata.address, codeBytes);
        scales.widen(row, rows, space.scale);
        zeros.widen(row, rows, space.second);
        if (told === undefined) refuseDoubtful({ name, layout, isSigned }, memory.kernels, space, rows * nGroups);
        const readBytes = codeBytes + (groupBytes * rows) / blockN;
        yield { firstRow: firstRow + row, n: rows, space, readBytes };
      }
    }
  }
  const format = `torchao:Int4Tensor-${isSigned ? 'signed' : 'unsigned'}`;
  const form = isSigned ? offsetForm(scale.dtype, 8) : zeroForm(scale.dtype);
  return { name, format, parts: [qdata, scale, zeroPoint], n, k, groupSize, form, slices };
}

/** Two writers use the same names for different meanings; values that fit neither code range betray a mix-up. */
function refuseDoubtful(
  { name, layout, isSigned }: Pick<Int4Parts, 'name' | 'layout'> & { readonly isSigned: boolean },
  { firstOutside }: Kernels,
  { scale, second }: SliceSpace,
  count: number,
): void {
  const [least, most] = isSigned ? SIGNED_ZERO : UNSIGNED_ZERO;
  const at = firstOutside(second.address, isSigned ? scale.address : 0, count, least, most);
  if (at < 0) return;
  const convention = isSigned ? 'I8, signed' : 'U8, unsigned';
  const rule = `weight ${quoted(name)}: codes that are ${convention}, must have zero points of that convention`;
  const found = `zero_point ${second.f32(count)[at]} with scale ${scale.f32(count)[at]}`;
  layout.ask(['signed', 'unsigned'], rule, found);
}

/** Codes -8..7 in a byte each; `w = (s - zero_point) * scale`. */
function intxWeight(model: ModelCheckpoint, name: string, settings: JsonObject): SourceWeight {
  const part = (attribute: string) => requirePart(model.tensors, torchaoPartName(name, attribute), name);
  const [qdata, scale, zeroPoint] = [part('qdata'), part('scale'), part('zero_point')];
  const groupSize = groupSizeOf(name, settings);
  const [n = 0, k = 0] = qdata.shape;
  const nGroups = k / groupSize;
  checkPart(qdata, ['I8'], [n, k], 'codes I8 [N, K]');
  checkPart(scale, FLOAT_DTYPES, [n, nGroups], 'floats [N, K/group_size]');
  checkPart(zeroPoint, ['I8', ...FLOAT_DTYPES], [n, nGroups], 'I8 or floats [N, K/group_size]');
  async function* slices(memory: KernelMemory): AsyncGenerator<SourceRows> {
    memory.clear();
    const sliceRows = rowsPerBlock(n, k);
    const space = new SliceSpace(memory, sliceRows, k, nGroups);
    const codes = new PartBlock(memory, qdata, sliceRows, 'rows');
    const scales = new FloatBlock(memory, scale, sliceRows, sliceRows, 'rows');
    const isInteger = zeroPoint.dtype === 'I8';
    const zeros = isInteger
      ? new PartBlock(memory, zeroPoint, sliceRows, 'rows')
      : new FloatBlock(memory, zeroPoint, sliceRows, sliceRows, 'rows');
    for (const { firstRow, n: rows } of rowBlocks(n, k)) {
      let readBytes = 0;
      for (const part of [codes, scales, zeros]) readBytes += await part.read(firstRow, rows);
      const bad = memory.kernels.packSigned(codes.address(0), rows * k, space.qdata.address);
      if (bad >= 0) throw codeOutOfRange(name, firstRow + Math.floor(bad / k), codes.region.bytes()[bad]!);
      scales.widen(0, rows, space.scale);
      const second = space.second.f32(rows * nGroups);
      if (zeros instanceof FloatBlock) zeros.widen(0, rows, space.second);
      else second.set(new Int8Array(zeros.region.bytes(second.length)));
      for (let g = 0; g < second.length; g++) second[g] = second[g]! + 8;
      yield { firstRow, n: rows, space, readBytes };
    }
  }
  const format = 'torchao:IntxUnpackedToInt8Tensor';
  return { name, format, parts: [qdata, scale, zeroPoint], n, k, groupSize, form: zeroForm(scale.dtype), slices };
}

function codeOutOfRange(name: string, row: number, byte: number): SamebitsError {
  return new SamebitsError('FILE_TENSOR_INVALID', {
    rule: `weight ${quoted(name)}: codes must be int4`,
    expected: 'values in -8..7',
    got: `${(byte << 24) >> 24} in row ${row}`,
    fix: 'The file is damaged, or its codes are int8.',
  });
}

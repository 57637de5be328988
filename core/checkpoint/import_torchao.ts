// torchao's safetensors: Int4Tensor, unsigned (ExecuTorch) or two's complement (stock), and IntxUnpackedToInt8Tensor.

import { SamebitsError } from '../errors.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import { flipSigns, packSigned } from './nibbles.js';
import {
  checkPart,
  FLOAT_DTYPES,
  floatColumns,
  floats,
  readColumns,
  readRows,
  requirePart,
  rowBlocks,
} from './part_reader.js';
import { offsetGroups, zeroPointGroups } from './row_groups.js';
import { SliceBuffers } from './slice_buffers.js';
import { type Found, foundWeight, type SourceRows, type SourceWeight, unsupportedWeight } from './source_weight.js';
import { describeJson, isJsonObject, type JsonObject, parseStrictJson, parseStrictJsonObject } from './strict_json.js';
import { quoted } from './tensor_error.js';
import type { ModelTensor, TensorFile } from './tensor_file.js';

const NAMES_KEY = 'tensor_names';
/** How far a zero point may lie outside the codes before the convention is in doubt. */
const UNSIGNED_ZERO = { min: -1, max: 16 } as const;
const SIGNED_REACH = 8.5;

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
  const groupsOf = (s: Float32Array, z: Float32Array) => {
    if (told === undefined) refuseDoubtful({ name, layout, isSigned }, s, z);
    return isSigned ? offsetGroups(s, z, 8) : zeroPointGroups(s, z);
  };
  async function* slices(buffers = new SliceBuffers()): AsyncGenerator<SourceRows> {
    for (const block of rowBlocks(n, kHalf, order === 'native' ? 'columns' : 'rows')) {
      const read = order === 'native' ? readColumns : readRows;
      const scaleBytes = await read(scale, block.firstRow, block.n, buffers);
      const zeroBytes = await read(zeroPoint, block.firstRow, block.n, buffers);
      for (const { firstRow: column, n: rows } of rowBlocks(block.n, kHalf)) {
        const firstRow = block.firstRow + column;
        const codes = await readRows(qdata, firstRow, rows, buffers);
        if (isSigned) flipSigns(new Uint32Array(codes.buffer, codes.byteOffset, codes.byteLength / 4));
        const range = { stride: block.n, column, rows: nGroups, columns: rows };
        const inRows = (part: ModelTensor, bytes: Uint8Array<ArrayBuffer>) =>
          order === 'native' ? floatColumns(part, bytes, range, buffers) : floats(part, bytes, buffers);
        const groups = groupsOf(inRows(scale, scaleBytes), inRows(zeroPoint, zeroBytes));
        const readBytes = codes.byteLength + ((scaleBytes.byteLength + zeroBytes.byteLength) * rows) / block.n;
        yield { firstRow, n: rows, qdata: codes, groups, readBytes };
      }
    }
  }
  const format = `torchao:Int4Tensor-${isSigned ? 'signed' : 'unsigned'}`;
  return { name, format, parts: [qdata, scale, zeroPoint], n, k, groupSize, slices };
}

/** Two writers use the same names for different meanings; values that fit neither code range betray a mix-up. */
function refuseDoubtful(
  { name, layout, isSigned }: Pick<Int4Parts, 'name' | 'layout'> & { readonly isSigned: boolean },
  scale: Float32Array,
  zero: Float32Array,
): void {
  for (let i = 0; i < scale.length; i++) {
    const [s, z] = [scale[i]!, zero[i]!];
    const isDoubtful = isSigned
      ? Math.abs(z) > SIGNED_REACH * Math.abs(s)
      : z < UNSIGNED_ZERO.min || z > UNSIGNED_ZERO.max;
    if (!isDoubtful) continue;
    const convention = isSigned ? 'I8, signed' : 'U8, unsigned';
    const rule = `weight ${quoted(name)}: codes that are ${convention}, must have zero points of that convention`;
    layout.ask(['signed', 'unsigned'], rule, `zero_point ${z} with scale ${s}`);
  }
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
  async function* slices(buffers = new SliceBuffers()): AsyncGenerator<SourceRows> {
    for (const { firstRow, n: rows } of rowBlocks(n, k)) {
      const codes = await readRows(qdata, firstRow, rows, buffers);
      const scaleBytes = await readRows(scale, firstRow, rows, buffers);
      const zeroBytes = await readRows(zeroPoint, firstRow, rows, buffers);
      const packed = buffers.bytes('qdata', codes.length / 2);
      const bad = packSigned(
        new Uint32Array(codes.buffer, codes.byteOffset, codes.length / 4),
        new Uint16Array(packed.buffer),
      );
      if (bad >= 0)
        throw codeOutOfRange(name, firstRow + Math.floor((4 * bad) / k), codes.subarray(4 * bad, 4 * bad + 4));
      const s = floats(scale, scaleBytes, buffers);
      const z =
        zeroPoint.dtype === 'I8'
          ? new Int8Array(zeroBytes.buffer, zeroBytes.byteOffset, zeroBytes.byteLength)
          : floats(zeroPoint, zeroBytes, buffers);
      const zeros = Float32Array.from(z, (zero) => zero + 8);
      const groups = zeroPointGroups(s, zeros);
      const readBytes = codes.byteLength + scaleBytes.byteLength + zeroBytes.byteLength;
      yield { firstRow, n: rows, qdata: packed, groups, readBytes };
    }
  }
  return {
    name,
    format: 'torchao:IntxUnpackedToInt8Tensor',
    parts: [qdata, scale, zeroPoint],
    n,
    k,
    groupSize,
    slices,
  };
}

function codeOutOfRange(name: string, row: number, bytes: Uint8Array): SamebitsError {
  return new SamebitsError('FILE_TENSOR_INVALID', {
    rule: `weight ${quoted(name)}: codes must be int4`,
    expected: 'values in -8..7',
    got: `${new Int8Array(Uint8Array.from(bytes).buffer)} in row ${row}`,
    fix: 'The file is damaged, or its codes are int8.',
  });
}

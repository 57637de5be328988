// The same weight in every format that is read, each written from its byte rules.

import { type ImportOptions, memoryFolder, Random, type SourceFolder } from '../../core/index.js';
import { gguf, q4kBlock, q40, q41 } from './gguf_bytes.js';
import {
  awqParts,
  compressedParts,
  folderOf,
  gptqParts,
  intxParts,
  mlxParts,
  type PlainNumbers,
  torchaoMetadata,
  torchaoParts,
} from './import_bytes.js';

/** Codes of every value, scales that are powers of two, integer zero points: every format holds them exactly. */
export function numbers(n: number, k: number, groupSize: number, zero?: number): PlainNumbers {
  const random = Random.named(`${n} ${k} ${groupSize}`);
  const count = (n * k) / groupSize;
  return {
    n,
    k,
    groupSize,
    q: Uint8Array.from({ length: n * k }, () => random.below(16)),
    scale: Float64Array.from({ length: count }, () => 2 ** -random.below(8) * (random.below(2) === 0 ? 1 : 1.5)),
    zero: Float64Array.from({ length: count }, () => zero ?? 1 + random.below(15)),
  };
}

export const GPTQ = { bits: 4, quant_method: 'gptq', desc_act: false };
export const config = (quantization_config: object) => ({ 'config.json': { quantization_config } });
export const AWQ = config({ quant_method: 'awq', version: 'gemm', bits: 4, zero_point: true });
export const COMPRESSED = config({ quant_method: 'compressed-tensors', format: 'pack-quantized' });
export const mlxConfig = (group_size: number) => ({ 'config.json': { quantization: { group_size, bits: 4 } } });

/** A checkpoint with one 4-bit weight, `m.weight`. */
export type ImportSource = readonly [
  folder: SourceFolder,
  expected: PlainNumbers,
  format: string,
  options?: ImportOptions,
  entry?: string,
];

/** The same weight in every format of a safetensors file; `symmetric` has 8 for all zero points. */
function safetensorsSources(w: PlainNumbers, symmetric: PlainNumbers): Readonly<Record<string, ImportSource>> {
  const { groupSize } = w;
  return {
    'torchao, unsigned': [
      folderOf(torchaoParts(w, false), {}, torchaoMetadata('Int4Tensor', groupSize)),
      w,
      'torchao:Int4Tensor-unsigned',
    ],
    'torchao, signed': [
      folderOf(torchaoParts(w, true), {}, torchaoMetadata('Int4Tensor', groupSize)),
      w,
      'torchao:Int4Tensor-signed',
    ],
    'torchao, a code a byte': [
      folderOf(
        intxParts(w),
        {},
        torchaoMetadata('IntxUnpackedToInt8Tensor', groupSize, {
          target_dtype: { _type: 'torch.dtype', _data: 'int4' },
        }),
      ),
      w,
      'torchao:IntxUnpackedToInt8Tensor',
    ],
    'GPTQ v2': [
      folderOf(
        gptqParts(w, (z) => z),
        config({ ...GPTQ, checkpoint_format: 'gptq_v2', sym: false }),
      ),
      w,
      'gptq:v2',
    ],
    'GPTQ v1, symmetric': [
      folderOf(
        gptqParts(symmetric, (z) => z - 1),
        { 'quantize_config.json': { bits: 4, group_size: groupSize, sym: true } },
      ),
      symmetric,
      'gptq:v1',
    ],
    'GPTQ v1, asymmetric, told so': [
      folderOf(
        gptqParts(w, (z) => z - 1),
        config({ ...GPTQ, sym: false }),
      ),
      w,
      'gptq:v1',
      { assumeZeroOffset: true },
    ],
    'GPTQ v2 without a config': [folderOf(gptqParts(w, (z) => z)), w, 'gptq:v2', { layout: 'gptq-v2' }],
    AWQ: [folderOf(awqParts(w), AWQ), w, 'awq:gemm'],
    'AWQ without a config': [folderOf(awqParts(w)), w, 'awq:gemm'],
    'compressed-tensors, asymmetric': [
      folderOf(compressedParts(w, 'packed'), COMPRESSED),
      w,
      'compressed-tensors:pack-quantized',
    ],
    'compressed-tensors, signed zero points': [
      folderOf(compressedParts(w, 'signed'), COMPRESSED),
      w,
      'compressed-tensors:pack-quantized',
    ],
    'compressed-tensors, symmetric': [
      folderOf(compressedParts(symmetric, 'none'), COMPRESSED),
      symmetric,
      'compressed-tensors:pack-quantized',
    ],
    MLX: [folderOf(mlxParts(w), mlxConfig(groupSize)), w, 'mlx:affine'],
    'MLX without a config': [folderOf(mlxParts(w)), w, 'mlx:affine', { layout: 'mlx' }],
    'untagged, native': [folderOf(torchaoParts(w, false, 'BF16', 'm.weight.')), w, 'torchao:Int4Tensor-unsigned'],
  };
}

const GGUF_TYPES = { Q4_0: 2, Q4_1: 3, Q4_K: 12 } as const;

function ggufSource(type: keyof typeof GGUF_TYPES, w: PlainNumbers, data: readonly number[]): ImportSource {
  const bytes = gguf([{ name: 'm.weight', type: GGUF_TYPES[type], dims: [w.k, w.n], data }]);
  return [memoryFolder(new Map([['m.gguf', bytes]])), w, `gguf:${type}`, {}, 'm.gguf'];
}

/** Weights that Q4_K holds exactly: eight groups share a step, of which scales and minimums are 1 to 63. */
function q4kSource(n: number, k: number): ImportSource {
  const w = numbers(n, k, 32);
  const random = Random.named(`Q4_K ${n} ${k}`);
  const multiples = Array.from(w.scale, () => [1, 2, 3, 4, 6, 8][random.below(6)]!);
  const zero = w.zero.map(() => random.below(8));
  const step = (group: number) => 2 ** -(Math.floor(group / 8) % 8);
  const blocks = Array.from({ length: (n * k) / 256 }, (_, i) => {
    const [first, last] = [8 * i, 8 * i + 8];
    const minimums = multiples.slice(first, last).map((multiple, j) => multiple * zero[first + j]!);
    const codes = w.q.subarray(256 * i, 256 * i + 256);
    return q4kBlock(codes, step(first), step(first), multiples.slice(first, last), minimums);
  });
  const scale = Float64Array.from(multiples, (multiple, group) => multiple * step(group));
  return ggufSource('Q4_K', { ...w, scale, zero }, blocks.flat());
}

/** Weights of this shape in every format that has its group size; those of GGUF have groups of 32, and 256 to a block. */
export function importSources(n: number, k: number, groupSize: number): Readonly<Record<string, ImportSource>> {
  const w = numbers(n, k, groupSize);
  const symmetric = numbers(n, k, groupSize, 8);
  return {
    ...safetensorsSources(w, symmetric),
    ...(groupSize === 32 && {
      'GGUF Q4_0': ggufSource('Q4_0', symmetric, q40(symmetric)),
      'GGUF Q4_1': ggufSource('Q4_1', w, q41(w)),
    }),
    ...(groupSize === 32 && k % 256 === 0 && { 'GGUF Q4_K': q4kSource(n, k) }),
  };
}

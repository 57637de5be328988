// Checkpoints of foreign formats, written element by element from their byte rules; nothing here comes from the project.

import { memoryFolder, type SourceFolder } from '../../core/index.js';
import { entry, fileBytes } from './checkpoint_bytes.js';

export type Dtype = 'U8' | 'I8' | 'U32' | 'I32' | 'I64' | 'F16' | 'BF16' | 'F32';
const ELEMENT_BYTES: Readonly<Record<Dtype, number>> = {
  U8: 1,
  I8: 1,
  U32: 4,
  I32: 4,
  I64: 8,
  F16: 2,
  BF16: 2,
  F32: 4,
};

/** A tensor by its values; F16 and BF16 must hold them exactly. */
export interface Part {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

/** A weight in plain numbers: codes [N, K], scales and zero points [N, G]. */
export interface PlainNumbers {
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly q: Uint8Array;
  readonly scale: Float64Array;
  readonly zero: Float64Array;
}

/** f16 bits of a value that f16 holds exactly, normal or 0. */
export function f16Bits(value: number): number {
  if (value === 0) return Object.is(value, -0) ? 0x8000 : 0;
  const exponent = Math.floor(Math.log2(Math.abs(value)));
  const significand = (Math.abs(value) / 2 ** exponent) * 1024 - 1024;
  if (!Number.isInteger(significand) || exponent < -14 || exponent > 15) throw new Error(`${value} is no normal f16`);
  return (value < 0 ? 0x8000 : 0) | ((exponent + 15) << 10) | significand;
}

/** bf16 bits of a value that bf16 holds exactly. */
export function bf16Bits(value: number): number {
  const bits = new DataView(new ArrayBuffer(4));
  bits.setFloat32(0, value);
  if (bits.getFloat32(0) !== value || bits.getUint16(2) !== 0) throw new Error(`${value} is no bf16`);
  return bits.getUint16(0);
}

function encode({ dtype, values }: Part): Uint8Array {
  const size = ELEMENT_BYTES[dtype];
  const bytes = new Uint8Array(values.length * size);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < values.length; i++) {
    const [at, value] = [i * size, values[i]!];
    if (dtype === 'U8' || dtype === 'I8') view.setUint8(at, value & 255);
    else if (dtype === 'F16') view.setUint16(at, f16Bits(value), true);
    else if (dtype === 'BF16') view.setUint16(at, bf16Bits(value), true);
    else if (dtype === 'F32') view.setFloat32(at, value, true);
    else if (dtype === 'I64') view.setBigInt64(at, BigInt(value), true);
    else view.setUint32(at, value >>> 0, true);
  }
  return bytes;
}

/** A safetensors file of these parts. */
export function safetensors(parts: readonly Part[], metadata: Readonly<Record<string, string>> = {}): Uint8Array {
  const entries = Object.keys(metadata).length > 0 ? [`"__metadata__":${JSON.stringify(metadata)}`] : [];
  const data: number[] = [];
  for (const part of parts) {
    const bytes = encode(part);
    entries.push(entry(part.name, part.dtype, part.shape, data.length, data.length + bytes.length));
    for (const byte of bytes) data.push(byte);
  }
  return fileBytes(`{${entries.join()}}`, data);
}

/** A model folder with one safetensors file and JSON files beside it. */
export function folderOf(
  parts: readonly Part[],
  json: Readonly<Record<string, object>> = {},
  metadata: Readonly<Record<string, string>> = {},
): SourceFolder {
  const files = new Map<string, Uint8Array>([['model.safetensors', safetensors(parts, metadata)]]);
  for (const [name, value] of Object.entries(json)) files.set(name, new TextEncoder().encode(JSON.stringify(value)));
  return memoryFolder(files);
}

/** `at(row, column)` of a matrix, row-major. */
export function matrix(rows: number, columns: number, at: (row: number, column: number) => number): number[] {
  return Array.from({ length: rows * columns }, (_, i) => at(Math.floor(i / columns), i % columns));
}

/** Eight nibbles as a word, nibble i from `at(i)`. */
export function word(at: (nibble: number) => number): number {
  let bits = 0;
  for (let i = 0; i < 8; i++) bits |= (at(i) & 15) << (4 * i);
  return bits >>> 0;
}

export const groups = ({ k, groupSize }: PlainNumbers) => k / groupSize;
const code = (w: PlainNumbers, n: number, k: number) => w.q[n * w.k + k]!;
const scaleOf = (w: PlainNumbers, n: number, g: number) => w.scale[n * groups(w) + g]!;
const zeroOf = (w: PlainNumbers, n: number, g: number) => w.zero[n * groups(w) + g]!;

/** torchao Int4Tensor: two codes a byte, scale and zero_point [G, N]. `P.W` keeps attribute A in `P._W_A`. */
export function torchaoParts(w: PlainNumbers, isSigned: boolean, dtype: Dtype = 'BF16', prefix = 'm._weight_'): Part[] {
  const byte = (n: number, b: number) => {
    const pair = code(w, n, 2 * b) | (code(w, n, 2 * b + 1) << 4);
    return isSigned ? pair ^ 0x88 : pair;
  };
  const stored = (n: number, g: number) => (isSigned ? (8 - zeroOf(w, n, g)) * scaleOf(w, n, g) : zeroOf(w, n, g));
  const shape = [groups(w), w.n];
  return [
    {
      name: `${prefix}qdata`,
      dtype: isSigned ? 'I8' : 'U8',
      shape: [w.n, w.k / 2],
      values: matrix(w.n, w.k / 2, byte),
    },
    { name: `${prefix}scale`, dtype, shape, values: matrix(groups(w), w.n, (g, n) => scaleOf(w, n, g)) },
    { name: `${prefix}zero_point`, dtype, shape, values: matrix(groups(w), w.n, (g, n) => stored(n, g)) },
  ];
}

/** The metadata that torchao writes for one weight `m.weight`. */
export function torchaoMetadata(type: string, groupSize: number, data: object = {}, names?: readonly string[]) {
  return {
    tensor_names: '["m.weight"]',
    'm.weight': JSON.stringify({
      _type: type,
      _data: { block_size: [1, groupSize], ...data },
      _tensor_data_names: names ?? ['qdata', 'scale', 'zero_point'],
    }),
  };
}

/** IntxUnpackedToInt8Tensor: a code -8..7 a byte, scale and zero_point [N, G]. */
export function intxParts(w: PlainNumbers): Part[] {
  const shape = [w.n, groups(w)];
  return [
    { name: 'm._weight_qdata', dtype: 'I8', shape: [w.n, w.k], values: w.q.map((q) => (q - 8) & 255) },
    { name: 'm._weight_scale', dtype: 'BF16', shape, values: w.scale },
    { name: 'm._weight_zero_point', dtype: 'I8', shape, values: w.zero.map((z) => z - 8) },
  ];
}

/** GPTQ: codes along K, zero points along N as `stored` makes them, scales [G, N]. */
export function gptqParts(w: PlainNumbers, stored: (zero: number) => number, dtype: Dtype = 'F16'): Part[] {
  const G = groups(w);
  return [
    {
      name: 'm.qweight',
      dtype: 'I32',
      shape: [w.k / 8, w.n],
      values: matrix(w.k / 8, w.n, (r, n) => word((i) => code(w, n, 8 * r + i))),
    },
    {
      name: 'm.qzeros',
      dtype: 'I32',
      shape: [G, w.n / 8],
      values: matrix(G, w.n / 8, (g, c) => word((i) => stored(zeroOf(w, 8 * c + i, g)))),
    },
    { name: 'm.scales', dtype, shape: [G, w.n], values: matrix(G, w.n, (g, n) => scaleOf(w, n, g)) },
  ];
}

/** AWQ GEMM: nibble i of a word holds column [0, 2, 4, 6, 1, 3, 5, 7][i]. */
export function awqParts(w: PlainNumbers, dtype: Dtype = 'F16'): Part[] {
  const columns = [0, 2, 4, 6, 1, 3, 5, 7];
  const G = groups(w);
  return [
    {
      name: 'm.qweight',
      dtype: 'I32',
      shape: [w.k, w.n / 8],
      values: matrix(w.k, w.n / 8, (k, c) => word((i) => code(w, 8 * c + columns[i]!, k))),
    },
    {
      name: 'm.qzeros',
      dtype: 'I32',
      shape: [G, w.n / 8],
      values: matrix(G, w.n / 8, (g, c) => word((i) => zeroOf(w, 8 * c + columns[i]!, g))),
    },
    { name: 'm.scales', dtype, shape: [G, w.n], values: matrix(G, w.n, (g, n) => scaleOf(w, n, g)) },
  ];
}

/** compressed-tensors: codes along K, zero points along N in [N/8, G] (or I8 [N, G]), scales [N, G]. */
export function compressedParts(w: PlainNumbers, zeros: 'packed' | 'signed' | 'none', dtype: Dtype = 'BF16'): Part[] {
  const G = groups(w);
  const parts: Part[] = [
    {
      name: 'm.weight_packed',
      dtype: 'I32',
      shape: [w.n, w.k / 8],
      values: matrix(w.n, w.k / 8, (n, c) => word((i) => code(w, n, 8 * c + i))),
    },
    { name: 'm.weight_scale', dtype, shape: [w.n, G], values: w.scale },
    { name: 'm.weight_shape', dtype: 'I64', shape: [2], values: [w.n, w.k] },
  ];
  const rows = Math.ceil(w.n / 8);
  const zeroAt = (n: number, g: number) => (n < w.n ? zeroOf(w, n, g) : 0);
  if (zeros === 'packed') {
    const values = matrix(rows, G, (r, g) => word((i) => zeroAt(8 * r + i, g)));
    parts.push({ name: 'm.weight_zero_point', dtype: 'I32', shape: [rows, G], values });
  }
  if (zeros === 'signed') {
    parts.push({ name: 'm.weight_zero_point', dtype: 'I8', shape: [w.n, G], values: w.zero.map((z) => z - 8) });
  }
  return parts;
}

/** MLX: `w = scales * q + biases`. */
export function mlxParts(w: PlainNumbers, dtype: Dtype = 'F32'): Part[] {
  const shape = [w.n, groups(w)];
  return [
    {
      name: 'm.weight',
      dtype: 'U32',
      shape: [w.n, w.k / 8],
      values: matrix(w.n, w.k / 8, (n, c) => word((i) => code(w, n, 8 * c + i))),
    },
    { name: 'm.scales', dtype, shape, values: w.scale },
    { name: 'm.biases', dtype, shape, values: w.scale.map((s, i) => -s * w.zero[i]!) },
  ];
}

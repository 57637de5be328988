// GGUF files put together field by field from the rules of the format.

import { f16Bits, type PlainNumbers } from './import_bytes.js';

/** Little-endian bytes, field after field. */
export class ByteWriter {
  readonly bytes: number[] = [];

  u32(value: number): this {
    return this.u64(BigInt(value), 4);
  }

  u64(value: bigint, size = 8): this {
    for (let i = 0; i < size; i++) this.bytes.push(Number((value >> BigInt(8 * i)) & 255n));
    return this;
  }

  text(value: string): this {
    return this.raw(new TextEncoder().encode(value));
  }

  string(value: string): this {
    return this.u64(BigInt(new TextEncoder().encode(value).length)).text(value);
  }

  raw(values: ArrayLike<number>): this {
    for (let i = 0; i < values.length; i++) this.bytes.push(values[i]!);
    return this;
  }

  pad(alignment: number): this {
    while (this.bytes.length % alignment !== 0) this.bytes.push(0);
    return this;
  }
}

export interface GgufTensor {
  readonly name: string;
  readonly type: number;
  /** Fastest first: K, then N. */
  readonly dims: readonly (number | bigint)[];
  readonly data: ArrayLike<number>;
  readonly offset?: bigint;
}

export interface GgufOptions {
  readonly version?: number;
  /** Metadata entries, already encoded: key, type, value. */
  readonly values?: readonly ByteWriter[];
  readonly valueCount?: bigint;
  readonly tensorCount?: bigint;
  readonly alignment?: number;
}

export function gguf(tensors: readonly GgufTensor[], options: GgufOptions = {}): Uint8Array {
  const { version = 3, values = [], alignment = 32 } = options;
  const out = new ByteWriter().text('GGUF').u32(version);
  out.u64(options.tensorCount ?? BigInt(tensors.length)).u64(options.valueCount ?? BigInt(values.length));
  for (const value of values) out.raw(value.bytes);
  let offset = 0;
  for (const tensor of tensors) {
    out.string(tensor.name).u32(tensor.dims.length);
    for (const dimension of tensor.dims) out.u64(BigInt(dimension));
    out.u32(tensor.type).u64(tensor.offset ?? BigInt(offset));
    offset = Math.ceil((offset + tensor.data.length) / alignment) * alignment;
  }
  for (const { data } of tensors) out.pad(alignment).raw(data);
  return Uint8Array.from(out.pad(alignment).bytes);
}

const half = (value: number) => [f16Bits(value) & 255, f16Bits(value) >> 8];

/** Q4_0: d, then code j low and code j + 16 high. w = (q - 8) * d. */
export function q40(w: PlainNumbers): number[] {
  return blocks(w, (codes, d) => [...half(d), ...splitHalves(codes, 0, 16)]);
}

/** Q4_1: d and m, then codes as in Q4_0. w = q * d + m. */
export function q41(w: PlainNumbers): number[] {
  return blocks(w, (codes, d, zero) => q41Block(codes, d, -zero * d));
}

/** One Q4_1 block of 32 codes. w = d * q + m. */
export function q41Block(codes: Uint8Array, d: number, m: number): number[] {
  return [...half(d), ...half(m), ...splitHalves(codes, 0, 16)];
}

function splitHalves(codes: Uint8Array, first: number, distance: number): number[] {
  return Array.from({ length: distance }, (_, j) => codes[first + j]! | (codes[first + j + distance]! << 4));
}

function blocks(w: PlainNumbers, block: (codes: Uint8Array, scale: number, zero: number) => number[]): number[] {
  return Array.from({ length: (w.n * w.k) / 32 }, (_, i) =>
    block(w.q.subarray(32 * i, 32 * i + 32), w.scale[i]!, w.zero[i]!),
  ).flat();
}

/** One Q4_K block of 256 codes with six-bit scales and minimums of its eight groups. w = d * sc * q - dmin * m. */
export function q4kBlock(codes: Uint8Array, d: number, dmin: number, sc: readonly number[], m: readonly number[]) {
  const packed = new Array<number>(12).fill(0);
  for (let j = 0; j < 4; j++) {
    packed[j] = sc[j]! | ((sc[j + 4]! >> 4) << 6);
    packed[j + 4] = m[j]! | ((m[j + 4]! >> 4) << 6);
    packed[j + 8] = (sc[j + 4]! & 15) | ((m[j + 4]! & 15) << 4);
  }
  const chunks = [0, 64, 128, 192].flatMap((first) => splitHalves(codes, first, 32));
  return [...half(d), ...half(dmin), ...packed, ...chunks];
}

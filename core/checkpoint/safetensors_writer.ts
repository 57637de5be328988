// The header and the offsets of a safetensors file from shapes alone, so that the data can follow in any order.

import { SamebitsError } from '../errors.js';
import { type Dtype, tensorSizeBytes } from './dtypes.js';
import { MAX_HEADER_BYTES, type TensorInfo } from './safetensors_header.js';
import { quoted } from './tensor_error.js';

/** A tensor to write. */
export interface TensorSpec {
  readonly name: string;
  readonly dtype: Dtype;
  readonly shape: readonly number[];
}

/** Where everything of a file goes. */
export interface SafetensorsPlan {
  /** The file's first bytes: header length and header. */
  readonly header: Uint8Array<ArrayBuffer>;
  /** In the order of their data. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly sizeBytes: number;
}

/** Tensors start at multiples of this, as do the data section and the widest loads of any kernel. */
const ALIGNMENT = 16;
const LENGTH_BYTES = 8;
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * Lays out a file. The format forbids holes, so tensors whose size is a multiple of 16 come first, in the order given,
 * and all of them start aligned; the rest follow by falling alignment of their size, which keeps their elements aligned.
 * The same input gives the same bytes.
 * @throws SamebitsError ARGUMENT_INVALID for a name given twice, a shape without a size, or a header beyond the limit
 */
export function planSafetensors(specs: readonly TensorSpec[], metadata: ReadonlyMap<string, string>): SafetensorsPlan {
  const sized = specs.map((spec) => ({ ...spec, sizeBytes: sizeOf(spec) }));
  sized.sort((a, b) => alignmentOf(b.sizeBytes) - alignmentOf(a.sizeBytes));
  const names = new Set<string>(['__metadata__']);
  const entries: string[] = [];
  if (metadata.size > 0) entries.push(`"__metadata__":{${[...metadata].map(stringMember).join()}}`);
  let begin = 0;
  for (const { name, dtype, shape, sizeBytes } of sized) {
    if (names.has(name)) throw refusal('a file must hold a name once', 'distinct names', `${quoted(name)} again`);
    if (LONE_SURROGATE.test(name)) throw refusal('a name must be Unicode text', 'whole characters', quoted(name));
    names.add(name);
    const end = begin + sizeBytes;
    entries.push(`${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${begin},${end}]}`);
    begin = end;
  }
  const header = encodeHeader(`{${entries.join()}}`);
  let offset = header.byteLength;
  const tensors = new Map<string, TensorInfo>();
  for (const tensor of sized) {
    tensors.set(tensor.name, { ...tensor, offset });
    offset += tensor.sizeBytes;
  }
  return { header, tensors, sizeBytes: offset };
}

function stringMember([key, value]: readonly [string, string]): string {
  return `${JSON.stringify(key)}:${JSON.stringify(value)}`;
}

/** The largest power of two up to 16 that divides a size. */
function alignmentOf(sizeBytes: number): number {
  let alignment = ALIGNMENT;
  while (sizeBytes % alignment !== 0) alignment /= 2;
  return alignment;
}

function sizeOf({ name, dtype, shape }: TensorSpec): number {
  const isShape = shape.every((dimension) => Number.isSafeInteger(dimension) && dimension >= 0);
  const sizeBytes = isShape ? tensorSizeBytes(dtype, shape) : undefined;
  if (sizeBytes !== undefined) return sizeBytes;
  throw refusal(`tensor ${quoted(name)} must have a size`, 'a whole number of bytes below 2^53', `${dtype} [${shape}]`);
}

/** Pads with spaces so that the data section starts aligned. */
function encodeHeader(json: string): Uint8Array<ArrayBuffer> {
  const text = new TextEncoder().encode(json);
  const end = Math.ceil((LENGTH_BYTES + text.byteLength) / ALIGNMENT) * ALIGNMENT;
  if (end - LENGTH_BYTES > MAX_HEADER_BYTES) {
    throw refusal('a header must be readable', `at most ${MAX_HEADER_BYTES} bytes`, `${end - LENGTH_BYTES} bytes`);
  }
  const header = new Uint8Array(end).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(end - LENGTH_BYTES), true);
  header.set(text, LENGTH_BYTES);
  return header;
}

function refusal(rule: string, expected: string, got: string): SamebitsError {
  return new SamebitsError('ARGUMENT_INVALID', { rule, expected, got, fix: 'Change what is written.' });
}

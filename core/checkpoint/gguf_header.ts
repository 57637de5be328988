// The header of a GGUF file, read strictly: every count, length and offset is checked against the file before it is used.

import { type ErrorCode, SamebitsError } from '../errors.js';
import { ForwardReader } from './forward_reader.js';
import { GGUF_TYPES } from './gguf_types.js';
import { decodeUtf8 } from './safetensors_reader.js';
import type { RandomAccessSource } from './source.js';
import { quoted } from './tensor_error.js';
import type { ModelTensor } from './tensor_file.js';

/** A tensor and where its data starts in the file. */
export interface GgufTensorInfo extends Omit<ModelTensor, 'file'> {
  readonly offset: number;
}

const MAGIC = 'GGUF';
const DEFAULT_ALIGNMENT = 32;
const MAX_ALIGNMENT = 2 ** 20;
/** More than any model has; keeps what is held in proportion. */
const MAX_ENTRIES = 100_000;
const MAX_NAME_BYTES = 65_535;
const MAX_RANK = 4;
const STRING = 8;
const ARRAY = 9;
const U32 = 4;
/** Bytes of a value of each fixed-size type, by id. */
const VALUE_BYTES: ReadonlyMap<number, number> = new Map([
  [0, 1],
  [1, 1],
  [2, 2],
  [3, 2],
  [U32, 4],
  [5, 4],
  [6, 4],
  [7, 1],
  [10, 8],
  [11, 8],
  [12, 8],
]);
const ALIGNMENT_KEY = 'general.alignment';

/**
 * Reads and checks the header; the data is not touched. Gives the tensors in the order of their data, which is that of
 * the header. Of the metadata only the alignment matters here; the rest is stepped over.
 * @throws SamebitsError FILE_FORMAT_UNSUPPORTED, FILE_TRUNCATED, FILE_HEADER_INVALID, FILE_HEADER_TOO_LARGE,
 * FILE_DUPLICATE_KEY, FILE_DTYPE_UNKNOWN, FILE_TENSOR_INVALID, FILE_OFFSETS_INVALID, naming the tensor or the offset
 */
export async function readGgufHeader(source: RandomAccessSource): Promise<ReadonlyMap<string, GgufTensorInfo>> {
  return new HeaderReader(source).read();
}

class HeaderReader {
  readonly #reader: ForwardReader;
  readonly #name: string;

  constructor(private readonly source: RandomAccessSource) {
    this.#reader = new ForwardReader(source);
    this.#name = source.name;
  }

  async read(): Promise<ReadonlyMap<string, GgufTensorInfo>> {
    await this.#reader.load(24, 'the header');
    const magic = String.fromCharCode(...this.#reader.bytes(4));
    if (magic !== MAGIC) throw this.#unsupported(`a GGUF file starts with '${MAGIC}'`, quoted(magic));
    const version = this.#reader.u32();
    if (version !== 2 && version !== 3) {
      const isBigEndian = (version & 0xffff) === 0;
      throw this.#unsupported('GGUF version 2 or 3, little-endian', isBigEndian ? 'big-endian' : `version ${version}`);
    }
    // The smallest entries: an empty name, one dimension, a type and an offset; an empty key and a one-byte value.
    const tensorCount = this.#count(this.#reader.u64(), 32, 'tensors');
    const valueCount = this.#count(this.#reader.u64(), 13, 'metadata values');
    const alignment = await this.#readValues(valueCount);
    const unplaced = await this.#tensors(tensorCount);
    const dataStart = Math.ceil(this.#reader.offset / alignment) * alignment;
    return this.#place(unplaced, dataStart, alignment);
  }

  /** Steps over the metadata; gives the alignment of the data. */
  async #readValues(count: number): Promise<number> {
    let alignment = DEFAULT_ALIGNMENT;
    const keys = new Set<string>();
    for (let i = 0; i < count; i++) {
      const key = await this.#string('a metadata key');
      if (keys.has(key)) throw this.#duplicate(`metadata key ${quoted(key)}`);
      keys.add(key);
      const type = await this.#u32(`the type of ${quoted(key)}`);
      if (key === ALIGNMENT_KEY) alignment = this.#checkAlignment(type, await this.#u32(quoted(key)));
      else if (type === ARRAY) await this.#skipArray(key);
      else if (type === STRING) await this.#skipString(key);
      else this.#reader.skip(this.#valueBytes(type, key), `the value of ${quoted(key)}`);
    }
    return alignment;
  }

  async #skipArray(key: string): Promise<void> {
    const type = await this.#u32(`the element type of ${quoted(key)}`);
    const length = await this.#u64(`the length of ${quoted(key)}`);
    const elementBytes = type === STRING ? 8 : this.#valueBytes(type, key);
    if (length * BigInt(elementBytes) > BigInt(this.#reader.remaining)) {
      throw this.#reader.truncated(length * BigInt(elementBytes), `the array ${quoted(key)}`);
    }
    if (type !== STRING) return this.#reader.skip(Number(length) * elementBytes, `the array ${quoted(key)}`);
    for (let i = 0; i < Number(length); i++) {
      // Awaiting every string of a vocabulary would take longer than reading it.
      if (!this.#reader.has(8)) await this.#reader.load(8, `the array ${quoted(key)}`);
      const bytes = this.#reader.u64();
      if (bytes > BigInt(this.#reader.remaining)) throw this.#reader.truncated(bytes, `the array ${quoted(key)}`);
      this.#reader.skip(Number(bytes), `the array ${quoted(key)}`);
    }
  }

  async #skipString(key: string): Promise<void> {
    const bytes = await this.#u64(`the length of ${quoted(key)}`);
    if (bytes > BigInt(this.#reader.remaining)) throw this.#reader.truncated(bytes, `the value of ${quoted(key)}`);
    this.#reader.skip(Number(bytes), `the value of ${quoted(key)}`);
  }

  async #tensors(count: number): Promise<readonly UnplacedTensor[]> {
    const tensors: UnplacedTensor[] = [];
    const names = new Set<string>();
    for (let i = 0; i < count; i++) {
      const name = await this.#string('a tensor name');
      if (names.has(name)) throw this.#duplicate(`tensor ${quoted(name)}`);
      names.add(name);
      const rank = await this.#u32(`the rank of tensor ${quoted(name)}`);
      if (rank < 1 || rank > MAX_RANK) {
        throw this.#invalidTensor(name, 'rank must be supported', `1..${MAX_RANK} dimensions`, String(rank));
      }
      const fastestFirst: bigint[] = [];
      for (let d = 0; d < rank; d++) fastestFirst.push(await this.#u64(`the shape of tensor ${quoted(name)}`));
      const type = await this.#u32(`the type of tensor ${quoted(name)}`);
      const offset = await this.#u64(`the offset of tensor ${quoted(name)}`);
      tensors.push({ ...this.#size(name, fastestFirst, type), name, offset });
    }
    return tensors;
  }

  #size(
    name: string,
    fastestFirst: readonly bigint[],
    id: number,
  ): Pick<UnplacedTensor, 'dtype' | 'shape' | 'sizeBytes'> {
    const type = GGUF_TYPES.get(id);
    if (!type) {
      throw this.#refuse(
        'FILE_DTYPE_UNKNOWN',
        `tensor ${quoted(name)}: type must be known`,
        [...GGUF_TYPES.values()].map((known) => known.name).join(', '),
        `type ${id}`,
      );
    }
    const { name: dtype, blockElements, blockBytes } = type;
    const [k = 0n] = fastestFirst;
    if (k % BigInt(blockElements) !== 0n) {
      const expected = `a first dimension that is a multiple of ${blockElements}`;
      throw this.#invalidTensor(name, `${dtype} rows must be whole blocks`, expected, String(k));
    }
    const elements = fastestFirst.reduce((product, dimension) => product * dimension, 1n);
    const sizeBytes = (elements / BigInt(blockElements)) * BigInt(blockBytes);
    if (fastestFirst.some((dimension) => dimension < 1n || dimension > BigInt(this.source.sizeBytes) * 8n)) {
      throw this.#invalidTensor(name, 'dimensions must be positive', 'sizes that fit the file', `[${fastestFirst}]`);
    }
    if (sizeBytes > BigInt(this.source.sizeBytes)) {
      throw this.#refuse(
        'FILE_TRUNCATED',
        `tensor ${quoted(name)}: data must lie in the file`,
        `at most ${this.source.sizeBytes} bytes`,
        `${dtype} [${[...fastestFirst].reverse()}], ${sizeBytes} bytes`,
      );
    }
    return { dtype, shape: fastestFirst.map(Number).reverse(), sizeBytes: Number(sizeBytes) };
  }

  /** ggml writes tensors one after the other, each padded to the alignment; anything else hides or shares data. */
  #place(
    unplaced: readonly UnplacedTensor[],
    dataStart: number,
    alignment: number,
  ): ReadonlyMap<string, GgufTensorInfo> {
    let next = 0;
    const placed = new Map<string, GgufTensorInfo>();
    for (const tensor of unplaced) {
      if (tensor.offset !== BigInt(next)) {
        const rule = `tensor ${quoted(tensor.name)} must start where the one before it ends, aligned to ${alignment}`;
        throw this.#refuse('FILE_OFFSETS_INVALID', rule, `offset ${next}`, String(tensor.offset));
      }
      const offset = dataStart + next;
      if (offset + tensor.sizeBytes > this.source.sizeBytes) {
        const rule = `tensor ${quoted(tensor.name)}: data must lie in the file`;
        const expected = `an end of at most ${this.source.sizeBytes}`;
        throw this.#refuse('FILE_TRUNCATED', rule, expected, `${tensor.sizeBytes} bytes from ${offset}`);
      }
      placed.set(tensor.name, { ...tensor, offset });
      next = Math.ceil((next + tensor.sizeBytes) / alignment) * alignment;
    }
    return placed;
  }

  #checkAlignment(type: number, alignment: number): number {
    const isPowerOfTwo = alignment >= 1 && alignment <= MAX_ALIGNMENT && (alignment & (alignment - 1)) === 0;
    if (type === U32 && isPowerOfTwo) return alignment;
    const got = type === U32 ? String(alignment) : `a value of type ${type}`;
    const rule = `${ALIGNMENT_KEY} of ${this.#name} must be a power of two`;
    throw this.#refuse('FILE_HEADER_INVALID', rule, `a u32 up to ${MAX_ALIGNMENT}`, got);
  }

  #valueBytes(type: number, key: string): number {
    const bytes = VALUE_BYTES.get(type);
    if (bytes !== undefined) return bytes;
    const rule = `metadata ${quoted(key)} must have a type of GGUF, and arrays no arrays`;
    throw this.#refuse('FILE_HEADER_INVALID', rule, 'a type in 0..12', String(type));
  }

  #count(count: bigint, smallestBytes: number, what: string): number {
    if (count * BigInt(smallestBytes) > BigInt(this.source.sizeBytes)) {
      throw this.#reader.truncated(count * BigInt(smallestBytes), `${count} ${what}`);
    }
    if (count <= BigInt(MAX_ENTRIES)) return Number(count);
    const rule = `the header of ${this.#name} must have a sensible size`;
    throw this.#refuse('FILE_HEADER_TOO_LARGE', rule, `at most ${MAX_ENTRIES} ${what}`, String(count));
  }

  async #u32(what: string): Promise<number> {
    if (!this.#reader.has(4)) await this.#reader.load(4, what);
    return this.#reader.u32();
  }

  async #u64(what: string): Promise<bigint> {
    if (!this.#reader.has(8)) await this.#reader.load(8, what);
    return this.#reader.u64();
  }

  async #string(what: string): Promise<string> {
    const length = await this.#u64(`the length of ${what}`);
    if (length > BigInt(this.#reader.remaining)) throw this.#reader.truncated(length, what);
    if (length > BigInt(MAX_NAME_BYTES)) {
      const rule = `${what} of ${this.#name} must not be longer than ${MAX_NAME_BYTES} bytes`;
      throw this.#refuse('FILE_HEADER_TOO_LARGE', rule, 'a name', `${length} bytes at ${this.#reader.offset}`);
    }
    if (!this.#reader.has(Number(length))) await this.#reader.load(Number(length), what);
    return decodeUtf8(this.#reader.bytes(Number(length)), `${what} of ${this.#name}`);
  }

  #duplicate(what: string): SamebitsError {
    return this.#refuse('FILE_DUPLICATE_KEY', `${this.#name} must not name a ${what} twice`, 'every name once', 'two');
  }

  #invalidTensor(name: string, rule: string, expected: string, got: string): SamebitsError {
    return this.#refuse('FILE_TENSOR_INVALID', `tensor ${quoted(name)}: ${rule}`, expected, got);
  }

  #unsupported(expected: string, got: string): SamebitsError {
    return this.#refuse('FILE_FORMAT_UNSUPPORTED', `${this.#name} must be GGUF that this version reads`, expected, got);
  }

  #refuse(code: ErrorCode, rule: string, expected: string, got: string): SamebitsError {
    const fix = 'The file is damaged, cut short or of another version; fetch it again.';
    return new SamebitsError(code, { rule, expected, got, fix });
  }
}

interface UnplacedTensor extends Omit<GgufTensorInfo, 'offset'> {
  readonly offset: bigint;
}

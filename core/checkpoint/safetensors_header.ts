// The header of a safetensors file: JSON to tensors, refusing whatever two readers could understand differently.

import { type ErrorCode, SamebitsError } from '../errors.js';
import { DTYPE_NAMES, type Dtype, isDtype, tensorSizeBytes } from './dtypes.js';
import { describeJson, isJsonObject, type JsonValue, parseStrictJsonObject } from './strict_json.js';
import { quoted } from './tensor_error.js';

/** A longer header is not read. */
export const MAX_HEADER_BYTES = 100_000_000;

/** One tensor of a file. */
export interface TensorInfo {
  readonly name: string;
  readonly dtype: Dtype;
  /** Row-major. */
  readonly shape: readonly number[];
  /** From the start of the file. */
  readonly offset: number;
  readonly sizeBytes: number;
}

export interface SafetensorsHeader {
  /** In the order of their data. */
  readonly tensors: ReadonlyMap<string, TensorInfo>;
  readonly metadata: ReadonlyMap<string, string>;
}

const METADATA_KEY = '__metadata__';

/**
 * @param text the header, without its length
 * @param dataStart offset of the data section in the file
 * @param fileSizeBytes size of the whole file
 * @throws SamebitsError FILE_HEADER_INVALID, FILE_DUPLICATE_KEY, FILE_DTYPE_UNKNOWN, FILE_TENSOR_INVALID,
 * FILE_OFFSETS_INVALID, FILE_TRUNCATED
 */
export function parseSafetensorsHeader(
  text: string,
  dataStart: number,
  fileSizeBytes: number,
  fileName: string,
): SafetensorsHeader {
  const what = `the header of ${fileName}`;
  if (!text.startsWith('{')) {
    throw new SamebitsError('FILE_HEADER_INVALID', {
      rule: `${what} must start with '{'`,
      expected: "'{'",
      got: quoted(text.slice(0, 8)),
      fix: 'The file is not safetensors, or it is damaged.',
    });
  }
  const root = parseStrictJsonObject(text, what);
  const tensors: TensorInfo[] = [];
  for (const [name, entry] of root) {
    if (name !== METADATA_KEY) tensors.push(parseTensor(name, entry, dataStart, fileSizeBytes));
  }
  tensors.sort((a, b) => a.offset - b.offset || a.sizeBytes - b.sizeBytes);
  checkCoverage(tensors, dataStart, fileSizeBytes, fileName);
  return {
    tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
    metadata: parseMetadata(root.get(METADATA_KEY), what),
  };
}

function parseMetadata(value: JsonValue | undefined, what: string): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  if (value === undefined) return metadata;
  if (!isJsonObject(value)) throw metadataError(what, describeJson(value));
  for (const [key, text] of value) {
    if (typeof text !== 'string') throw metadataError(what, `${describeJson(text)} under ${quoted(key)}`);
    metadata.set(key, text);
  }
  return metadata;
}

function metadataError(what: string, got: string): SamebitsError {
  return new SamebitsError('FILE_HEADER_INVALID', {
    rule: `${METADATA_KEY} in ${what} must map strings to strings`,
    expected: 'an object of strings',
    got,
    fix: 'Write the file again with a correct writer.',
  });
}

function parseTensor(name: string, entry: JsonValue, dataStart: number, fileSizeBytes: number): TensorInfo {
  const refuse = (code: ErrorCode, rule: string, expected: string, got: string) =>
    new SamebitsError(code, {
      rule: `tensor ${quoted(name)}: ${rule}`,
      expected,
      got,
      fix: code === 'FILE_TRUNCATED' ? 'The file was cut short; fetch it again.' : 'Write the file again correctly.',
    });
  if (!isJsonObject(entry) || [...entry.keys()].sort().join() !== 'data_offsets,dtype,shape') {
    const got = isJsonObject(entry) ? `keys ${quoted([...entry.keys()].join())}` : describeJson(entry);
    throw refuse('FILE_HEADER_INVALID', 'a tensor is described by three keys', 'dtype, shape, data_offsets', got);
  }
  const dtype = entry.get('dtype');
  if (typeof dtype !== 'string' || !isDtype(dtype)) {
    throw refuse('FILE_DTYPE_UNKNOWN', 'dtype must be known', `one of ${DTYPE_NAMES}`, describeJson(dtype));
  }
  const shape = sizes(entry.get('shape'));
  if (shape === undefined) {
    const got = describeJson(entry.get('shape'));
    throw refuse('FILE_TENSOR_INVALID', 'shape must be a list of sizes', 'integers in 0..2^53 - 1', got);
  }
  const offsets = sizes(entry.get('data_offsets'));
  const [begin, end] = offsets ?? [];
  if (offsets?.length !== 2 || begin === undefined || end === undefined || begin > end) {
    const got = describeJson(entry.get('data_offsets'));
    throw refuse('FILE_OFFSETS_INVALID', 'data_offsets must be [begin, end]', '0 <= begin <= end < 2^53', got);
  }
  const dataBytes = fileSizeBytes - dataStart;
  if (end > dataBytes) {
    const rule = 'data must lie in the file';
    throw refuse('FILE_TRUNCATED', rule, `an end of at most ${dataBytes}, the data section`, `[${begin}, ${end}]`);
  }
  const sizeBytes = tensorSizeBytes(dtype, shape);
  if (sizeBytes !== end - begin) {
    const expected = sizeBytes === undefined ? 'a whole number of bytes below 2^53' : `${sizeBytes} bytes`;
    const got = `${end - begin} bytes`;
    throw refuse('FILE_TENSOR_INVALID', `data must be dtype times shape, ${dtype} [${shape}]`, expected, got);
  }
  return { name, dtype, shape, offset: dataStart + begin, sizeBytes };
}

function sizes(value: JsonValue | undefined): readonly number[] | undefined {
  if (!Array.isArray(value)) return undefined;
  const items: readonly JsonValue[] = value;
  const numbers = items.filter((item) => typeof item === 'number' && Number.isSafeInteger(item) && item >= 0);
  return numbers.length === items.length ? numbers.map(Number) : undefined;
}

/** Tensors sorted by offset must tile the data section: nothing shared, nothing left over to hide data in. */
function checkCoverage(
  tensors: readonly TensorInfo[],
  dataStart: number,
  fileSizeBytes: number,
  fileName: string,
): void {
  let position = dataStart;
  for (const { name, offset, sizeBytes } of tensors) {
    if (offset !== position) {
      throw new SamebitsError('FILE_OFFSETS_INVALID', {
        rule: `tensor ${quoted(name)} must start where the one before it ends`,
        expected: `begin = ${position - dataStart}`,
        got: `${offset - dataStart}, ${offset < position ? 'an overlap' : 'a hole'}`,
        fix: 'Write the file again correctly.',
      });
    }
    position += sizeBytes;
  }
  if (position === fileSizeBytes) return;
  throw new SamebitsError('FILE_OFFSETS_INVALID', {
    rule: `the tensors of ${fileName} must cover its data section`,
    expected: `data that ends at byte ${position}`,
    got: `a file of ${fileSizeBytes} bytes`,
    fix: 'Something was appended to the file, or a tensor is not listed; write it again correctly.',
  });
}

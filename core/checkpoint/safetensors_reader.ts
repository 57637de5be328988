// Opens a safetensors file: u64 header length, JSON header, data. Reads tensors on request and keeps none.

import { requireFields } from '../argument_checks.js';
import { SamebitsError } from '../errors.js';
import { MAX_HEADER_BYTES, parseSafetensorsHeader, type TensorInfo } from './safetensors_header.js';
import { checkRange, type RandomAccessSource } from './source.js';
import { quoted } from './tensor_error.js';

const LENGTH_BYTES = 8;

/** An open safetensors file. Owns its source from then on. */
export class SafetensorsFile {
  constructor(
    private readonly source: RandomAccessSource,
    /** In the order of their data. */
    readonly tensors: ReadonlyMap<string, TensorInfo>,
    /** `__metadata__`, empty when there is none. */
    readonly metadata: ReadonlyMap<string, string>,
  ) {}

  get name(): string {
    return this.source.name;
  }

  get sizeBytes(): number {
    return this.source.sizeBytes;
  }

  /** @throws SamebitsError FILE_TENSOR_MISSING */
  tensor(name: string): TensorInfo {
    const info = this.tensors.get(name);
    if (info) return info;
    throw new SamebitsError('FILE_TENSOR_MISSING', {
      rule: `tensor ${quoted(name)} must be in ${this.name}`,
      expected: 'the name of one of its tensors',
      got: `${this.tensors.size} tensors, none of that name`,
      fix: "List the names with 'samebits inspect'.",
    });
  }

  /**
   * The bytes of a tensor, little-endian, row-major; with a range, only `length` bytes from `start` of it; in the
   * memory of `into` where it is given and can be filled.
   * @throws SamebitsError FILE_TENSOR_MISSING, FILE_TRUNCATED, FILE_UNREADABLE
   */
  async read(
    name: string,
    start = 0,
    length?: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const { offset, sizeBytes } = this.tensor(name);
    const what = `tensor ${quoted(name)}`;
    checkRange(what, sizeBytes, start, 0);
    const lengthBytes = length ?? sizeBytes - start;
    checkRange(what, sizeBytes, start, lengthBytes);
    return this.source.read(offset + start, lengthBytes, into);
  }

  close(): Promise<void> {
    return this.source.close();
  }
}

/**
 * Reads and checks the header. On success the file owns `source`; on an error the caller still does.
 * @throws SamebitsError FILE_TRUNCATED, FILE_HEADER_TOO_LARGE, FILE_FORMAT_UNSUPPORTED and those of
 * parseSafetensorsHeader
 */
export async function openSafetensors(source: RandomAccessSource): Promise<SafetensorsFile> {
  const { name, sizeBytes } = requireFields(source, 'a source', ['sizeBytes', 'read', 'close']);
  if (sizeBytes < LENGTH_BYTES) throw truncated(name, 'at least 8 bytes', sizeBytes);
  const start = await source.read(0, LENGTH_BYTES);
  const headerBytes = new DataView(start.buffer, start.byteOffset).getBigUint64(0, true);
  // Compared as a bigint: the low 32 bits alone, or a rounded double, could look like a small header.
  if (headerBytes > BigInt(MAX_HEADER_BYTES)) throw foreignFormat(name, start) ?? tooLarge(name, headerBytes);
  const dataStart = LENGTH_BYTES + Number(headerBytes);
  if (dataStart > sizeBytes) throw truncated(name, `a header of ${headerBytes} bytes`, sizeBytes);
  const text = decodeUtf8(await source.read(LENGTH_BYTES, Number(headerBytes)), `the header of ${name}`);
  const { tensors, metadata } = parseSafetensorsHeader(text, dataStart, sizeBytes, name);
  return new SafetensorsFile(source, tensors, metadata);
}

/** @throws SamebitsError FILE_HEADER_INVALID */
export function decodeUtf8(bytes: Uint8Array, what: string): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new SamebitsError('FILE_HEADER_INVALID', {
      rule: `${what} must be UTF-8`,
      expected: 'valid UTF-8',
      got: 'bytes that are not',
      fix: 'The file is damaged or of another format.',
      cause,
    });
  }
}

function truncated(name: string, expected: string, sizeBytes: number): SamebitsError {
  return new SamebitsError('FILE_TRUNCATED', {
    rule: `${name} must hold its header`,
    expected,
    got: `a file of ${sizeBytes} bytes`,
    fix: 'The file was cut short; fetch it again.',
  });
}

function tooLarge(name: string, headerBytes: bigint): SamebitsError {
  return new SamebitsError('FILE_HEADER_TOO_LARGE', {
    rule: `the header of ${name} must not exceed ${MAX_HEADER_BYTES} bytes`,
    expected: `a length of at most ${MAX_HEADER_BYTES} in the first 8 bytes`,
    got: String(headerBytes),
    fix: 'The file is not safetensors, or it is damaged.',
  });
}

/** The magic of the formats that people confuse with this one reads as an enormous header length. */
function foreignFormat(name: string, start: Uint8Array): SamebitsError | undefined {
  const magic = String.fromCharCode(...start.subarray(0, 4));
  const format = magic === 'GGUF' ? 'GGUF' : magic === 'PK\u0003\u0004' ? 'a zip archive (PyTorch)' : undefined;
  if (format === undefined) return undefined;
  return new SamebitsError('FILE_FORMAT_UNSUPPORTED', {
    rule: `${name} must be a safetensors file`,
    expected: 'safetensors',
    got: format,
    fix: 'Start from the safetensors files of the model.',
  });
}

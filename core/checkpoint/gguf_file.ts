// Opens a GGUF file. Reads tensors on request and keeps none.

import { SamebitsError } from '../errors.js';
import { type GgufTensorInfo, readGgufHeader } from './gguf_header.js';
import type { RandomAccessSource } from './source.js';
import { quoted } from './tensor_error.js';
import type { TensorFile } from './tensor_file.js';

/** An open GGUF file. Owns its source. */
export class GgufFile implements TensorFile {
  readonly metadata: ReadonlyMap<string, string> = new Map();

  constructor(
    private readonly source: RandomAccessSource,
    /** In the order of their data. Shapes are row-major: GGUF's own order reversed. */
    readonly tensors: ReadonlyMap<string, GgufTensorInfo>,
  ) {}

  get name(): string {
    return this.source.name;
  }

  get sizeBytes(): number {
    return this.source.sizeBytes;
  }

  async read(
    name: string,
    start = 0,
    length?: number,
    into?: Uint8Array<ArrayBuffer>,
  ): Promise<Uint8Array<ArrayBuffer>> {
    const info = this.tensors.get(name);
    if (info) return this.source.read(info.offset + start, length ?? info.sizeBytes - start, into);
    throw new SamebitsError('FILE_TENSOR_MISSING', {
      rule: `tensor ${quoted(name)} must be in ${this.name}`,
      expected: 'the name of one of its tensors',
      got: `${this.tensors.size} tensors, none of that name`,
      fix: "List the names with 'samebits inspect'.",
    });
  }

  close(): Promise<void> {
    return this.source.close();
  }
}

/**
 * Reads and checks the header. On success the file owns `source`; on an error the caller still does.
 * @throws SamebitsError those of readGgufHeader
 */
export async function openGguf(source: RandomAccessSource): Promise<GgufFile> {
  return new GgufFile(source, await readGgufHeader(source));
}

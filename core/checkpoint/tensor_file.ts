// What every container of tensors offers, safetensors or GGUF: names, places, bytes on request.

import type { Dtype } from './dtypes.js';
import type { BlockType } from './gguf_types.js';

/** An open file of tensors. Owns its source. */
export interface TensorFile {
  readonly name: string;
  readonly sizeBytes: number;
  /** `__metadata__` of safetensors; empty for GGUF. */
  readonly metadata: ReadonlyMap<string, string>;
  /**
   * The bytes of a tensor, little-endian, row-major; with a range, only `length` bytes from `start` of it; in the memory of
   * `into` where it is given and can be filled.
   * @throws SamebitsError FILE_TENSOR_MISSING, FILE_TRUNCATED, FILE_UNREADABLE
   */
  read(name: string, start?: number, length?: number, into?: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  close(): Promise<void>;
}

/** A tensor and the file that holds it. */
export interface ModelTensor {
  readonly name: string;
  /** An element type, or a GGUF block type that packs several elements. */
  readonly dtype: Dtype | BlockType;
  /** Row-major: a matrix is [N, K]. */
  readonly shape: readonly number[];
  readonly sizeBytes: number;
  readonly file: TensorFile;
}

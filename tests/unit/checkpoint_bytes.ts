// Checkpoint files put together byte by byte, without the project's own writer.

import { type ErrorCode, memorySource, type RandomAccessSource, SamebitsError } from '../../core/index.js';

/** u64 header length, header text, data. */
export function fileBytes(header: string, data: ArrayLike<number> = []): Uint8Array {
  const text = new TextEncoder().encode(header);
  const bytes = new Uint8Array(8 + text.length + data.length);
  bytes[0] = text.length & 255;
  bytes[1] = (text.length >> 8) & 255;
  bytes[2] = (text.length >> 16) & 255;
  bytes.set(text, 8);
  bytes.set(data, 8 + text.length);
  return bytes;
}

export function source(header: string, data: ArrayLike<number> = []): RandomAccessSource {
  return memorySource(fileBytes(header, data), 'test.safetensors');
}

/** One member of a header. */
export function entry(name: string, dtype: string, shape: readonly number[], begin: number, end: number): string {
  return `${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${begin},${end}]}`;
}

/** The tag of a file that holds the given int4_tensors, as JSON text. */
export function tag(int4Tensors: string, changes: Readonly<Record<string, string | undefined>> = {}): string {
  const metadata = { format: 'samebits', layout: 'coalesced-int4', layout_version: '1', int4_tensors: int4Tensors };
  return `"__metadata__":${JSON.stringify({ ...metadata, ...changes })}`;
}

/** The error that `attempt` ends with, which must be a SamebitsError. */
export async function refusal(attempt: () => unknown): Promise<SamebitsError> {
  try {
    await attempt();
  } catch (error) {
    if (error instanceof SamebitsError) return error;
    throw new Error('refused with an untyped error', { cause: error });
  }
  throw new Error('not refused');
}

/** The code that `attempt` ends with; undefined when it succeeds. Untyped errors pass through. */
export async function codeOf(attempt: () => unknown): Promise<ErrorCode | undefined> {
  try {
    await attempt();
    return undefined;
  } catch (error) {
    if (error instanceof SamebitsError) return error.code;
    throw error;
  }
}

// What the command's exit code says.

import type { ErrorCode, SamebitsError } from '../core/index.js';

export const EXIT = { ok: 0, failure: 1, usage: 2, unavailable: 3 } as const;

const DEVICE_CODES: ReadonlySet<ErrorCode> = new Set([
  'BACKEND_UNAVAILABLE',
  'WEBASSEMBLY_UNAVAILABLE',
  'DEVICE_OUT_OF_MEMORY',
  'DEVICE_LIMIT',
  'DEVICE_LOST',
  'DEVICE_FAILURE',
]);

/** 3 when the device or the engine is at fault, 2 when the input is. */
export function exitCodeOf(error: SamebitsError): number {
  return DEVICE_CODES.has(error.code) ? EXIT.unavailable : EXIT.usage;
}

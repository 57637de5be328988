// What the operating system says of a path, as a typed error.

import { SamebitsError } from '../core/index.js';

/** FILE_UNREADABLE for a path that could not be opened, read or written, or that is none. */
export function fileUnreadableError(path: string, cause: unknown): SamebitsError {
  const code = cause instanceof Error && 'code' in cause ? String(cause.code) : String(cause);
  return new SamebitsError('FILE_UNREADABLE', {
    rule: 'a path that is named must be usable',
    expected: `a file that can be opened at ${String(path)}`,
    got: code,
    fix: 'Check the path and its permissions.',
    cause,
  });
}

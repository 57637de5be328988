// How refusals name what came out of a file: quoted, bounded in length, harmless on a terminal.

import { SamebitsError } from '../errors.js';

const MAX_QUOTED = 200;
// Control characters beyond those that JSON escapes, and the ones that reorder or break lines.
const INVISIBLE = /[\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2066-\u2069]/g;

/** A string of the file's as JSON would write it, cut when it is long. */
export function quoted(name: string): string {
  const text = String(name); // what callers pass for a name may be anything
  const cut = text.length > MAX_QUOTED ? `${text.slice(0, MAX_QUOTED)}…` : text;
  return JSON.stringify(cut).replace(INVISIBLE, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** A name for a table: as it is when every character of it can be seen, else escaped. */
export function printable(text: string): string {
  return quoted(text).slice(1, -1);
}

/** The same refusal, naming the tensor; anything else as it is. `where` narrows it down further. */
export function inTensor(name: string, error: unknown, where = ''): unknown {
  if (!(error instanceof SamebitsError)) return error;
  const { code, rule, expected, got, fix } = error;
  return new SamebitsError(code, { rule: `tensor ${quoted(name)}${where}: ${rule}`, expected, got, fix, cause: error });
}

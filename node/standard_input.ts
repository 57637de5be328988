// All of standard input as text, for options that take `-`.

import { SamebitsError } from '../core/index.js';

/**
 * Reads stdin to its end. One newline at the end is left out: editors and `echo` put it there.
 * @throws SamebitsError FILE_UNREADABLE where it is not UTF-8; the signal's reason when that aborts
 */
export async function readStandardInput(signal: AbortSignal): Promise<string> {
  const chunks: Uint8Array[] = [];
  const stop = () => process.stdin.destroy();
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const chunk of process.stdin) chunks.push(chunk);
  } catch (error) {
    signal.throwIfAborted();
    throw unreadable(error);
  } finally {
    signal.removeEventListener('abort', stop);
  }
  signal.throwIfAborted();
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(Buffer.concat(chunks)).replace(/\r?\n$/, '');
  } catch (error) {
    throw unreadable(error);
  }
}

function unreadable(cause: unknown): SamebitsError {
  return new SamebitsError('FILE_UNREADABLE', {
    rule: 'standard input must be text in UTF-8',
    expected: 'text that ends',
    got: cause instanceof Error ? cause.message : String(cause),
    fix: 'Pipe a text file, or give the text as the argument.',
    cause,
  });
}

// What happens when the command cannot say what it has to say: its reader has gone, or the disk behind it is full.

import { EXIT } from './exit_codes.js';

/**
 * Watches stdout and stderr. A reader that has seen enough (`samebits inspect FILE | head`) ends the command with the exit
 * code that it has by then; without a stderr the work goes on. Any other failure of stdout is a failure of the command.
 */
export function watchOutput(): void {
  process.stderr.on('error', () => {});
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'EPIPE') process.exit();
    process.stderr.write(`samebits: FILE_UNWRITABLE: stdout must be writable. Got ${error.code ?? error.message}.\n`);
    process.exit(EXIT.usage);
  });
}

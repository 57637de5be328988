// Ctrl-C and its kin as an AbortSignal, so that a verb can tidy up and exit as shells expect.

/** Exit codes of a shell for what a signal ended: 128 + its number. */
const EXIT_CODES = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
const SIGNALS = ['SIGHUP', 'SIGINT', 'SIGTERM'] as const;

class Interruption {
  constructor(readonly signal: keyof typeof EXIT_CODES) {}
}

/**
 * Runs `work` with a signal that aborts on SIGHUP, SIGINT and SIGTERM. When one of them ended it, says so on stderr, and what
 * was done by then, and sets the exit code; `tidy` runs first, however it ended.
 */
export async function interruptible(
  work: (signal: AbortSignal) => Promise<void>,
  tidy = () => {},
  doneSoFar = () => 'nothing was written',
): Promise<void> {
  const controller = new AbortController();
  const handlers = SIGNALS.map((signal) => {
    const interrupt = () => controller.abort(new Interruption(signal));
    process.once(signal, interrupt);
    return { signal, interrupt };
  });
  try {
    await work(controller.signal);
  } catch (error) {
    if (!(error instanceof Interruption)) throw error;
    tidy();
    process.stderr.write(`samebits: interrupted by ${error.signal}; ${doneSoFar()}.\n`);
    process.exitCode = EXIT_CODES[error.signal];
  } finally {
    tidy();
    for (const { signal, interrupt } of handlers) process.removeListener(signal, interrupt);
  }
}

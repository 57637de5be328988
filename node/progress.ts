// One line of progress on stderr, on a terminal only.

export interface Progress {
  update(text: string): void;
  /** Removes the line, if there is one; must be called before anything else is printed. */
  clear(): void;
}

/** Whether someone watches who can see a line change: not in CI, whose terminals are logs, nor on a dumb terminal. */
export function isWatched(stream: NodeJS.WriteStream): boolean {
  return stream.isTTY === true && !process.env['CI'] && process.env['TERM'] !== 'dumb';
}

/** The line is never hidden behind a cursor or wrapped, so that an interrupt at any moment leaves a sound terminal. */
export function terminalProgress(stream: NodeJS.WriteStream = process.stderr): Progress {
  if (!isWatched(stream)) return { update: () => {}, clear: () => {} };
  const show = (text: string) => {
    stream.cursorTo(0);
    stream.write(text.slice(0, (stream.columns || 80) - 1));
    stream.clearLine(1);
  };
  let isShown = false;
  return {
    update: (text) => {
      isShown = true;
      show(text);
    },
    clear: () => {
      if (isShown) show('');
      isShown = false;
    },
  };
}

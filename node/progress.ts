// One line of progress on stderr, on a terminal only.

export interface Progress {
  update(text: string): void;
  /** Removes the line; must be called before anything else is printed. */
  clear(): void;
}

export function terminalProgress(stream: NodeJS.WriteStream = process.stderr): Progress {
  if (!stream.isTTY) return { update: () => {}, clear: () => {} };
  const show = (text: string) => {
    stream.cursorTo(0);
    stream.write(text.slice(0, (stream.columns || 80) - 1));
    stream.clearLine(1);
  };
  return { update: show, clear: () => show('') };
}

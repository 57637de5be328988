// Plain text tables: columns aligned by spaces, numbers to the right, so that they survive pipes and narrow terminals.

export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

/** Lines of the table, without a trailing newline. */
export function formatTable(columns: readonly Column[], rows: readonly (readonly string[])[]): string {
  const lines = [columns.map(({ title }) => title), ...rows];
  const widths = columns.map((_, c) => Math.max(...lines.map((line) => (line[c] ?? '').length)));
  return lines
    .map((line) =>
      columns
        .map(({ align }, c) => {
          const cell = line[c] ?? '';
          return align === 'right' ? cell.padStart(widths[c]!) : cell.padEnd(widths[c]!);
        })
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

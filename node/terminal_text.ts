// What a model writes, as it may be shown: a terminal obeys control characters, whoever sends them.

/** Control characters besides tab and newline, those of 8 bits too, and the marks that turn the direction of text. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: they are what must not reach a terminal
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g;

/** `text` with U+FFFD for every character that would move a cursor, change a colour or reorder what is shown. */
export function shownText(text: string): string {
  return text.replace(CONTROLS, '\uFFFD');
}

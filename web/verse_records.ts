// What the page has the small model write, and the texts that recorded runs gave for some seeds.

import settings from './verses.json';

export const VERSES = settings;

/** A file of tests/data/verses: the texts of one device. */
export interface VerseRecord {
  readonly device: string;
  readonly recordedAt: string;
  readonly prompt: string;
  readonly maxNewTokens: number;
  readonly temperature: number;
  readonly topK: number;
  /** By seed: what follows the prompt. */
  readonly texts: Readonly<Record<string, string>>;
}

/** Records of exactly what this page asks for; one of other settings says nothing about it. */
export const VERSE_RECORDS: readonly VerseRecord[] = Object.values(
  import.meta.glob<VerseRecord>('../tests/data/verses/*.json', { eager: true, import: 'default' }),
).filter(
  ({ prompt, maxNewTokens, temperature, topK }) =>
    prompt === VERSES.prompt &&
    maxNewTokens === VERSES.maxNewTokens &&
    temperature === VERSES.temperature &&
    topK === VERSES.topK,
);

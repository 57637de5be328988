// How a text stands against the recorded ones of its seed, in one sentence.

import type { VerseRecord } from '../verse_records.js';

export interface VerseVerdict {
  /** `unrecorded`: no record has this seed. */
  readonly state: 'equal' | 'different' | 'unrecorded';
  readonly sentence: string;
}

/** @param isWhole false for a text that was stopped: it must then be the beginning of the recorded one */
export function judgeVerses(
  text: string,
  seed: number,
  isWhole: boolean,
  records: readonly VerseRecord[],
): VerseVerdict {
  const recorded = records.flatMap(({ device, texts }) => {
    const wanted = texts[String(seed)];
    return wanted === undefined ? [] : [{ device, wanted }];
  });
  if (recorded.length === 0) {
    const sentence = `No text is recorded for seed ${seed}. Press again: it will be the same.`;
    return { state: 'unrecorded', sentence };
  }
  for (const { device, wanted } of recorded) {
    const isSame = isWhole ? text === wanted : wanted.startsWith(text);
    if (isSame) continue;
    const letters = [...wanted];
    const at = [...text].findIndex((letter, index) => letter !== letters[index]);
    const where = at < 0 ? 'their lengths differ' : `they part at character ${at + 1}`;
    return {
      state: 'different',
      sentence: `This is not the text recorded on ${device} for seed ${seed}: ${where}.`,
    };
  }
  const devices = recorded.map(({ device }) => device).join(' and ');
  const what = isWhole ? 'Letter for letter the text' : 'So far, letter for letter the text';
  return { state: 'equal', sentence: `${what} recorded on ${devices} for seed ${seed}.` };
}

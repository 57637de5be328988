// What the page says of a text it wrote: against the recorded texts of its seed.

import { expect, test } from 'vitest';
import { judgeVerses } from '../../web/sections/verse_verdict.js';
import type { VerseRecord } from '../../web/verse_records.js';

const record = (device: string, texts: Record<string, string>): VerseRecord => ({
  device,
  recordedAt: '2026-01-01',
  prompt: 'In',
  maxNewTokens: 4,
  temperature: 1,
  topK: 3,
  texts,
});
const here = record('GPU A', { 1: ' the beginning', 2: ' the end' });
const other = record('GPU B', { 1: ' the beginning' });

test.each([
  [' the beginning', 1, true, 'equal', 'Letter for letter the text recorded on GPU A and GPU B for seed 1.'],
  [' the end', 2, true, 'equal', 'Letter for letter the text recorded on GPU A for seed 2.'],
  [' the be', 1, false, 'equal', 'So far, letter for letter the text recorded on GPU A and GPU B for seed 1.'],
  [' the be', 1, true, 'different', 'their lengths differ'],
  [' the begun', 1, true, 'different', 'they part at character 9'],
  [' the begun', 1, false, 'different', 'they part at character 9'],
  [' the beginning.', 1, true, 'different', 'they part at character 15'],
  [' the beginning', 3, true, 'unrecorded', 'No text is recorded for seed 3'],
] as const)('%j of seed %i, whole: %s, is %s', (text, seed, isWhole, state, words) => {
  const verdict = judgeVerses(text, seed, isWhole, [here, other]);
  expect(verdict.state).toBe(state);
  expect(verdict.sentence).toContain(words);
});

test('one record that differs is enough', () => {
  const stale = record('GPU C', { 1: ' the begun' });
  expect(judgeVerses(' the beginning', 1, true, [here, stale])).toMatchObject({
    state: 'different',
    sentence: 'This is not the text recorded on GPU C for seed 1: they part at character 9.',
  });
});

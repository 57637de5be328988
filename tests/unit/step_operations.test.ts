// The list of operations that every backend runs, where its end depends on what is wanted.

import { expect, test } from 'vitest';
import { stepOperations } from '../../core/model/step.js';
import { SMALL_DECODER } from '../parity/hard_decoders.js';

test('a step that gives nothing ends with the last write into a cache', () => {
  const [all, some] = [stepOperations(SMALL_DECODER, true), stepOperations(SMALL_DECODER, false)];
  const lastWrite = all.findLastIndex(({ kind }) => kind === 'heads');
  expect(some).toEqual(all.slice(0, lastWrite + 1));
  expect(all.filter(({ kind }) => kind === 'heads')).toHaveLength(SMALL_DECODER.layers.length);
});

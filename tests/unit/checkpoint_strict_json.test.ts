// The strict JSON reader against JSON.parse: the same values, and a refusal wherever two readers could differ.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { JsonReal, type JsonValue, parseStrictJson } from '../../core/checkpoint/strict_json.js';
import { codeOf, refusal } from './checkpoint_bytes.js';

/** As JSON.parse would give it. */
function plain(value: JsonValue): unknown {
  if (value instanceof JsonReal) return value.value;
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, member]) => [key, plain(member)]));
  if (Array.isArray(value)) return value.map(plain);
  return value;
}

const parse = (text: string) => parseStrictJson(text, 'the text');

describe('values', () => {
  test('equal those of JSON.parse', () => {
    fc.assert(
      fc.property(fc.json(), (text) => {
        expect(plain(parse(text))).toEqual(JSON.parse(text));
      }),
    );
  });

  test('with any whitespace and escapes', () => {
    const text = ' {\n"a\\u0062\\n" :\t[ 1 , -2 , 0 , 1.5e2 , true,false,null, "\\ud83d\\ude00é" ] , "" : {} }\r ';
    expect(plain(parse(text))).toEqual(JSON.parse(text));
  });

  test('only plain integer literals are integers', () => {
    const [integer, ...reals] = parse('[12, 1.0, 1e2, -0]') as readonly JsonValue[];
    expect(integer).toBe(12);
    expect(reals.every((real) => real instanceof JsonReal)).toBe(true);
  });

  test('__proto__ is an ordinary key', () => {
    const value = parse('{"__proto__": 1, "constructor": 2}') as ReadonlyMap<string, JsonValue>;
    expect([...value]).toEqual([
      ['__proto__', 1],
      ['constructor', 2],
    ]);
  });
});

test.each([
  ['as written', '{"a":1,"b":2,"a":3}'],
  ['behind an escape', '{"name":1,"na\\u006de":2}'],
  ['behind an escaped escape of the first', '{"\\u006eame":1,"name":2}'],
  ['in an inner object', '{"x":[{"a":1,"a":1}]}'],
  ['__proto__', '{"__proto__":1,"__proto__":2}'],
  ['the empty key', '{"":1,"":1}'],
])('a duplicate key is refused: %s', async (_, text) => {
  expect((await refusal(() => parse(text))).code).toBe('FILE_DUPLICATE_KEY');
});

test.each([
  '',
  ' ',
  '{',
  '[1,]',
  '{"a":1,}',
  '{a:1}',
  "{'a':1}",
  '{"a" 1}',
  '[1 2]',
  '01',
  '+1',
  '.5',
  '1.',
  'NaN',
  'nul',
  '"a',
  '"\\x41"',
  '"\\u12"',
  '"\n"',
  '"\\ud800"',
  '{}x',
  '\ufeff{}',
  '\u00a0{}',
  `${'['.repeat(1000)}${']'.repeat(1000)}`,
])('is not JSON: %j', async (text) => {
  expect((await refusal(() => parse(text))).code).toBe('FILE_HEADER_INVALID');
});

test('accepts nothing that JSON.parse does not, whatever a text is mutated to', async () => {
  await fc.assert(
    fc.asyncProperty(fc.json(), fc.nat(), fc.constantFrom(...'{}[]",:\\u01e-. \u0000'), async (text, at, insert) => {
      const position = at % (text.length + 1);
      const mutated = text.slice(0, position) + insert + text.slice(position + 1);
      if ((await codeOf(() => parse(mutated))) === undefined) {
        expect(plain(parse(mutated))).toEqual(JSON.parse(mutated));
      }
    }),
  );
});

// Text to tokens and back, at once and as a stream, with the real tokenizer and with one that falls back to bytes.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { SamebitsError } from '../../core/index.js';
import { ChatTemplate } from '../../core/model/chat_template.js';
import { TextTokenizer } from '../../core/model/text_tokenizer.js';

const MODEL = join(import.meta.dirname, '../data/gemma4-kjv-6m');
const read = (name: string) => readFileSync(join(MODEL, name), 'utf8');
const byteLevel = new TextTokenizer(read('tokenizer.json'), read('tokenizer_config.json'));

interface Greedy {
  readonly prompt: string;
  readonly tokens: readonly number[];
  readonly prompt_tokens: number;
}
const greedy: readonly Greedy[] = JSON.parse(read('reference.json')).greedy;

/** Of the kind that Gemma's own is: pieces of SentencePiece, bytes where there is none. */
const PIECES = ['<pad>', '<eos>', '<bos>', '▁', 'a', 'b', '▁a', 'ab', '€'];
const BYTE_TOKEN = PIECES.length;
const byteFallback = new TextTokenizer(
  JSON.stringify({
    added_tokens: PIECES.slice(0, 3).map((content, id) => ({ id, content, special: true, normalized: false })),
    normalizer: { type: 'Replace', pattern: { String: ' ' }, content: '▁' },
    pre_tokenizer: null,
    post_processor: null,
    decoder: {
      type: 'Sequence',
      decoders: [
        { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        { type: 'Strip', content: ' ', start: 1, stop: 0 },
      ],
    },
    model: {
      type: 'BPE',
      byte_fallback: true,
      unk_token: null,
      vocab: Object.fromEntries([
        ...PIECES.map((piece, id) => [piece, id] as const),
        ...Array.from({ length: 256 }, (_, byte) => {
          const digits = byte.toString(16).toUpperCase().padStart(2, '0');
          return [`<0x${digits}>`, BYTE_TOKEN + byte] as const;
        }),
      ]),
      merges: [
        ['▁', 'a'],
        ['a', 'b'],
      ],
    },
  }),
);

const bytesOf = (text: string) => [...new TextEncoder().encode(text)].map((byte) => BYTE_TOKEN + byte);

/** Every piece that comes out of the stream, the last one at its end. */
function streamed(tokenizer: TextTokenizer, before: readonly number[], tokens: readonly number[]): string[] {
  const stream = tokenizer.stream(before);
  return [...tokens.map((token) => stream.push(token)), stream.end()];
}

describe('the tokenizer of the small model', () => {
  test.each(greedy)('gives the recorded tokens of "$prompt"', ({ prompt, tokens, prompt_tokens }) => {
    expect([2, ...byteLevel.encode(prompt)]).toEqual(tokens.slice(0, prompt_tokens));
    expect(byteLevel.decode(tokens.slice(0, prompt_tokens))).toBe(prompt);
  });

  test('takes any text and gives it back', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), (text) => {
        expect(byteLevel.decode(byteLevel.encode(text))).toBe(text);
      }),
    );
  });
});

describe('a stream', () => {
  test.each(greedy)('gives the continuation of "$prompt" as decoding it at once does', ({ tokens, prompt_tokens }) => {
    const [before, after] = [tokens.slice(0, prompt_tokens), tokens.slice(prompt_tokens)];
    const pieces = streamed(byteLevel, before, after);
    expect(byteLevel.decode(before) + pieces.join('')).toBe(byteLevel.decode(tokens));
    expect(pieces.filter((piece) => piece !== '').length).toBeGreaterThan(50);
  });

  test('waits for the whole character', () => {
    expect(streamed(byteFallback, [4], [...bytesOf('€a'), ...bytesOf('😀')])).toEqual([
      ...['', '', '€', 'a'],
      ...['', '', '', '😀'],
      '',
    ]);
  });

  test('gives what is no character as soon as it cannot become one, and at the end', () => {
    const half = bytesOf('€').slice(0, 2);
    expect(streamed(byteFallback, [], [...half, 4, ...half])).toEqual(['', '', '\uFFFDa', '', '', '\uFFFD']);
    const never = BYTE_TOKEN + 0xff;
    expect(streamed(byteFallback, [], [never, never, never])).toEqual(['', '\uFFFD', '\uFFFD', '\uFFFD']);
  });

  test('completes a character that the text before began', () => {
    const [first, ...rest] = bytesOf('€');
    expect(streamed(byteFallback, [4, first!], rest)).toEqual(['', '€', '']);
  });

  test('keeps the space of a word that only starts the stream, not the text', () => {
    expect(streamed(byteFallback, [2, 4], [6])).toEqual([' a', '']);
    expect(streamed(byteFallback, [2], [6, 6])).toEqual(['a', ' a', '']);
  });

  const any = (size: number) => fc.array(fc.nat(size - 1), { maxLength: 40 });
  test.each([
    ['byte level', byteLevel, 2048],
    ['byte fallback', byteFallback, BYTE_TOKEN + 256],
  ] as const)('of any tokens is the text of them all, no piece ends within a character: %s', (_, tokenizer, size) => {
    fc.assert(
      fc.property(any(size), any(size), (before, after) => {
        const pieces = streamed(tokenizer, before, after);
        const whole = tokenizer.decode([...before, ...after]);
        const start = tokenizer.stream(before);
        const given = tokenizer.decode(before).slice(0, tokenizer.decode(before).length - start.end().length);
        expect(given + pieces.join('')).toBe(whole);
        let text = given;
        for (const piece of pieces.slice(0, -1)) {
          text += piece;
          expect(whole.startsWith(text)).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });
});

describe('a file that is no tokenizer is refused', () => {
  const cases: Record<string, () => unknown> = {
    'no JSON': () => new TextTokenizer('{'),
    'no object': () => new TextTokenizer('[]'),
    'no tokenizer': () => new TextTokenizer('{}'),
    'an unknown model': () =>
      new TextTokenizer(read('tokenizer.json').replace('"BPE"', '"ABC"').replace('"vocab"', '"w"')),
    'a config that is no object': () => new TextTokenizer(read('tokenizer.json'), '3'),
    'an unknown token that is not in the vocabulary': () => {
      const rules = JSON.parse(read('tokenizer.json'));
      delete rules.model.vocab.z;
      rules.model.unk_token = '<unk>';
      new TextTokenizer(JSON.stringify(rules)).encode('z');
    },
  };
  test.each(Object.entries(cases))('%s', (_, run) => {
    expect(run).toThrow(SamebitsError);
    expect(run).toThrow(/^MODEL_TOKENIZER_INVALID/);
  });
});

describe('a chat template', () => {
  const source =
    '{{ bos_token }}{% for m in messages %}<turn>{{ m.role }}\n{{ m.content }}</turn>\n{% endfor %}' +
    '{% if add_generation_prompt %}<turn>model\n{% endif %}';
  const config = JSON.stringify({ bos_token: { content: '<bos>' }, eos_token: '<eos>', chat_template: source });
  const messages = [{ role: 'user', content: 'Hello' }] as const;
  const of = (jinja: string | undefined, config: string | undefined) => ChatTemplate.of({ jinja, config });

  test('renders messages up to the answer', async () => {
    expect((await of(undefined, config)).render(messages)).toBe('<bos><turn>user\nHello</turn>\n<turn>model\n');
  });

  test('in a file of its own goes first', async () => {
    expect((await of('{{ messages[0].content }}{{ eos_token }}', config)).render(messages)).toBe('Hello<eos>');
  });

  test.each([
    ['MISSING', () => of(undefined, read('tokenizer_config.json'))],
    ['MISSING', () => of(undefined, undefined)],
    ['INVALID', () => of('{% for %}', undefined)],
    ['INVALID', () => of(undefined, '{')],
    ['INVALID', async () => (await of("{{ raise_exception('no') }}", undefined)).render(messages)],
  ] as const)('that is %s is refused: %#', async (what, run) => {
    const error: unknown = await run().catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(SamebitsError);
    expect(error).toMatchObject({ code: `MODEL_CHAT_TEMPLATE_${what}` });
  });
});

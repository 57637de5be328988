// A strict JSON reader: duplicate keys are refused (JSON.parse keeps the last in silence), objects are Maps (so that
// `__proto__` is a name like any other), and only plain integers count as integers.

import { SamebitsError } from '../errors.js';
import { quoted } from './tensor_error.js';

/** A number that is not written as a plain integer: `1.0`, `1e2`, `-0`. */
export class JsonReal {
  constructor(readonly value: number) {}
}

export type JsonObject = ReadonlyMap<string, JsonValue>;
/** `number` is an integer literal; it may lie beyond 2^53, so check Number.isSafeInteger. */
export type JsonValue = string | number | boolean | null | JsonReal | readonly JsonValue[] | JsonObject;

const MAX_DEPTH = 64;
const SPACE = /[ \t\n\r]*/y;
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y;
const INTEGER = /^(?:0|-?[1-9][0-9]*)$/;
const LITERAL = /true|false|null/y;
const LITERALS: ReadonlyMap<string, boolean> = new Map([
  ['true', true],
  ['false', false],
]);
const LONE_SURROGATE = /\p{Surrogate}/u;

/**
 * Parses `text` as one JSON value.
 * @param what names the text in messages: `the header of model.safetensors`
 * @throws SamebitsError FILE_HEADER_INVALID, FILE_DUPLICATE_KEY
 */
export function parseStrictJson(text: string, what: string): JsonValue {
  const parser = new Parser(text, what);
  const value = parser.value(0);
  parser.end();
  return value;
}

/** @throws SamebitsError FILE_HEADER_INVALID, FILE_DUPLICATE_KEY */
export function parseStrictJsonObject(text: string, what: string): JsonObject {
  const value = parseStrictJson(text, what);
  if (isJsonObject(value)) return value;
  throw new SamebitsError('FILE_HEADER_INVALID', {
    rule: `${what} must be a JSON object`,
    expected: 'an object',
    got: describeJson(value),
    fix: 'The file is damaged or of another format.',
  });
}

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map;
}

/** A value in a few words, for messages. */
export function describeJson(value: JsonValue | undefined): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'string') return `the string ${quoted(value)}`;
  if (value instanceof JsonReal) return `the number ${value.value}`;
  if (value instanceof Map) return `an object with ${value.size} keys`;
  if (Array.isArray(value)) return value.length <= 16 ? `[${value.map(shortJson)}]` : `an array of ${value.length}`;
  return String(value);
}

function shortJson(value: JsonValue): string {
  return typeof value === 'number' || typeof value === 'string' ? String(value).slice(0, 40) : describeJson(value);
}

class Parser {
  private position = 0;

  constructor(
    private readonly text: string,
    private readonly what: string,
  ) {}

  value(depth: number): JsonValue {
    if (depth > MAX_DEPTH) throw this.invalid(`at most ${MAX_DEPTH} levels of nesting`);
    this.skipSpace();
    switch (this.text[this.position]) {
      case '{':
        return this.object(depth);
      case '[':
        return this.array(depth);
      case '"':
        return this.string();
      default:
        return this.scalar();
    }
  }

  end(): void {
    this.skipSpace();
    if (this.position < this.text.length) throw this.invalid('nothing after the value');
  }

  private object(depth: number): JsonObject {
    const members = new Map<string, JsonValue>();
    this.position++;
    if (this.accept('}')) return members;
    do {
      this.skipSpace();
      const start = this.position;
      const key = this.string();
      if (members.has(key)) throw this.duplicate(key, start);
      if (!this.accept(':')) throw this.invalid("':' after a key");
      members.set(key, this.value(depth + 1));
    } while (this.accept(','));
    if (!this.accept('}')) throw this.invalid("',' or '}' after a member");
    return members;
  }

  private array(depth: number): readonly JsonValue[] {
    const items: JsonValue[] = [];
    this.position++;
    if (this.accept(']')) return items;
    do items.push(this.value(depth + 1));
    while (this.accept(','));
    if (!this.accept(']')) throw this.invalid("',' or ']' after an item");
    return items;
  }

  private string(): string {
    const start = this.position;
    if (this.text[start] !== '"') throw this.invalid('a string');
    let end = start + 1;
    let isPlain = true;
    for (; ; end++) {
      const c = this.text.charCodeAt(end);
      if (c === 0x22) break;
      if (!(c >= 0x20)) throw this.invalid('a closing quote and no control characters in a string');
      if (c === 0x5c) {
        isPlain = false;
        end++;
      }
    }
    const value = isPlain ? this.text.slice(start + 1, end) : this.unescape(this.text.slice(start, end + 1));
    if (LONE_SURROGATE.test(value)) throw this.invalid('whole characters, not half a surrogate pair, in a string');
    this.position = end + 1;
    return value;
  }

  private unescape(token: string): string {
    try {
      return String(JSON.parse(token));
    } catch {
      throw this.invalid('only the escapes of JSON in a string');
    }
  }

  private scalar(): number | boolean | null | JsonReal {
    const word = this.match(LITERAL);
    if (word !== undefined) return LITERALS.get(word) ?? null;
    const digits = this.match(NUMBER);
    if (digits === undefined) throw this.invalid('a JSON value');
    return INTEGER.test(digits) ? Number(digits) : new JsonReal(Number(digits));
  }

  private match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.position;
    const text = pattern.exec(this.text)?.[0];
    if (text !== undefined) this.position += text.length;
    return text;
  }

  private accept(character: string): boolean {
    this.skipSpace();
    if (this.text[this.position] !== character) return false;
    this.position++;
    return true;
  }

  private skipSpace(): void {
    this.match(SPACE);
  }

  private invalid(expected: string): SamebitsError {
    const next = this.text.slice(this.position, this.position + 20);
    return new SamebitsError('FILE_HEADER_INVALID', {
      rule: `${this.what} must be valid JSON`,
      expected,
      got: next === '' ? `the end at character ${this.position}` : `${quoted(next)} at character ${this.position}`,
      fix: 'The file is damaged or of another format.',
    });
  }

  private duplicate(key: string, position: number): SamebitsError {
    return new SamebitsError('FILE_DUPLICATE_KEY', {
      rule: `${this.what} must not name a key twice`,
      expected: 'every key once',
      got: `${quoted(key)} again at character ${position}`,
      fix: 'Readers disagree on which of the two counts; write the file again with a correct writer.',
    });
  }
}

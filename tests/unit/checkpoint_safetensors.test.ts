// Safetensors: bytes written from the rules, every element type, round trips, and files made to mislead.

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Dtype } from '../../core/checkpoint/dtypes.js';
import { planSafetensors } from '../../core/checkpoint/safetensors_writer.js';
import { memorySource, openSafetensors } from '../../core/index.js';
import { codeOf, entry, fileBytes, refusal, source } from './checkpoint_bytes.js';

describe('reading', () => {
  test('a file written by hand', async () => {
    const header = '{"b":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"__metadata__":{}}';
    const characters = [...header].map((character) => character.charCodeAt(0));
    const bytes = Uint8Array.of(0x47, 0, 0, 0, 0, 0, 0, 0, ...characters, 7, 8, 9);
    const file = await openSafetensors(memorySource(bytes));
    expect(file.tensors.get('b')).toEqual({ name: 'b', dtype: 'U8', shape: [3], offset: 79, sizeBytes: 3 });
    expect(await file.read('b')).toEqual(Uint8Array.of(7, 8, 9));
    expect(await file.read('b', 1, 1)).toEqual(Uint8Array.of(8));
  });

  test('tensors in the order of their data, scalars, empty tensors and metadata', async () => {
    const header = `{${entry('late', 'U8', [2], 4, 6)},"__metadata__":{"a":"b"},${entry('empty', 'F32', [0, 5], 4, 4)},${entry('scalar', 'F32', [], 0, 4)}}`;
    const file = await openSafetensors(source(header, [0, 0, 128, 63, 5, 6]));
    expect([...file.tensors.keys()]).toEqual(['scalar', 'empty', 'late']);
    expect(file.metadata).toEqual(new Map([['a', 'b']]));
    expect(await file.read('scalar')).toEqual(Uint8Array.of(0, 0, 128, 63));
    expect(await file.read('empty')).toHaveLength(0);
    expect(await file.read('late')).toEqual(Uint8Array.of(5, 6));
  });

  test('a tensor named __proto__ is a tensor like any other', async () => {
    const file = await openSafetensors(source(`{${entry('__proto__', 'U8', [1], 0, 1)}}`, [42]));
    expect(await file.read('__proto__')).toEqual(Uint8Array.of(42));
  });

  test.each<[Dtype, number, number]>([
    ['BOOL', 8, 8],
    ['F4', 8, 4],
    ['F6_E2M3', 8, 6],
    ['F6_E3M2', 4, 3],
    ['U8', 8, 8],
    ['I8', 8, 8],
    ['F8_E5M2', 8, 8],
    ['F8_E4M3', 8, 8],
    ['F8_E8M0', 8, 8],
    ['F8_E4M3FNUZ', 8, 8],
    ['F8_E5M2FNUZ', 8, 8],
    ['I16', 8, 16],
    ['U16', 8, 16],
    ['F16', 8, 16],
    ['BF16', 8, 16],
    ['I32', 8, 32],
    ['U32', 8, 32],
    ['F32', 8, 32],
    ['C64', 8, 64],
    ['F64', 8, 64],
    ['I64', 8, 64],
    ['U64', 8, 64],
  ])('%s: %i elements take %i bytes', async (dtype, elements, sizeBytes) => {
    const file = await openSafetensors(
      source(`{${entry('t', dtype, [elements], 0, sizeBytes)}}`, new Uint8Array(sizeBytes)),
    );
    expect(file.tensors.get('t')?.sizeBytes).toBe(sizeBytes);
    const wrong = source(`{${entry('t', dtype, [elements + 8], 0, sizeBytes)}}`, new Uint8Array(sizeBytes));
    expect((await refusal(() => openSafetensors(wrong))).code).toBe('FILE_TENSOR_INVALID');
  });
});

describe('writing', () => {
  test('aligned tensors first, a header padded to 16, exactly these bytes', () => {
    const plan = planSafetensors(
      [
        { name: 'odd', dtype: 'U8', shape: [3] },
        { name: 'pair', dtype: 'BF16', shape: [1] },
        { name: 'wide', dtype: 'F32', shape: [2, 2] },
      ],
      new Map([['format', 'x']]),
    );
    const header =
      '{"__metadata__":{"format":"x"},"wide":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},' +
      '"pair":{"dtype":"BF16","shape":[1],"data_offsets":[16,18]},"odd":{"dtype":"U8","shape":[3],"data_offsets":[18,21]}}';
    const padded = header.padEnd(Math.ceil((header.length + 8) / 16) * 16 - 8);
    expect(plan.header).toEqual(fileBytes(padded));
    expect(plan.sizeBytes).toBe(plan.header.length + 21);
    expect([...plan.tensors.values()].map(({ offset }) => offset - plan.header.length)).toEqual([0, 16, 18]);
  });

  test('what is planned reads back, aligned wherever sizes allow', async () => {
    const spec = fc.record({
      name: fc.string({ unit: 'grapheme', minLength: 1 }).filter((name) => name !== '__metadata__'),
      dtype: fc.constantFrom<Dtype>('U8', 'BF16', 'F32', 'I64', 'F4'),
      shape: fc.array(
        fc.integer({ min: 0, max: 6 }).map((d) => 2 * d),
        { minLength: 1, maxLength: 3 },
      ),
    });
    await fc.assert(
      fc.asyncProperty(
        fc.uniqueArray(spec, { selector: ({ name }) => name, maxLength: 12 }),
        fc.dictionary(fc.string({ unit: 'grapheme' }), fc.string({ unit: 'grapheme' })),
        async (specs, metadata) => {
          const plan = planSafetensors(specs, new Map(Object.entries(metadata)));
          const bytes = new Uint8Array(plan.sizeBytes);
          bytes.set(plan.header);
          for (let i = plan.header.length; i < bytes.length; i++) bytes[i] = i % 251;
          const file = await openSafetensors(memorySource(bytes));
          expect(file.metadata).toEqual(new Map(Object.entries(metadata)));
          expect(file.tensors.size).toBe(specs.length);
          for (const { name, dtype, shape } of specs) {
            const info = file.tensor(name);
            expect({ name: info.name, dtype: info.dtype, shape: info.shape }).toEqual({ name, dtype, shape });
            expect(info.offset).toBe(plan.tensors.get(name)?.offset);
            if (info.sizeBytes % 16 === 0) expect(info.offset % 16).toBe(0);
            expect(await file.read(name)).toEqual(bytes.slice(info.offset, info.offset + info.sizeBytes));
          }
        },
      ),
    );
  });

  test.each([
    ['a name twice', [{ name: 'a' }, { name: 'a' }]],
    ['the name of the metadata', [{ name: '__metadata__' }]],
    ['a fraction of a byte', [{ name: 'a', dtype: 'F4' as const, shape: [3] }]],
    ['a size beyond 2^53', [{ name: 'a', shape: [2 ** 30, 2 ** 30] }]],
    ['half a character in a name', [{ name: 'a\ud800' }]],
    ['a negative dimension', [{ name: 'a', shape: [-1] }]],
  ])('refuses %s', async (_, specs) => {
    const full = specs.map((spec) => ({ dtype: 'U8' as const, shape: [1], ...spec }));
    expect((await refusal(() => planSafetensors(full, new Map()))).code).toBe('ARGUMENT_INVALID');
  });
});

describe('hostile files', () => {
  const header = `{"__metadata__":{"k":"v"},${entry('a', 'BF16', [2, 2], 0, 8)},${entry('b', 'U8', [3], 8, 11)}}`;
  const control = fileBytes(header, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
  const readAll = async (bytes: Uint8Array) => {
    const file = await openSafetensors(memorySource(bytes));
    for (const name of file.tensors.keys()) await file.read(name);
  };

  test('the control opens', async () => {
    expect(await codeOf(() => readAll(control))).toBeUndefined();
  });

  test('truncated at every byte', async () => {
    for (let length = 0; length < control.length; length++) {
      expect(await codeOf(() => readAll(control.subarray(0, length))), `${length} bytes`).toBe('FILE_TRUNCATED');
    }
  });

  test('one byte too many', async () => {
    expect(await codeOf(() => readAll(Uint8Array.of(...control, 0)))).toBe('FILE_OFFSETS_INVALID');
  });

  test('every bit flipped: a typed error, or a file that still says what it holds', async () => {
    for (let bit = 0; bit < (control.length - 11) * 8; bit++) {
      const bytes = control.slice();
      bytes[bit >> 3]! ^= 1 << (bit & 7);
      const code = await codeOf(() => readAll(bytes));
      if (code !== undefined) expect(code).toMatch(/^FILE_/);
    }
  });

  test('mutated headers never crash and never read outside the file', async () => {
    const piece = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      '"',
      ',',
      ':',
      '\\u0061',
      '9'.repeat(20),
      '-1',
      '0',
      'null',
      '\0',
    );
    await fc.assert(
      fc.asyncProperty(fc.nat(header.length), fc.nat(12), piece, async (at, cut, insert) => {
        const mutated = header.slice(0, at) + insert + header.slice(at + cut);
        const code = await codeOf(() => readAll(fileBytes(mutated, control.subarray(-11))));
        if (code !== undefined) expect(code).toMatch(/^FILE_/);
      }),
      { numRuns: 3000 },
    );
  });

  test('a header length of 2^32 plus the real one', async () => {
    const bytes = control.slice();
    bytes[4] = 1;
    expect(await codeOf(() => readAll(bytes))).toBe('FILE_HEADER_TOO_LARGE');
  });

  test('a header length that rounds to a small one as a double, and the largest', async () => {
    for (const high of [0x80, 0xff]) {
      const bytes = control.slice();
      bytes.fill(high === 0xff ? 0xff : 0, 1, 7);
      bytes[7] = high;
      expect(await codeOf(() => readAll(bytes))).toBe('FILE_HEADER_TOO_LARGE');
    }
  });

  test('names are quoted and cut in messages, so that a terminal stays unharmed', async () => {
    const name = `\u001b[2J\u009b\u202e${'x'.repeat(5000)}`;
    const error = await refusal(() => openSafetensors(source(`{${entry(name, 'X9', [1], 0, 1)}}`, [0])));
    expect(error.code).toBe('FILE_DTYPE_UNKNOWN');
    expect(error.message).toMatch(/^[\x20-\x7e…]*$/);
    expect(error.message.length).toBeLessThan(1000);
  });
});

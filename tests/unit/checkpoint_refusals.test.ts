// Every code that a file can be refused with: each case breaks one rule of a control that passes, and names its code.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { DEFAULT_FORM } from '../../core/forms.js';
import {
  type ErrorCode,
  MemorySink,
  memoryFolder,
  memorySource,
  openModelCheckpoint,
  openSamebitsFile,
  planConversion,
  writeSamebitsFile,
} from '../../core/index.js';
import { convertFile } from '../../node/file_convert.js';
import { openFileSource } from '../../node/file_source.js';
import { codeOf, entry, fileBytes, refusal, source, tag } from './checkpoint_bytes.js';

const folder = mkdtempSync(join(tmpdir(), 'samebits-refusals-'));
afterAll(() => rmSync(folder, { recursive: true }));

// One packed weight w of N = 3, K = 64, groupSize 32, and a plain tensor of two bytes.
const INT4 = '{"w":{"n":3,"k":64,"group_size":32}}';
const PARTS = [
  entry('w.qdata', 'U8', [3, 32], 0, 96),
  entry('w.scale', 'BF16', [3, 2], 96, 108),
  entry('w.zero_point', 'BF16', [3, 2], 108, 120),
  entry('norm', 'BF16', [1], 120, 122),
];
const [QDATA, SCALE, ZERO_POINT, NORM] = PARTS as [string, string, string, string];
const NATIVE_PARTS = [
  QDATA,
  entry('w.scale', 'BF16', [2, 3], 96, 108),
  entry('w.zero_point', 'BF16', [2, 3], 108, 120),
  NORM,
];
const DATA = new Uint8Array(122);

const headerOf = (...members: string[]) => `{${members.join(',')}}`;
const openHeader = (...members: string[]) => openSamebitsFile(source(headerOf(...members), DATA));
/** The control with one part said differently. */
const openWith = (part: string, instead: string) =>
  openHeader(tag(INT4), ...PARTS.map((text) => (text === part ? instead : text)));
const openTag = (text: string) => openHeader(text, ...PARTS);
const openBytes = (bytes: Iterable<number>) => openSamebitsFile(memorySource(Uint8Array.from(bytes)));
const openRaw = (header: string) => openSamebitsFile(source(header, DATA));

/** A plain model of one linear, N = 4, K = 32, as a folder. */
const LINEAR = fileBytes(headerOf(entry('a_proj.weight', 'BF16', [4, 32], 0, 256)), new Uint8Array(256));
const INDEX = (map: string) => new TextEncoder().encode(`{"weight_map":${map}}`);
const openFolder = async (files: Record<string, Uint8Array>) =>
  planConversion(await openModelCheckpoint(memoryFolder(new Map(Object.entries(files)))));
const shards = (map: string) => openFolder({ 'model.safetensors.index.json': INDEX(map), 'a.safetensors': LINEAR });

/** A config that says it is too large, and may not be read. */
const openWithHugeConfig = () =>
  openModelCheckpoint({
    name: 'folder',
    open: async (name) => {
      if (name !== 'config.json') return memorySource(LINEAR, name);
      return { ...memorySource(new Uint8Array(0), name), sizeBytes: 100_000_001, read: () => Promise.reject('read') };
    },
  });

const linearPath = join(folder, 'linear.safetensors');
writeFileSync(linearPath, LINEAR);

type Case = readonly [name: string, attempt: () => unknown];
type FileCode = Extract<ErrorCode, `FILE_${string}`> | 'LAYOUT_NATIVE_SCALE';

const CASES: Readonly<Record<FileCode, readonly Case[]>> = {
  FILE_UNREADABLE: [
    ['a path that is not there', () => openFileSource(join(folder, 'missing'))],
    ['a folder as a file', () => openFileSource(folder)],
    ['a device as a file', () => openFileSource('/dev/null')],
    ['a folder without a model', () => openFolder({})],
    ['a shard that is not there', () => shards('{"a_proj.weight":"b.safetensors"}')],
  ],
  FILE_UNWRITABLE: [['a folder that is not there', () => convertFile(linearPath, join(folder, 'no', 'out'))]],
  FILE_EXISTS: [
    [
      'an output that is there',
      () => {
        writeFileSync(join(folder, 'there'), 'x');
        return convertFile(linearPath, join(folder, 'there'));
      },
    ],
    ['a folder as output, even with overwrite', () => convertFile(linearPath, folder, { overwrite: true })],
  ],
  FILE_TRUNCATED: [
    ['an empty file', () => openBytes([])],
    ['a header longer than the file', () => openBytes([100, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0x7d])],
    ['offsets past the end', () => openWith(NORM, entry('norm', 'BF16', [2], 120, 124))],
  ],
  FILE_HEADER_TOO_LARGE: [
    ['a config of more than 100 MB, which is not read', () => openWithHugeConfig()],
    ['100 MB and one byte', () => openBytes([0x01, 0xe1, 0xf5, 0x05, 0, 0, 0, 0])],
    ['the bytes of text', () => openBytes(new TextEncoder().encode('not a checkpoint'))],
  ],
  FILE_HEADER_INVALID: [
    ['no header', () => openRaw('')],
    ['not JSON', () => openRaw('{"a"')],
    ['an array', () => openRaw('[]')],
    ['space before the object', () => openRaw(` ${headerOf(tag(INT4), ...PARTS)}`)],
    ['not UTF-8', () => openBytes([3, 0, 0, 0, 0, 0, 0, 0, 0x7b, 0xff, 0x7d])],
    ['metadata that is not an object', () => openTag('"__metadata__":[]')],
    ['metadata that is not text', () => openTag('"__metadata__":{"format":1}')],
    ['a tensor that is not an object', () => openWith(NORM, '"norm":[]')],
    ['a tensor without a dtype', () => openWith(NORM, '"norm":{"shape":[1],"data_offsets":[120,122]}')],
    ['a tensor with a key too many', () => openWith(NORM, NORM.replace('}', ',"x":1}'))],
    ['no int4_tensors', () => openTag(tag(INT4, { int4_tensors: undefined }))],
    ['int4_tensors that is not JSON', () => openTag(tag('{'))],
    ['int4_tensors that is an array', () => openTag(tag('[]'))],
    ['an entry without its shape', () => openTag(tag('{"w":{"n":3,"k":64}}'))],
    ['an entry with text for N', () => openTag(tag('{"w":{"n":"3","k":64,"group_size":32}}'))],
    ['an entry with 3.0 for N', () => openTag(tag('{"w":{"n":3.0,"k":64,"group_size":32}}'))],
    ['a shard in another folder', () => shards('{"a_proj.weight":"../a.safetensors"}')],
    ['a shard at an absolute path', () => shards('{"a_proj.weight":"/a.safetensors"}')],
    ['a shard behind a backslash', () => shards('{"a_proj.weight":"..\\\\a.safetensors"}')],
    ['an index without a map', () => shards('null')],
    ['a shard that is no text', () => shards('{"a_proj.weight":1}')],
    [
      'a config that is not JSON',
      () => openFolder({ 'model.safetensors': LINEAR, 'config.json': Uint8Array.of(0x7b) }),
    ],
  ],
  FILE_DUPLICATE_KEY: [
    ['a tensor twice', () => openRaw(headerOf(tag(INT4), ...PARTS, NORM))],
    [
      'a tensor twice, once behind an escape',
      () => openRaw(headerOf(tag(INT4), ...PARTS, NORM.replace('m', '\\u006d'))),
    ],
    [
      'the same offsets, the shape flipped',
      () => openRaw(headerOf(tag(INT4), ...PARTS, entry('w.qdata', 'U8', [32, 3], 0, 96))),
    ],
    ['two sets of metadata', () => openRaw(headerOf(tag(INT4), ...PARTS, '"__metadata__":{}'))],
    ['a dtype twice', () => openWith(NORM, NORM.replace('}', ',"dtype":"F16"}'))],
    ['__proto__ twice', () => openRaw(headerOf(tag(INT4), ...PARTS, '"__proto__":{}', '"__proto__":{}'))],
    ['a packed weight twice', () => openTag(tag(INT4.replace('}}', '},"\\u0077":{"n":3,"k":64,"group_size":32}}')))],
    ['a tensor of the index twice', () => shards('{"a_proj.weight":"a.safetensors","a_proj.weight":"b.safetensors"}')],
  ],
  FILE_OFFSETS_INVALID: [
    ['an overlap', () => openWith(ZERO_POINT, entry('w.zero_point', 'BF16', [3, 2], 107, 119))],
    ['a hole', () => openHeader(tag(INT4), QDATA, SCALE, ZERO_POINT, entry('norm', 'U8', [1], 121, 122))],
    ['bytes after the last tensor', () => openWith(NORM, entry('norm', 'U8', [1], 120, 121))],
    ['bytes before the first', () => openHeader(tag('{}'), entry('t', 'U8', [121], 1, 122))],
    ['backwards', () => openWith(NORM, entry('norm', 'BF16', [1], 122, 120))],
    ['negative', () => openWith(NORM, entry('norm', 'BF16', [1], -2, 0))],
    ['beyond 2^53', () => openWith(NORM, NORM.replace('[120,122]', '[9007199254740993,9007199254740995]'))],
    ['beyond 2^64', () => openWith(NORM, NORM.replace('[120,122]', '[18446744073709551736,18446744073709551738]'))],
    ['not integers', () => openWith(NORM, NORM.replace('[120,122]', '[120.0,122]'))],
    ['three of them', () => openWith(NORM, NORM.replace('[120,122]', '[120,122,122]'))],
  ],
  FILE_DTYPE_UNKNOWN: [
    ['a dtype that does not exist', () => openWith(NORM, entry('norm', 'BF17', [1], 120, 122))],
    ['a dtype in small letters', () => openWith(NORM, entry('norm', 'bf16', [1], 120, 122))],
    ['the name of an object method', () => openWith(NORM, entry('norm', 'toString', [1], 120, 122))],
    ['a dtype that is no text', () => openWith(NORM, NORM.replace('"BF16"', '16'))],
  ],
  FILE_LAYOUT_UNTAGGED: [
    ['no metadata', () => openHeader(...PARTS)],
    ['the tag of another writer', () => openTag('"__metadata__":{"format":"pt"}')],
    ['no layout', () => openTag(tag(INT4, { layout: undefined }))],
    ['the shapes of [n_groups, N]', () => openHeader(...NATIVE_PARTS)],
    ['nothing packed', () => openHeader(entry('t', 'U8', [122], 0, 122))],
  ],
  FILE_LAYOUT_AMBIGUOUS: [['a square scale without a tag', () => openSquare('')]],
  FILE_LAYOUT_UNKNOWN: [['another layout', () => openTag(tag(INT4, { layout: 'native-int4' }))]],
  FILE_LAYOUT_VERSION_UNKNOWN: [
    ['another version', () => openTag(tag(INT4, { layout_version: '3' }))],
    ['no version', () => openTag(tag(INT4, { layout_version: undefined }))],
  ],
  FILE_TENSOR_MISSING: [
    ['a packed weight without its scale', () => openWith(SCALE, entry('w.scales', 'BF16', [3, 2], 96, 108))],
    ['a packed weight that is not there', () => openTag(tag(INT4.replace('"w"', '"v"')))],
    ['reading a packed weight that is not there', async () => (await openTag(tag(INT4))).readWeight('v')],
    ['reading a part as a plain tensor', async () => (await openTag(tag(INT4))).readPlain('w.scale')],
    ['a tensor of the index that its shard lacks', () => shards('{"b_proj.weight":"a.safetensors"}')],
  ],
  FILE_TENSOR_INVALID: [
    ['more bytes than dtype times shape', () => openWith(NORM, entry('norm', 'U8', [1], 120, 122))],
    ['fewer bytes', () => openWith(NORM, entry('norm', 'F32', [1], 120, 122))],
    [
      'a product that wraps to the right size in 64 bits',
      () => openWith(NORM, entry('norm', 'BF16', [274_177, 67_280_421_310_721], 120, 122)),
    ],
    ['a product beyond 2^53', () => openWith(NORM, entry('norm', 'U8', [2 ** 52, 2 ** 52], 120, 122))],
    ['a negative dimension', () => openWith(NORM, entry('norm', 'BF16', [-1, -1], 120, 122))],
    ['a dimension that is no integer', () => openWith(NORM, NORM.replace('"shape":[1]', '"shape":[1.0]'))],
    ['a shape that is no list', () => openWith(NORM, NORM.replace('"shape":[1]', '"shape":1'))],
    ['six bits that fill no byte', () => openWith(NORM, entry('norm', 'F6_E2M3', [3], 120, 122))],
    ['codes of another dtype', () => openWith(QDATA, entry('w.qdata', 'I8', [3, 32], 0, 96))],
    ['codes of another shape', () => openWith(QDATA, entry('w.qdata', 'U8', [32, 3], 0, 96))],
    ['a scale of another dtype', () => openWith(SCALE, entry('w.scale', 'F16', [3, 2], 96, 108))],
    ['a scale of rank 1', () => openWith(SCALE, entry('w.scale', 'BF16', [6], 96, 108))],
    ['a zero point of another dtype', () => openWith(ZERO_POINT, entry('w.zero_point', 'I16', [3, 2], 108, 120))],
    ['a tensor that the index does not list', () => shardsWithExtra()],
  ],
  FILE_FORMAT_UNSUPPORTED: [
    ['GGUF', () => openBytes([0x47, 0x47, 0x55, 0x46, 3, 0, 0, 0, 0, 0, 0, 0])],
    ['a zip archive', () => openBytes([0x50, 0x4b, 3, 4, 20, 0, 0, 0, 0, 0, 0, 0])],
    [
      'converting what is converted',
      () => openFolder({ 'model.safetensors': fileBytes(headerOf(tag(INT4), ...PARTS), DATA) }),
    ],
    [
      'converting a quantized model',
      () =>
        openFolder({
          'model.safetensors': LINEAR,
          'config.json': new TextEncoder().encode('{"quantization_config":{}}'),
        }),
    ],
    [
      'converting packed tensors',
      () => openFolder({ 'model.safetensors': fileBytes(headerOf(entry('a.absmax', 'F32', [1], 0, 4)), [0, 0, 0, 0]) }),
    ],
    [
      'converting where nothing can be packed',
      () => openFolder({ 'model.safetensors': fileBytes(headerOf(entry('norm.weight', 'BF16', [1], 0, 2)), [0, 0]) }),
    ],
  ],
  LAYOUT_NATIVE_SCALE: [
    ['scale [n_groups, N] in a tagged file', () => openWith(SCALE, entry('w.scale', 'BF16', [2, 3], 96, 108))],
    [
      'zero_point [n_groups, N] in a tagged file',
      () => openWith(ZERO_POINT, entry('w.zero_point', 'BF16', [2, 3], 108, 120)),
    ],
  ],
};

/** N = 2, K = 64, groupSize 32: scale is [2, 2] in either layout. */
function openSquare(tagText: string) {
  const parts = [
    entry('w.qdata', 'U8', [2, 32], 0, 64),
    entry('w.scale', 'BF16', [2, 2], 64, 72),
    entry('w.zero_point', 'BF16', [2, 2], 72, 80),
  ];
  return openSamebitsFile(source(headerOf(...(tagText ? [tagText] : []), ...parts), new Uint8Array(80)));
}

function shardsWithExtra() {
  const extra = fileBytes(
    headerOf(entry('a_proj.weight', 'BF16', [4, 32], 0, 256), entry('extra', 'U8', [1], 256, 257)),
    new Uint8Array(257),
  );
  const index = INDEX('{"a_proj.weight":"a.safetensors"}');
  return openFolder({ 'model.safetensors.index.json': index, 'a.safetensors': extra });
}

describe('a header beyond the limit', () => {
  test('is not written', async () => {
    const plainTensors = Array.from({ length: 101 }, (_, i) => ({
      name: `${i}${'x'.repeat(1_000_000)}`,
      dtype: 'U8' as const,
      shape: [1],
      data: Uint8Array.of(0),
    }));
    const sink = new MemorySink();
    await expect(writeSamebitsFile(sink, { weights: new Map(), plainTensors })).rejects.toMatchObject({
      code: 'ARGUMENT_INVALID',
      rule: 'a header must be readable',
    });
    expect(sink.bytes).toHaveLength(0);
  });
});

describe('controls', () => {
  test('the tagged file opens', async () => {
    const file = await openTag(tag(INT4));
    expect([...file.weights]).toEqual([['w', { n: 3, k: 64, groupSize: 32, nGroups: 2, form: DEFAULT_FORM }]]);
    expect([...file.plainTensors.keys()]).toEqual(['norm']);
    expect((await file.readWeight('w')).qdata).toHaveLength(96);
    expect(await file.readPlain('norm')).toHaveLength(2);
  });

  test('a square scale with a tag opens: the tag decides', async () => {
    const file = await openSquare(tag('{"w":{"n":2,"k":64,"group_size":32}}'));
    expect((await file.readWeight('w')).nGroups).toBe(2);
  });

  test('the model of one linear can be planned, alone and in a shard', async () => {
    expect((await openFolder({ 'model.safetensors': LINEAR })).output.tensors.size).toBe(3);
    expect((await shards('{"a_proj.weight":"a.safetensors"}')).output.tensors.size).toBe(3);
  });

  test('it can be written', async () => {
    expect((await convertFile(linearPath, join(folder, 'out'))).packedCount).toBe(1);
  });
});

describe.each(Object.entries(CASES))('%s', (code, cases) => {
  test.each(cases)('%s', async (_, attempt) => {
    expect((await refusal(attempt)).code).toBe(code);
  });
});

describe('messages', () => {
  test.each<[string, () => unknown, readonly string[]]>([
    ['untagged native', () => openHeader(...NATIVE_PARTS), ['w.scale', '[2,3]', '[n_groups, N]', 'samebits convert']],
    ['untagged square', () => openSquare(''), ['w.scale', '[2,2]', 'look alike', 'samebits convert']],
    [
      'native in a tagged file',
      () => openWith(SCALE, entry('w.scale', 'BF16', [2, 3], 96, 108)),
      ['w.scale', '[3,2]', '[2,3]', 'samebits convert'],
    ],
    [
      'wrong dtype',
      () => openWith(SCALE, entry('w.scale', 'F16', [3, 2], 96, 108)),
      ['w.scale', 'BF16 [3,2]', 'F16 [3,2]'],
    ],
    ['missing part', () => openWith(SCALE, entry('x', 'BF16', [3, 2], 96, 108)), ['w.scale', 'BF16', '[3,2]']],
    [
      'hole',
      () => openHeader(tag(INT4), QDATA, SCALE, ZERO_POINT, entry('norm', 'U8', [1], 121, 122)),
      ['norm', '120', '121', 'a hole'],
    ],
  ])('%s names the tensor, what was found and what was expected', async (_, attempt, words) => {
    const { message } = await refusal(attempt);
    for (const word of words) expect(message).toContain(word);
  });

  test.each([
    ['N', '{"w":{"n":0,"k":64,"group_size":32}}', 'N_UNSUPPORTED'],
    ['K', '{"w":{"n":3,"k":48,"group_size":16}}', 'K_UNSUPPORTED'],
    ['a group size', '{"w":{"n":3,"k":64,"group_size":24}}', 'GROUP_SIZE_UNSUPPORTED'],
  ])('%s that the operator does not take is refused by its own code and names the tensor', async (_, int4, code) => {
    const error = await refusal(() => openTag(tag(int4)));
    expect(error.code).toBe(code);
    expect(error.message).toContain('"w"');
  });
});

describe('values of a tagged file', () => {
  const open = async (offset: number, bits: number) => {
    const data = DATA.slice();
    data[offset] = bits & 255;
    data[offset + 1] = bits >> 8;
    return openSamebitsFile(source(headerOf(tag(INT4), ...PARTS), data));
  };

  test.each([
    ['an infinite scale', 96, 0x7f80, 'SCALE_NOT_FINITE'],
    ['a scale that is NaN', 106, 0xffc1, 'SCALE_NOT_FINITE'],
    ['a zero point that is NaN', 118, 0x7fc0, 'ZERO_POINT_NOT_FINITE'],
    ['a zero point beyond 65536', 108, 0x4781, 'ZERO_POINT_OUT_OF_RANGE'],
    ['a scale that makes nonsense', 100, 0x7f00, 'WEIGHT_EXPONENT_OUT_OF_RANGE'],
  ])('%s is refused when the weight is read, naming the tensor', async (_, offset, bits, code) => {
    const file = await open(offset, bits);
    const error = await refusal(() => file.readWeight('w'));
    expect(error.code).toBe(code);
    expect(error.message).toContain('"w"');
    expect(await codeOf(() => file.readPlain('norm'))).toBeUndefined();
  });

  test('a negative scale is data', async () => {
    expect((await (await open(96, 0xbf80)).readWeight('w')).groups.scale[0]).toBe(0xbf80);
  });
});

// What importers refuse: each case breaks one rule of a checkpoint that converts, and names its code.

import { describe, expect, test } from 'vitest';
import {
  discardingSink,
  type ErrorCode,
  type ImportOptions,
  openModelCheckpoint,
  planConversion,
  runConversion,
  type SelectionOptions,
  type SourceFolder,
} from '../../core/index.js';
import { codeOf, refusal } from './checkpoint_bytes.js';
import {
  awqParts,
  compressedParts,
  folderOf,
  gptqParts,
  intxParts,
  mlxParts,
  type Part,
  type PlainNumbers,
  torchaoMetadata,
  torchaoParts,
} from './import_bytes.js';

async function convert(folder: SourceFolder, options: SelectionOptions = {}) {
  return runConversion(await planConversion(await openModelCheckpoint(folder), options), discardingSink);
}

/** N = 8, K = 64, groups of 32. */
const W: PlainNumbers = {
  n: 8,
  k: 64,
  groupSize: 32,
  q: Uint8Array.from({ length: 512 }, (_, i) => (i * 7) % 16),
  scale: new Float64Array(16).fill(0.25),
  zero: new Float64Array(16).fill(8),
};
const SQUARE: PlainNumbers = {
  ...W,
  n: 2,
  q: W.q.subarray(0, 128),
  scale: W.scale.subarray(0, 4),
  zero: W.zero.subarray(0, 4),
};

type Change = Partial<Omit<Part, 'name'>> | 'missing';

/** The parts with some of them changed or left out. */
function changed(parts: readonly Part[], changes: Readonly<Record<string, Change>>): Part[] {
  return parts.flatMap((part) => {
    const change = changes[part.name];
    if (change === 'missing') return [];
    return [change ? { ...part, ...change } : part];
  });
}

const json = (quantization_config: object) => ({ 'config.json': { quantization_config } });
const GPTQ = { quant_method: 'gptq', bits: 4, checkpoint_format: 'gptq_v2', group_size: 32 };
const AWQ = { quant_method: 'awq', version: 'gemm', bits: 4, group_size: 32 };
const weights = (change: object) => ({
  group_0: { weights: { num_bits: 4, type: 'int', symmetric: true, ...change } },
});
const PACKED = { quant_method: 'compressed-tensors', format: 'pack-quantized', config_groups: weights({}) };

const gptq = (
  config: object,
  changes: Readonly<Record<string, Change>> = {},
  options: ImportOptions = {},
  more: Part[] = [],
) =>
  convert(
    folderOf(
      [
        ...changed(
          gptqParts(W, (z) => z),
          changes,
        ),
        ...more,
      ],
      json({ ...GPTQ, ...config }),
    ),
    options,
  );
const awq = (config: object, changes: Readonly<Record<string, Change>> = {}) =>
  convert(folderOf(changed(awqParts(W), changes), json({ ...AWQ, ...config })));
const packed = (config: object, changes: Readonly<Record<string, Change>> = {}, more: Part[] = []) =>
  convert(folderOf([...changed(compressedParts(W, 'packed'), changes), ...more], json({ ...PACKED, ...config })));
const mlx = (quantization: object, changes: Readonly<Record<string, Change>> = {}, options: SelectionOptions = {}) =>
  convert(
    folderOf(changed(mlxParts(W), changes), {
      'config.json': { quantization: { group_size: 32, bits: 4, ...quantization } },
    }),
    options,
  );
const torchao = (
  isSigned: boolean,
  changes: Readonly<Record<string, Change>> = {},
  metadata = torchaoMetadata('Int4Tensor', 32),
) => convert(folderOf(changed(torchaoParts(W, isSigned), changes), {}, metadata));
const intx = (
  changes: Readonly<Record<string, Change>>,
  data: object = { target_dtype: { _type: 'torch.dtype', _data: 'int4' } },
) => convert(folderOf(changed(intxParts(W), changes), {}, torchaoMetadata('IntxUnpackedToInt8Tensor', 32, data)));
const untagged = (w: PlainNumbers, changes: Readonly<Record<string, Change>> = {}, options: ImportOptions = {}) =>
  convert(folderOf(changed(torchaoParts(w, false, 'BF16', 'm.weight.'), changes)), options);
const gIdx = (values: number[]): Part => ({ name: 'm.g_idx', dtype: 'I32', shape: [values.length], values });
const order = Array.from({ length: 64 }, (_, k) => k >> 5);

describe('controls convert', () => {
  test.each<[string, () => Promise<{ packedCount: number }>]>([
    ['gptq', () => gptq({}, {}, {}, [gIdx(order)])],
    ['awq', () => awq({})],
    ['compressed-tensors', () => packed({}, {}, [{ ...gIdx(new Array(64).fill(-1)), name: 'm.weight_g_idx' }])],
    ['mlx', () => mlx({})],
    ['torchao, unsigned', () => torchao(false)],
    ['torchao, signed', () => torchao(true)],
    ['intx', () => intx({})],
    ['untagged', () => untagged(W)],
    ['untagged, square, told so', () => untagged(SQUARE, {}, { layout: 'native' })],
  ])('%s', async (_, attempt) => {
    expect((await attempt()).packedCount).toBe(1);
  });
});

const CASES: readonly (readonly [name: string, code: ErrorCode, attempt: () => unknown])[] = [
  ['GPTQ: act-order', 'FILE_FORMAT_UNSUPPORTED', () => gptq({ desc_act: true }, {}, {}, [gIdx(order.toReversed())])],
  ['GPTQ: act-order in one column', 'FILE_FORMAT_UNSUPPORTED', () => gptq({}, {}, {}, [gIdx([1, ...order.slice(1)])])],
  ['GPTQ: act-order without indices', 'FILE_FORMAT_UNSUPPORTED', () => gptq({ desc_act: true })],
  ['GPTQ: indices of another K', 'FILE_TENSOR_INVALID', () => gptq({}, {}, {}, [gIdx(order.slice(1))])],
  ['GPTQ: 8 bits', 'FILE_FORMAT_UNSUPPORTED', () => gptq({ bits: 8 })],
  ['GPTQ: marlin', 'FILE_FORMAT_UNSUPPORTED', () => gptq({ checkpoint_format: 'marlin' })],
  ['GPTQ: bitblas', 'FILE_FORMAT_UNSUPPORTED', () => gptq({ checkpoint_format: 'bitblas' })],
  ['GPTQ: exllama', 'FILE_FORMAT_UNSUPPORTED', () => gptq({ checkpoint_format: 'exllama' })],
  ['GPTQ: gptq_p', 'FILE_FORMAT_UNSUPPORTED', () => gptq({ checkpoint_format: 'gptq_p' })],
  [
    'GPTQ: v1, asymmetric, writer unknown',
    'FILE_FORMAT_UNSUPPORTED',
    () => gptq({ checkpoint_format: 'gptq', sym: false }),
  ],
  ['GPTQ: no config', 'FILE_LAYOUT_AMBIGUOUS', () => convert(folderOf(gptqParts(W, (z) => z)))],
  ['GPTQ: no scales', 'FILE_TENSOR_MISSING', () => gptq({}, { 'm.scales': 'missing' })],
  ['GPTQ: no zero points', 'FILE_TENSOR_MISSING', () => gptq({}, { 'm.qzeros': 'missing' })],
  ['GPTQ: scales of another N', 'FILE_TENSOR_INVALID', () => gptq({}, { 'm.scales': { shape: [4, 4] } })],
  ['GPTQ: zero points of another shape', 'FILE_TENSOR_INVALID', () => gptq({}, { 'm.qzeros': { shape: [1, 2] } })],
  ['GPTQ: codes of another dtype', 'FILE_TENSOR_INVALID', () => gptq({}, { 'm.qweight': { dtype: 'F32' } })],
  ['GPTQ: another group size', 'FILE_FORMAT_UNSUPPORTED', () => gptq({ group_size: 64 })],
  [
    'GPTQ: groups of 24',
    'GROUP_SIZE_UNSUPPORTED',
    () =>
      convert(
        folderOf(
          gptqParts(of(8, 96, 24), (z) => z),
          json({ ...GPTQ, group_size: 24 }),
        ),
      ),
  ],
  [
    'GPTQ: K of 40',
    'K_UNSUPPORTED',
    () =>
      convert(
        folderOf(
          gptqParts(of(8, 40, 40), (z) => z),
          json({ ...GPTQ, group_size: -1 }),
        ),
      ),
  ],
  ['AWQ: gemv', 'FILE_FORMAT_UNSUPPORTED', () => awq({ version: 'gemv' })],
  ['AWQ: gemv_fast', 'FILE_FORMAT_UNSUPPORTED', () => awq({ version: 'gemv_fast' })],
  ['AWQ: llm-awq', 'FILE_FORMAT_UNSUPPORTED', () => awq({ version: 'llm-awq' })],
  ['AWQ: exllama', 'FILE_FORMAT_UNSUPPORTED', () => awq({ version: 'exllama' })],
  ['AWQ: marlin', 'FILE_FORMAT_UNSUPPORTED', () => awq({ version: 'marlin' })],
  ['AWQ: 3 bits', 'FILE_FORMAT_UNSUPPORTED', () => awq({ bits: 3 })],
  ['AWQ: another group size', 'FILE_FORMAT_UNSUPPORTED', () => awq({ group_size: 16 })],
  ['AWQ: no zero points', 'FILE_TENSOR_MISSING', () => awq({}, { 'm.qzeros': 'missing' })],
  ['AWQ: no scales', 'FILE_TENSOR_MISSING', () => awq({}, { 'm.scales': 'missing' })],
  ['AWQ: scales of another N', 'FILE_TENSOR_INVALID', () => awq({}, { 'm.scales': { shape: [4, 4] } })],
  ['AWQ: codes of another dtype', 'FILE_TENSOR_INVALID', () => awq({}, { 'm.qweight': { dtype: 'F32' } })],
  ['AWQ: zero points of another shape', 'FILE_TENSOR_INVALID', () => awq({}, { 'm.qzeros': { shape: [1, 2] } })],
  ['compressed-tensors: int-quantized', 'FILE_FORMAT_UNSUPPORTED', () => packed({ format: 'int-quantized' })],
  ['compressed-tensors: naive-quantized', 'FILE_FORMAT_UNSUPPORTED', () => packed({ format: 'naive-quantized' })],
  ['compressed-tensors: marlin-24', 'FILE_FORMAT_UNSUPPORTED', () => packed({ format: 'marlin-24' })],
  ['compressed-tensors: nvfp4', 'FILE_FORMAT_UNSUPPORTED', () => packed({ format: 'nvfp4-pack-quantized' })],
  ['compressed-tensors: mxfp4', 'FILE_FORMAT_UNSUPPORTED', () => packed({ format: 'mxfp4-pack-quantized' })],
  [
    'compressed-tensors: a scale for a block of rows',
    'FILE_TENSOR_INVALID',
    () =>
      packed(
        { config_groups: weights({ strategy: 'block', block_structure: [8, 32] }) },
        { 'm.weight_scale': { shape: [1, 2], values: [1, 1] } },
      ),
  ],
  [
    'compressed-tensors: codes of another dtype',
    'FILE_TENSOR_INVALID',
    () => packed({}, { 'm.weight_packed': { dtype: 'F32' } }),
  ],
  ['compressed-tensors: no scale', 'FILE_TENSOR_MISSING', () => packed({}, { 'm.weight_scale': 'missing' })],
  ['compressed-tensors: 8 bits', 'FILE_FORMAT_UNSUPPORTED', () => packed({ config_groups: weights({ num_bits: 8 }) })],
  [
    'compressed-tensors: floats',
    'FILE_FORMAT_UNSUPPORTED',
    () => packed({ config_groups: weights({ type: 'float' }) }),
  ],
  [
    'compressed-tensors: one scale for all',
    'FILE_TENSOR_INVALID',
    () => packed({}, { 'm.weight_scale': { shape: [1], values: [1] } }),
  ],
  [
    'compressed-tensors: a shape that the codes lack',
    'FILE_TENSOR_INVALID',
    () => packed({}, { 'm.weight_shape': { values: [8, 128] } }),
  ],
  [
    'compressed-tensors: a negative shape',
    'FILE_TENSOR_INVALID',
    () => packed({}, { 'm.weight_shape': { values: [-8, -64] } }),
  ],
  ['compressed-tensors: no shape', 'FILE_TENSOR_MISSING', () => packed({}, { 'm.weight_shape': 'missing' })],
  [
    'compressed-tensors: asymmetric without zero points',
    'FILE_TENSOR_MISSING',
    () => packed({ config_groups: weights({ symmetric: false }) }, { 'm.weight_zero_point': 'missing' }),
  ],
  [
    'compressed-tensors: zero points of another shape',
    'FILE_TENSOR_INVALID',
    () => packed({}, { 'm.weight_zero_point': { shape: [2, 1] } }),
  ],
  [
    'compressed-tensors: act-order',
    'FILE_FORMAT_UNSUPPORTED',
    () => packed({}, {}, [{ ...gIdx(order.toReversed()), name: 'm.weight_g_idx' }]),
  ],
  ['MLX: mxfp4', 'FILE_FORMAT_UNSUPPORTED', () => mlx({ mode: 'mxfp4' })],
  ['MLX: mxfp8', 'FILE_FORMAT_UNSUPPORTED', () => mlx({ mode: 'mxfp8', bits: 8 })],
  ['MLX: nvfp4', 'FILE_FORMAT_UNSUPPORTED', () => mlx({ mode: 'nvfp4', group_size: 16 })],
  [
    'MLX: mxfp4 as it is written, bytes for scales and no biases',
    'FILE_FORMAT_UNSUPPORTED',
    () => mlx({ mode: 'mxfp4' }, { 'm.scales': { dtype: 'U8' }, 'm.biases': 'missing' }),
  ],
  ['MLX: scales of bytes', 'FILE_TENSOR_INVALID', () => mlx({}, { 'm.scales': { dtype: 'U8' } })],
  ['MLX: 8 bits', 'FILE_FORMAT_UNSUPPORTED', () => mlx({ bits: 8 })],
  ['MLX: another group size', 'FILE_FORMAT_UNSUPPORTED', () => mlx({ group_size: 64 })],
  ['MLX: no biases', 'FILE_TENSOR_MISSING', () => mlx({}, { 'm.biases': 'missing' })],
  ['MLX: biases of another shape', 'FILE_TENSOR_INVALID', () => mlx({}, { 'm.biases': { shape: [2, 8] } })],
  ['MLX: no config', 'FILE_LAYOUT_AMBIGUOUS', () => convert(folderOf(mlxParts(W)))],
  [
    'torchao: a scale for the activations',
    'FILE_FORMAT_UNSUPPORTED',
    () => torchao(false, {}, torchaoMetadata('Int4Tensor', 32, {}, ['act_pre_scale', 'qdata', 'scale', 'zero_point'])),
  ],
  [
    'torchao: tiles',
    'FILE_FORMAT_UNSUPPORTED',
    () => torchao(false, {}, torchaoMetadata('Int4TilePackedTo4dTensor', 32)),
  ],
  [
    'torchao: preshuffled',
    'FILE_FORMAT_UNSUPPORTED',
    () => torchao(false, {}, torchaoMetadata('Int4PreshuffledTensor', 32)),
  ],
  [
    'torchao: plain int32',
    'FILE_FORMAT_UNSUPPORTED',
    () => torchao(false, {}, torchaoMetadata('Int4PlainInt32Tensor', 32)),
  ],
  ['torchao: opaque', 'FILE_FORMAT_UNSUPPORTED', () => torchao(false, {}, torchaoMetadata('Int4OpaqueTensor', 32))],
  [
    'torchao: groups along N',
    'FILE_FORMAT_UNSUPPORTED',
    () => torchao(false, {}, torchaoMetadata('Int4Tensor', 32, { block_size: [32, 1] })),
  ],
  [
    'torchao: names that are no list',
    'FILE_HEADER_INVALID',
    () => torchao(false, {}, { ...torchaoMetadata('Int4Tensor', 32), tensor_names: '{}' }),
  ],
  [
    'torchao: an entry that is missing',
    'FILE_HEADER_INVALID',
    () => torchao(false, {}, { ...torchaoMetadata('Int4Tensor', 32), tensor_names: '["m.weight","x.weight"]' }),
  ],
  ['torchao: no scale', 'FILE_TENSOR_MISSING', () => torchao(false, { 'm._weight_scale': 'missing' })],
  ['torchao: scales [N, G]', 'FILE_TENSOR_INVALID', () => torchao(false, { 'm._weight_scale': { shape: [8, 2] } })],
  [
    'torchao: codes of another dtype',
    'FILE_TENSOR_INVALID',
    () => torchao(false, { 'm._weight_qdata': { dtype: 'U32', shape: [8, 8], values: new Array(64).fill(0) } }),
  ],
  ['torchao: experts', 'FILE_TENSOR_INVALID', () => torchao(false, { 'm._weight_qdata': { shape: [2, 4, 32] } })],
  [
    'torchao: unsigned codes with zero points in weights',
    'FILE_LAYOUT_AMBIGUOUS',
    () => torchao(false, { 'm._weight_zero_point': { values: new Array(16).fill(-3) } }),
  ],
  [
    'torchao: signed codes with zero points in codes',
    'FILE_LAYOUT_AMBIGUOUS',
    () => torchao(true, { 'm._weight_zero_point': { values: new Array(16).fill(8) } }),
  ],
  [
    'intx: a code beyond int4',
    'FILE_TENSOR_INVALID',
    () => intx({ 'm._weight_qdata': { values: new Array(512).fill(8) } }),
  ],
  ['intx: int8 alone', 'FILE_FORMAT_UNSUPPORTED', () => intx({}, { target_dtype: { _data: 'int8' } })],
  ['intx: scales of another shape', 'FILE_TENSOR_INVALID', () => intx({ 'm._weight_scale': { shape: [2, 8] } })],
  ['untagged: square', 'FILE_LAYOUT_AMBIGUOUS', () => untagged(SQUARE)],
  [
    'untagged: a scale of neither order',
    'FILE_TENSOR_INVALID',
    () => untagged(W, { 'm.weight.scale': { shape: [4, 4] } }),
  ],
  ['untagged: a scale of bytes', 'FILE_TENSOR_INVALID', () => untagged(W, { 'm.weight.scale': { dtype: 'U8' } })],
  ['--layout where the file can say', 'ARGUMENT_INVALID', () => untagged(W, {}, { layout: 'native' })],
  [
    '--layout that answers another question',
    'FILE_LAYOUT_AMBIGUOUS',
    () => untagged(SQUARE, {}, { layout: 'gptq-v1' }),
  ],
  [
    'a scale that is infinite',
    'SCALE_NOT_FINITE',
    () => mlx({}, { 'm.scales': { dtype: 'F32', values: [...W.scale.slice(1), Infinity] } }),
  ],
  [
    'a scale that is NaN',
    'SCALE_NOT_FINITE',
    () => mlx({}, { 'm.scales': { dtype: 'F32', values: [Number.NaN, ...W.scale.slice(1)] } }),
  ],
  [
    'a scale beyond bf16',
    'SCALE_NOT_FINITE',
    () => mlx({}, { 'm.scales': { dtype: 'F32', values: [3.4e38, ...W.scale.slice(1)] } }),
  ],
  [
    'a bias that is NaN',
    'OFFSET_NOT_FINITE',
    () => mlx({}, { 'm.biases': { values: [Number.NaN, ...W.scale.slice(1)] } }),
  ],
  [
    'a bias that is NaN, rounded',
    'ZERO_POINT_NOT_FINITE',
    () => mlx({}, { 'm.biases': { values: [Number.NaN, ...W.scale.slice(1)] } }, { rounded: true }),
  ],
  [
    'a bias that is infinite',
    'OFFSET_NOT_FINITE',
    () => mlx({}, { 'm.biases': { values: [-Infinity, ...W.scale.slice(1)] } }),
  ],
  [
    'a bias that is infinite, rounded',
    'ZERO_POINT_NOT_FINITE',
    () => mlx({}, { 'm.biases': { values: [-Infinity, ...W.scale.slice(1)] } }, { rounded: true }),
  ],
  ['scales beyond f16', 'SCALE_NOT_FINITE', () => mlx({}, { 'm.scales': { values: new Array(16).fill(2 ** 100) } })],
  [
    'scales that make nonsense, rounded',
    'WEIGHT_EXPONENT_OUT_OF_RANGE',
    () => mlx({}, { 'm.scales': { values: new Array(16).fill(2 ** 100) } }, { rounded: true }),
  ],
  [
    'a method that nobody knows',
    'FILE_FORMAT_UNSUPPORTED',
    () =>
      convert(
        folderOf(
          [{ name: 'm.weight', dtype: 'BF16', shape: [8, 64], values: new Array(512).fill(1) }],
          json({ quant_method: 'hqq' }),
        ),
      ),
  ],
];

function of(n: number, k: number, groupSize: number): PlainNumbers {
  const count = (n * k) / groupSize;
  return {
    n,
    k,
    groupSize,
    q: new Uint8Array(n * k),
    scale: new Float64Array(count).fill(1),
    zero: new Float64Array(count).fill(8),
  };
}

describe('refused', () => {
  test.each(CASES)('%s: %s', async (_, code, attempt) => {
    const error = await refusal(attempt);
    expect(error.code).toBe(code);
    if (!/^(FILE_HEADER|ARGUMENT)/.test(code) && !error.rule.includes('to be converted'))
      expect(error.message).toMatch(/"m\b/);
  });
});

describe('not refused', () => {
  test('int8 beside int4 stays as it is, with the reason', async () => {
    const other = intxParts(W).map((part) => ({ ...part, name: part.name.replace('m.', 'e.') }));
    const metadata = torchaoMetadata('Int4Tensor', 32);
    const entry = {
      _type: 'IntxUnpackedToInt8Tensor',
      _data: { block_size: [1, 32], target_dtype: { _data: 'int8' } },
      _tensor_data_names: ['qdata', 'scale', 'zero_point'],
    };
    const report = await convert(
      folderOf(
        [...torchaoParts(W, false), ...other],
        {},
        { ...metadata, tensor_names: '["m.weight","e.weight"]', 'e.weight': JSON.stringify(entry) },
      ),
    );
    expect(report.tensors.map(({ name, packed, keptPlain }) => [name, packed !== undefined, keptPlain])).toEqual([
      ['m.weight', true, false],
      ['e._weight_qdata', false, true],
      ['e._weight_scale', false, true],
      ['e._weight_zero_point', false, true],
    ]);
    expect(report.tensors[1]?.reason).toContain('int8');
  });

  test('a weight that cannot be read can be excluded; its parts stay as they are', async () => {
    const parts = [
      ...gptqParts(W, (z) => z),
      ...gptqParts(W, (z) => z).map((part) => ({ ...part, name: part.name.replace('m.', 'bad.') })),
    ];
    const folder = folderOf([...parts, { ...gIdx(order.toReversed()), name: 'bad.g_idx' }], json(GPTQ));
    expect(await codeOf(() => convert(folder))).toBe('FILE_FORMAT_UNSUPPORTED');
    const report = await convert(folder, { exclude: ['bad.*'] });
    expect(report.packedCount).toBe(1);
    expect(report.tensors.filter(({ keptPlain }) => keptPlain)).toHaveLength(4);
  });

  test('MLX: a module with settings of its own is judged by them', async () => {
    const other = mlxParts(W).map((part) => ({ ...part, name: part.name.replace('m.', 'e.') }));
    const quantization = { group_size: 32, bits: 4, e: { group_size: 16, bits: 8 } };
    const report = await convert(folderOf([...mlxParts(W), ...other], { 'config.json': { quantization } }));
    expect(report.packedCount).toBe(1);
    expect(report.tensors.find(({ name }) => name === 'e.weight')?.reason).toBe('bits 8, not 4');
  });

  test('plain matrices beside 4-bit weights stay plain, unless they are included', async () => {
    const head: Part = { name: 'lm_head.weight', dtype: 'BF16', shape: [8, 64], values: new Array(512).fill(1) };
    const folder = folderOf([...gptqParts(W, (z) => z), head], json(GPTQ));
    expect((await convert(folder)).packedCount).toBe(1);
    expect((await convert(folder, { include: ['*'] })).packedCount).toBe(2);
  });

  test('a convention that was told is not doubted', async () => {
    const zeros = { 'm._weight_zero_point': { values: new Array(16).fill(-3) } };
    const folder = folderOf(changed(torchaoParts(W, false), zeros), {}, torchaoMetadata('Int4Tensor', 32));
    expect((await convert(folder, { layout: 'unsigned' })).packedCount).toBe(1);
  });
});

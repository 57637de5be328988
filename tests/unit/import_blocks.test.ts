// Weights of more rows than are worked on at once: whatever the blocks, each code, scale and zero point is where it belongs.

import { describe, expect, test } from 'vitest';
import {
  type CoalescedInt4Tensor,
  MemorySink,
  memoryFolder,
  memorySource,
  openModelCheckpoint,
  openSamebitsFile,
  planConversion,
  Random,
  runConversion,
} from '../../core/index.js';
import { entry, fileBytes } from './checkpoint_bytes.js';
import { torchaoMetadata } from './import_bytes.js';
import { config } from './import_sources.js';

// A row of codes has 8 KiB: a column block holds 4096 of them, and a slice 256.
const [N, K, GROUP_SIZE] = [4128, 16_384, 512];
const G = K / GROUP_SIZE;

/** Values that no two neighbours share, whichever way they are neighbours. */
const hash = (i: number) => Math.imul(i + 1, 0x9e3779b1) >>> 0;
const words = (count: number) => Uint32Array.from({ length: count }, (_, i) => hash(i) ^ (hash(i) >>> 15));
/** bf16 bits of numbers from 2^-8 to 2. */
const scaleBits = (count: number) => Uint16Array.from({ length: count }, (_, i) => 0x3b80 + (hash(i + 7) % 0x400));
/** Small integers, in bf16. */
const zeroBits = (count: number) =>
  Uint16Array.from({ length: count }, (_, i) => [0x3f80, 0x4000, 0x40a0, 0x4100, 0x4170][hash(i + 3) % 5]!);

type Part = readonly [name: string, dtype: string, shape: readonly number[], values: Uint32Array | Uint16Array];

function checkpoint(parts: readonly Part[], metadata?: Readonly<Record<string, string>>): Uint8Array {
  let end = 0;
  const entries = parts.map(([name, dtype, shape, { byteLength }]) => {
    end += byteLength;
    return entry(name, dtype, shape, end - byteLength, end);
  });
  if (metadata) entries.unshift(`"__metadata__":${JSON.stringify(metadata)}`);
  const header = fileBytes(`{${entries.join()}}`);
  return Buffer.concat([header, ...parts.map(([, , , { buffer }]) => Buffer.from(buffer))]);
}

async function convert(bytes: Uint8Array, settings: object = {}): Promise<CoalescedInt4Tensor> {
  const json = new TextEncoder().encode(JSON.stringify(Object.values(settings)[0] ?? {}));
  const folder = memoryFolder(new Map([['model.safetensors', bytes]]).set('config.json', json));
  const sink = new MemorySink();
  const report = await runConversion(await planConversion(await openModelCheckpoint(folder)), sink);
  expect(report.tensors.map(({ change }) => change?.isLossless)).toEqual([true]);
  return (await openSamebitsFile(memorySource(sink.bytes))).readWeight('m.weight');
}

interface Expected {
  readonly code: (n: number, k: number) => number;
  readonly scale: (n: number, g: number) => number;
  readonly zeroPoint: (n: number, g: number) => number;
}

/** Some thousand places, among them the rows on both sides of every border of blocks. */
function expectEverywhere(weight: CoalescedInt4Tensor, { code, scale, zeroPoint }: Expected, name: string): void {
  expect([weight.n, weight.k, weight.groupSize]).toEqual([N, K, GROUP_SIZE]);
  const random = Random.named(name);
  const borders = [0, 255, 256, 511, 512, 4095, 4096, 4127];
  for (let i = 0; i < 20_000; i++) {
    const n = i < 4000 ? borders[i % borders.length]! : random.below(N);
    const k = random.below(K);
    const g = Math.floor(k / GROUP_SIZE);
    const byte = weight.qdata[(n * K + k) >> 1]!;
    const found = [
      k % 2 === 0 ? byte & 15 : byte >> 4,
      weight.groups.scale[n * G + g],
      weight.groups.second[n * G + g],
    ];
    if (found.join() !== [code(n, k), scale(n, g), zeroPoint(n, g)].join()) {
      throw new Error(`[${n}, ${k}]: ${found} instead of ${[code(n, k), scale(n, g), zeroPoint(n, g)]}`);
    }
  }
}

const bf16OfInteger = (value: number) => new Uint16Array(Float32Array.of(value).buffer)[1]!;

describe(`N = ${N}, K = ${K}`, () => {
  const scales = scaleBits(N * G);
  const zeroWords = words((N * G) / 8);

  test('GPTQ', async () => {
    const qweight = words((N * K) / 8);
    const file = checkpoint([
      ['m.qweight', 'I32', [K / 8, N], qweight],
      ['m.qzeros', 'I32', [G, N / 8], zeroWords],
      ['m.scales', 'BF16', [G, N], scales],
    ]);
    const weight = await convert(file, config({ quant_method: 'gptq', bits: 4, checkpoint_format: 'gptq_v2' }));
    const expected: Expected = {
      code: (n, k) => (qweight[(k >> 3) * N + n]! >>> (4 * (k & 7))) & 15,
      scale: (n, g) => scales[g * N + n]!,
      zeroPoint: (n, g) => bf16OfInteger((zeroWords[(g * N) / 8 + (n >> 3)]! >>> (4 * (n & 7))) & 15),
    };
    expectEverywhere(weight, expected, 'GPTQ');
  });

  test('AWQ', async () => {
    const position = [0, 4, 1, 5, 2, 6, 3, 7];
    const qweight = words((N * K) / 8);
    const file = checkpoint([
      ['m.qweight', 'I32', [K, N / 8], qweight],
      ['m.qzeros', 'I32', [G, N / 8], zeroWords],
      ['m.scales', 'BF16', [G, N], scales],
    ]);
    const weight = await convert(file, config({ quant_method: 'awq', version: 'gemm', bits: 4 }));
    const expected: Expected = {
      code: (n, k) => (qweight[(k * N) / 8 + (n >> 3)]! >>> (4 * position[n & 7]!)) & 15,
      scale: (n, g) => scales[g * N + n]!,
      zeroPoint: (n, g) => bf16OfInteger((zeroWords[(g * N) / 8 + (n >> 3)]! >>> (4 * position[n & 7]!)) & 15),
    };
    expectEverywhere(weight, expected, 'AWQ');
  });

  test.each(['native', 'coalesced'] as const)('Int4Tensor parts, %s', async (order) => {
    const codes = words((N * K) / 8);
    const bytes = new Uint8Array(codes.buffer);
    const zeros = zeroBits(N * G);
    const shape = order === 'native' ? [G, N] : [N, G];
    const prefix = order === 'native' ? 'm._weight_' : 'm.weight.';
    const file = checkpoint(
      [
        [`${prefix}qdata`, 'U8', [N, K / 2], codes],
        [`${prefix}scale`, 'BF16', shape, scales],
        [`${prefix}zero_point`, 'BF16', shape, zeros],
      ],
      order === 'native' ? torchaoMetadata('Int4Tensor', GROUP_SIZE) : undefined,
    );
    const at = (n: number, g: number) => (order === 'native' ? g * N + n : n * G + g);
    const expected: Expected = {
      code: (n, k) => (k % 2 === 0 ? bytes[(n * K + k) / 2]! & 15 : bytes[(n * K + k - 1) / 2]! >> 4),
      scale: (n, g) => scales[at(n, g)]!,
      zeroPoint: (n, g) => zeros[at(n, g)]!,
    };
    expectEverywhere(await convert(file), expected, order);
  });
});

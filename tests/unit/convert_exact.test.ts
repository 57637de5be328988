// Conversion that keeps a source's own numbers: no weight changes by a bit, in any format that has 16 bits for a number.

import { describe, expect, test } from 'vitest';
import { KernelMemory } from '../../core/checkpoint/kernel_memory.js';
import { f32FromF16Array, numberFromF16 } from '../../core/f16.js';
import {
  dequantize,
  dequantizedSource,
  describeForm,
  type ImportOptions,
  MemorySink,
  memoryFolder,
  memorySource,
  openModelCheckpoint,
  openSamebitsFile,
  planConversion,
  Random,
  runConversion,
  type SourceFolder,
} from '../../core/index.js';
import { refusal } from './checkpoint_bytes.js';
import { gguf, q4kBlock, q40, q41 } from './gguf_bytes.js';
import {
  awqParts,
  compressedParts,
  folderOf,
  gptqParts,
  mlxParts,
  type PlainNumbers,
  torchaoMetadata,
  torchaoParts,
} from './import_bytes.js';
import { AWQ, COMPRESSED, config, GPTQ, importSources, mlxConfig } from './import_sources.js';

async function convert(folder: SourceFolder, options: ImportOptions & { readonly rounded?: boolean }, entry?: string) {
  const model = await openModelCheckpoint(folder, entry);
  const sink = new MemorySink();
  const report = await runConversion(await planConversion(model, options), sink);
  const change = report.tensors.find(({ packed }) => packed)?.change;
  const file = await openSamebitsFile(memorySource(sink.bytes));
  const { rounded: _, ...source } = options;
  const slices = (await dequantizedSource(model, 'm.weight', source)).slices();
  const values: number[] = [];
  for await (const slice of slices) values.push(...slice);
  return { change, weight: await file.readWeight('m.weight'), values: Float32Array.from(values) };
}

const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);

describe('a weight that every format holds exactly', () => {
  test.each(Object.entries(importSources(24, 512, 32)))('%s', async (_, [folder, w, , options, entry]) => {
    const { change, weight, values } = await convert(folder, options ?? {}, entry);
    expect(change).toEqual({ isLossless: true, relativeRms: 0, largest: 0 });
    expect(values).toEqual(
      Float32Array.from(w.q, (q, i) => (q - w.zero[Math.floor(i / 32)]!) * w.scale[Math.floor(i / 32)]!),
    );
    expect(dequantize(weight)).toEqual(values);
  });
});

describe('numbers that use all of their bits', () => {
  const [n, k, groupSize] = [8, 512, 32];
  const random = Random.named('all bits');
  /** Zero points are powers of two from 8, so that offsets have no more bits than scales. */
  const drawn = (mantissa: number): PlainNumbers => ({
    n,
    k,
    groupSize,
    q: Uint8Array.from({ length: n * k }, () => random.below(16)),
    scale: Float64Array.from(
      { length: (n * k) / groupSize },
      () => (1 + random.below(mantissa) / mantissa) * 2 ** -(6 + random.below(4)),
    ),
    zero: Float64Array.from({ length: (n * k) / groupSize }, () => [4, 6, 7, 8][random.below(4)]!).map((z) =>
      z === 8 ? 8 : z,
    ),
  });
  const powers = (w: PlainNumbers): PlainNumbers => ({ ...w, zero: w.zero.map((z) => (z < 8 ? 4 : 8)) });
  const eights = (w: PlainNumbers): PlainNumbers => ({ ...w, zero: w.zero.map(() => 8) });
  const [f16, bf16] = [drawn(1024), drawn(128)];
  const q4k = Array.from({ length: (n * k) / 256 }, () => {
    const codes = Uint8Array.from({ length: 256 }, () => random.below(16));
    const six = () => Array.from({ length: 8 }, () => random.below(64));
    const half = () => (1 + random.below(1024) / 1024) * 2 ** -(8 + random.below(4));
    return q4kBlock(codes, half(), half(), six(), six());
  }).flat();
  const ggufFolder = (type: number, data: readonly number[]) =>
    memoryFolder(new Map([['m.gguf', gguf([{ name: 'm.weight', type, dims: [k, n], data }])]]));

  const SOURCES: readonly [string, SourceFolder, string, string?][] = [
    [
      'GPTQ',
      folderOf(
        gptqParts(f16, (z) => z),
        config({ ...GPTQ, checkpoint_format: 'gptq_v2', sym: false }),
      ),
      'zero, f16',
    ],
    ['AWQ', folderOf(awqParts(f16), AWQ), 'zero, f16'],
    ['compressed-tensors in f16', folderOf(compressedParts(f16, 'packed', 'F16'), COMPRESSED), 'zero, f16'],
    ['compressed-tensors in bf16', folderOf(compressedParts(bf16, 'packed', 'BF16'), COMPRESSED), 'zero, bf16'],
    ['MLX in f16', folderOf(mlxParts(powers(f16), 'F16'), mlxConfig(groupSize)), 'offset, f16'],
    ['MLX in bf16', folderOf(mlxParts(powers(bf16), 'BF16'), mlxConfig(groupSize)), 'offset, bf16'],
    [
      'torchao',
      folderOf(torchaoParts(powers(bf16), true), {}, torchaoMetadata('Int4Tensor', groupSize)),
      'offset, bf16, codes from 8',
    ],
    [
      'torchao in f16',
      folderOf(torchaoParts(powers(f16), true, 'F16'), {}, torchaoMetadata('Int4Tensor', groupSize)),
      'offset, f16, codes from 8',
    ],
    ['Q4_0', ggufFolder(2, q40(eights(drawn(1024)))), 'zero, f16', 'm.gguf'],
    ['Q4_1', ggufFolder(3, q41(powers(f16))), 'offset, f16', 'm.gguf'],
    ['Q4_K', ggufFolder(12, q4k), 'nested-offset', 'm.gguf'],
  ];

  test.each(SOURCES)('%s', async (_, folder, form, entry) => {
    const { change, weight, values } = await convert(folder, {}, entry);
    expect(change).toEqual({ isLossless: true, relativeRms: 0, largest: 0 });
    expect(describeForm(weight.form)).toBe(form);
    expect(new Set(values).size).toBeGreaterThan(500);
    expect(bitsOf(dequantize(weight))).toEqual(bitsOf(values));
  });

  test('in f16 would have moved with a scale and a zero point in bf16', async () => {
    for (const [name, folder, form, entry] of SOURCES) {
      const { change } = await convert(folder, { rounded: true }, entry);
      expect(change?.isLossless, name).toBe(form.includes('bf16'));
    }
  });

  test('f32 is narrowed to f16, and what that moved is said', async () => {
    const wide = { ...f16, scale: f16.scale.map((s) => Math.fround(s * 1.0003)) };
    const source = folderOf(compressedParts(wide, 'packed', 'F32'), COMPRESSED);
    const { change, weight, values } = await convert(source, {});
    const packed = dequantize(weight);
    const changes = values.map((value, i) => packed[i]! - value);
    const sum = (list: Float32Array) => list.reduce((total, value) => total + value ** 2, 0);
    expect(change?.isLossless).toBe(false);
    expect(change?.relativeRms).toBeCloseTo(Math.sqrt(sum(changes) / sum(values)), 6);
    expect(change?.largest).toBeCloseTo(
      changes.reduce((a, b) => Math.max(a, Math.abs(b)), 0),
      6,
    );
  });

  test.each([
    [
      'a scale that f16 cannot hold',
      'SCALE_NOT_FINITE',
      compressedParts({ ...f16, scale: f16.scale.map(() => 1e5) }, 'none', 'F32'),
      COMPRESSED,
    ],
    [
      'an offset that f16 cannot hold',
      'OFFSET_NOT_FINITE',
      mlxParts({ ...eights(drawn(1)), scale: bf16.scale.map(() => 2 ** 14) }, 'F32'),
      mlxConfig(groupSize),
    ],
  ] as const)('%s is refused: %s', async (_, code, parts, json) => {
    const error = await refusal(() => convert(folderOf(parts, json), {}));
    expect([error.code, error.message.includes('m.weight')]).toEqual([code, true]);
    expect(error.fix).toContain('--rounded');
    expect((await convert(folderOf(parts, json), { rounded: true })).change).toBeDefined();
  });
});

describe('narrowing', () => {
  async function narrow(values: Float32Array, isF16: boolean) {
    const memory = await KernelMemory.create();
    const count = values.length;
    const [scale, second] = [memory.take(4 * count), memory.take(4 * count)];
    const [scaleOut, secondOut] = [memory.take(2 * count), memory.take(2 * count)];
    scale.f32(count).set(values);
    second.f32(count).fill(0);
    const { narrowGroups, narrowed } = memory.kernels;
    memory.region(narrowed.value, 24).f64(3).fill(0);
    narrowGroups(scale.address, second.address, false, 15, isF16, count, scaleOut.address, secondOut.address);
    const [reach, changed, infinite] = memory.region(narrowed.value, 24).f64(3);
    return { bits: scaleOut.u16(count).slice(), reach, changed, infinite };
  }

  test('gives every f16 back', async () => {
    const all = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const finite = all.filter((bits) => (bits & 0x7c00) !== 0x7c00);
    const { bits, reach, changed, infinite } = await narrow(f32FromF16Array(finite), true);
    expect(bits).toEqual(finite);
    expect({ reach, changed, infinite }).toEqual({ reach: 65504 * 15, changed: 0, infinite: 0 });
  });

  test('rounds to the nearest f16, ties to even', async () => {
    const random = Random.named('nearest f16');
    const values = Float32Array.from({ length: 20_001 }, (_, i) =>
      i % 3 === 0 ? (random.below(4096) + 0.5) * 2 ** -25 : random.normal() * 2 ** (random.below(40) - 28),
    );
    const { bits, infinite } = await narrow(values, true);
    const isNearest = (value: number, magnitude: number) => {
      const size = Math.abs(value);
      if (size >= 65520) return magnitude === 0x7c00;
      const [here, above] = [magnitude, magnitude + 1].map((at) => (at === 0x7c00 ? 65536 : numberFromF16(at)));
      const below = magnitude === 0 ? Number.NEGATIVE_INFINITY : numberFromF16(magnitude - 1);
      const [down, distance, up] = [size - below, Math.abs(here! - size), above! - size];
      return distance <= down && distance <= up && (distance < Math.min(down, up) || magnitude % 2 === 0);
    };
    expect(values.filter((value, i) => !isNearest(value, bits[i]! & 0x7fff))).toHaveLength(0);
    expect(
      values.filter((value, i) => bits[i]! >> 15 !== (Object.is(Math.sign(value), -0) || value < 0 ? 1 : 0)),
    ).toHaveLength(0);
    expect(infinite).toBe(values.filter((value) => Math.abs(value) >= 65520).length);
  });

  test('counts what is not finite, and what changed, of any number of groups', async () => {
    for (const count of [1, 2, 3, 4, 5, 7]) {
      const values = new Float32Array(count).fill(Number.NaN);
      expect(await narrow(values, true)).toMatchObject({ infinite: count });
      expect(await narrow(values, false)).toMatchObject({ infinite: count });
      expect(await narrow(new Float32Array(count).fill(1 + 2 ** -20), true)).toMatchObject({
        changed: count,
        infinite: 0,
      });
      expect(await narrow(new Float32Array(count).fill(2 ** -130), false)).toMatchObject({ changed: count, reach: 0 });
    }
  });
});

// Half a million mutated headers, and fewer mutated checkpoints of every format through the whole conversion: a typed error or a
// result, nothing read beyond the file, no hang. SAMEBITS_FUZZ_RUNS sets the number of headers for a longer run.

import { describe, expect, test } from 'vitest';
import { openGguf } from '../../core/checkpoint/gguf_file.js';
import {
  discardingSink,
  memorySource,
  openModelCheckpoint,
  openSafetensors,
  planConversion,
  Random,
  type RandomAccessSource,
  runConversion,
  SamebitsError,
} from '../../core/index.js';
import { ByteWriter, type GgufTensor, gguf } from './gguf_bytes.js';
import {
  awqParts,
  compressedParts,
  gptqParts,
  intxParts,
  mlxParts,
  type Part,
  safetensors,
  torchaoMetadata,
  torchaoParts,
} from './import_bytes.js';

const HEADER_RUNS = Number(process.env['SAMEBITS_FUZZ_RUNS'] ?? 500_000);
/** Whole conversions cost more. */
const CONVERSION_RUNS = Math.ceil(HEADER_RUNS / 15);
const TIMEOUT_MS = 3_600_000 + HEADER_RUNS;

const INTERESTING = [0, 1, 0x7f, 0x80, 0xff, 0x22, 0x7b, 0x7d, 0x5b, 0x2c, 0x39, 0x5c];

/** One to four small accidents before `end`: flipped bits, bytes of interest, copied, removed or added bytes, an early end. */
function mutate(random: Random, bytes: Uint8Array, end: number): Uint8Array {
  const out = new Uint8Array(bytes.length + 4);
  out.set(bytes);
  let length = bytes.length;
  for (let i = random.below(4); i >= 0 && length > 0; i--) {
    const at = random.below(Math.min(end, length));
    const kind = random.below(6);
    if (kind === 0) {
      out[at]! ^= 1 << random.below(8);
    } else if (kind === 1) {
      out[at] = INTERESTING[random.below(INTERESTING.length)]!;
    } else if (kind === 2) {
      out.copyWithin(at, random.below(end), random.below(end) + 1);
    } else if (kind === 3) {
      const count = Math.min(1 + random.below(8), length - at);
      out.copyWithin(at, at + count, length);
      length -= count;
    } else if (kind === 4) {
      out.copyWithin(at + 1, at, length);
      out[at] = random.below(256);
      length++;
    } else if (random.below(8) === 0) {
      length = at;
    }
  }
  return out.slice(0, length);
}

const Q40: GgufTensor = { name: 'a.weight', type: 2, dims: [64, 2], data: new Uint8Array(72) };
const NORM: GgufTensor = { name: 'norm', type: 0, dims: [3], data: new Uint8Array(12) };
const value = (key: string, type: number) => new ByteWriter().string(key).u32(type);
const VALUES = [value('general.alignment', 4).u32(32), value('t', 9).u32(8).u64(2n).string('a').string('b')];
const GGUF = gguf([Q40, NORM], { values: VALUES });

/** Whether it opens; throws what is no SamebitsError. */
async function isRefused(
  attempt: () => Promise<unknown>,
  mutant: Uint8Array,
  run: number,
): Promise<string | undefined> {
  try {
    await attempt();
    return undefined;
  } catch (error) {
    if (error instanceof SamebitsError) return error.code;
    throw new Error(`run ${run}: ${Buffer.from(mutant).toString('hex')}`, { cause: error });
  }
}

/** Adds up what is read. */
function counted(bytes: Uint8Array): RandomAccessSource & { readBytes: number } {
  const inner = memorySource(bytes, 'mutant');
  return {
    ...inner,
    readBytes: 0,
    read(offset, length, into) {
      this.readBytes += length;
      return inner.read(offset, length, into);
    },
  };
}

describe(`${HEADER_RUNS} mutated headers`, () => {
  const plain: Part[] = [
    { name: 'a.weight', dtype: 'BF16', shape: [2, 32], values: new Array(64).fill(1) },
    { name: 'é"\\u006d', dtype: 'I64', shape: [1], values: [7] },
  ];
  const SEEDS = {
    safetensors: { bytes: safetensors(plain, { format: 'pt' }), dataBytes: 136, open: openSafetensors },
    GGUF: { bytes: GGUF, dataBytes: 96, open: openGguf },
  };

  test.each(Object.entries(SEEDS))(
    '%s: tensors that lie in the file, or a typed error',
    async (name, { bytes, dataBytes, open }) => {
      const random = Random.named(`headers ${name}`);
      const outcomes = new Map<string | undefined, number>();
      const before = process.memoryUsage().arrayBuffers;
      for (let run = 0; run < HEADER_RUNS / 2; run++) {
        const mutant = mutate(random, bytes, bytes.length - dataBytes);
        const source = counted(mutant);
        const code = await isRefused(
          async () => {
            for (const { offset, sizeBytes } of (await open(source)).tensors.values()) {
              if (offset < 0 || offset + sizeBytes > mutant.length) throw new Error('a tensor beyond the file');
            }
          },
          mutant,
          run,
        );
        if (source.readBytes > 2 * mutant.length) throw new Error(`run ${run}: read ${source.readBytes} bytes`);
        outcomes.set(code, (outcomes.get(code) ?? 0) + 1);
      }
      // Every mutant is some hundred bytes; what is alive at the end must not have grown with their number.
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(256 * 2 ** 20);
      expect(outcomes.get(undefined)).toBeGreaterThan(0);
      expect(outcomes.size).toBeGreaterThan(5);
    },
    TIMEOUT_MS,
  );
});

interface Seed {
  readonly bytes: Uint8Array;
  readonly fileName?: string;
  readonly config?: object;
}

describe(`${CONVERSION_RUNS} mutated checkpoints`, () => {
  const weight = {
    n: 8,
    k: 32,
    groupSize: 32,
    q: new Uint8Array(256).fill(5),
    scale: new Float64Array(8).fill(1),
    zero: new Float64Array(8).fill(8),
  };
  const quantized = (settings: object) => ({ quantization_config: settings });
  const int4 = { target_dtype: { _type: 'torch.dtype', _data: 'int4' } };
  const SEEDS: Readonly<Record<string, Seed>> = {
    GGUF: { fileName: 'm.gguf', bytes: GGUF },
    torchao: { bytes: safetensors(torchaoParts(weight, false), torchaoMetadata('Int4Tensor', 32)) },
    'torchao, unpacked': {
      bytes: safetensors(intxParts(weight), torchaoMetadata('IntxUnpackedToInt8Tensor', 32, int4)),
    },
    GPTQ: {
      bytes: safetensors(gptqParts(weight, (z) => z)),
      config: quantized({ quant_method: 'gptq', bits: 4, checkpoint_format: 'gptq_v2' }),
    },
    AWQ: {
      bytes: safetensors(awqParts(weight)),
      config: quantized({ quant_method: 'awq', version: 'gemm', bits: 4 }),
    },
    'compressed-tensors': {
      bytes: safetensors(compressedParts(weight, 'packed')),
      config: quantized({ quant_method: 'compressed-tensors', format: 'pack-quantized' }),
    },
    MLX: { bytes: safetensors(mlxParts(weight)), config: { quantization: { group_size: 32, bits: 4 } } },
  };
  const runs = Math.ceil(CONVERSION_RUNS / Object.keys(SEEDS).length);

  test.each(Object.entries(SEEDS))(
    '%s: a typed error or a conversion, and never more memory than the file needs',
    async (name, { bytes, fileName = 'm.safetensors', config }) => {
      const random = Random.named(`fuzz ${name}`);
      const beside = config && new TextEncoder().encode(JSON.stringify(config));
      const headerEnd = fileName.endsWith('.gguf') ? bytes.length - 96 : 8 + bytes[0]! + 256 * bytes[1]! + 16;
      const outcomes = new Map<string | undefined, number>();
      const before = process.memoryUsage().arrayBuffers;
      for (let run = 0; run < runs; run++) {
        const mutant = mutate(random, bytes, headerEnd);
        // Now and then the config is what is damaged.
        const isConfigRun = beside !== undefined && run % 4 === 0;
        const files = new Map([[fileName, isConfigRun ? bytes : mutant]]);
        if (beside) files.set('config.json', isConfigRun ? mutate(random, beside, beside.length) : beside);
        const code = await isRefused(
          async () => {
            const folder = {
              name: 'folder',
              open: async (file: string) => files.get(file) && counted(files.get(file)!),
            };
            const plan = await planConversion(await openModelCheckpoint(folder, fileName));
            if (plan.sourceBytes > files.get(fileName)!.length) throw new Error('more planned than there is');
            await runConversion(plan, discardingSink);
          },
          files.get('config.json') ?? mutant,
          run,
        );
        outcomes.set(code, (outcomes.get(code) ?? 0) + 1);
      }
      expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(256 * 2 ** 20);
      expect(outcomes.get(undefined)).toBeGreaterThan(0);
      expect(outcomes.size).toBeGreaterThan(5);
    },
    TIMEOUT_MS,
  );
});

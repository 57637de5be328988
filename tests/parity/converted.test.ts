// A weight of every format that is read, converted: the same bits on every backend that is here, and a file that verifies.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, afterEach, beforeAll, describe, expect, type TestContext, test, vi } from 'vitest';
import {
  type Backend,
  bf16FromF32Array,
  CoalescedInt4Tensor,
  CpuBackend,
  dequantize,
  dequantizeAndMultiply,
  drawActivations,
  int4PlainMM,
  MemorySink,
  memorySource,
  numberFromBf16,
  openModelCheckpoint,
  openSamebitsFile,
  planConversion,
  runConversion,
  SamebitsError,
} from '../../core/index.js';
import { registerVerify } from '../../node/commands/verify.js';
import { CudaBackend } from '../../node/cuda_backend.js';
import { openAvailable } from '../../node/open_available.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { ranOn, skipWithout } from '../backend_report.js';
import { type ImportSource, importSources } from '../unit/import_sources.js';
import { expectBits, useDawn } from './webgpu_device.js';

// Every run of verify opens its backends anew, which takes seconds where a GPU is emulated; here they are lent to it.
vi.mock('../../node/open_available.js');

// Not square, of several runs, and of a group size that every format has.
const [N, K, GROUP_SIZE] = [24, 512, 32];
const SOURCES = Object.entries(importSources(N, K, GROUP_SIZE));
/** Each with its own numbers, and with a scale and a zero point in bf16. */
const CONVERSIONS = SOURCES.flatMap(([format, source]): [string, ImportSource, boolean][] => [
  [format, source, false],
  [`${format}, rounded`, source, true],
]);

async function convert([folder, , , options, entry]: ImportSource, rounded: boolean): Promise<Uint8Array> {
  const sink = new MemorySink();
  const plan = await planConversion(await openModelCheckpoint(folder, entry), { ...options, rounded });
  await runConversion(plan, sink);
  return sink.bytes;
}

/** The weight as its format means it, in the default form, packed without a file in between. */
function packed([, w]: ImportSource): CoalescedInt4Tensor {
  const nGroups = w.k / w.groupSize;
  const bf16 = (values: Float64Array) => bf16FromF32Array(Float32Array.from(values));
  const qdata = Uint8Array.from({ length: w.q.length / 2 }, (_, i) => w.q[2 * i]! | (w.q[2 * i + 1]! << 4));
  return new CoalescedInt4Tensor({
    layout: 'coalesced-int4',
    qdata: { dtype: 'u8', shape: [w.n, w.k / 2], data: qdata },
    scale: { dtype: 'bf16', shape: [w.n, nGroups], data: bf16(w.scale) },
    zeroPoint: { dtype: 'bf16', shape: [w.n, nGroups], data: bf16(w.zero) },
    groupSize: w.groupSize,
  });
}

/** Its weights in f32. */
function valuesOf([, w]: ImportSource): Float32Array {
  const groupOf = (i: number) => Math.floor(i / w.groupSize);
  return Float32Array.from(w.q, (q, i) => (q - w.zero[groupOf(i)]!) * w.scale[groupOf(i)]!);
}

const dawn = useDawn();
const opened: Backend[] = [];
let cuda: CudaBackend | string;

beforeAll(async () => {
  try {
    cuda = await CudaBackend.open();
    opened.push(cuda);
  } catch (error) {
    if (!(error instanceof SamebitsError) || error.code !== 'BACKEND_UNAVAILABLE') throw error;
    cuda = error.got;
  }
});

afterAll(async () => {
  for (const backend of opened) await backend.dispose();
});

let webgpu: WebGPUBackend | undefined;
const BACKENDS: Readonly<Record<string, (context: TestContext) => Promise<Backend>>> = {
  cpu: async () => new CpuBackend(),
  webgpu: async (context) => {
    const { device } = dawn(context);
    if (webgpu === undefined) {
      webgpu = await WebGPUBackend.create(device);
      opened.push(webgpu);
    }
    return webgpu;
  },
  cuda: async (context) => {
    if (typeof cuda === 'string') skipWithout(context, 'cuda', cuda);
    ranOn(context, 'cuda', cuda.device.name);
    return cuda;
  },
};

describe.for(Object.entries(BACKENDS))('on %s, a converted weight has the bits of the reference', ([, open]) => {
  test.for(CONVERSIONS)('%s', async ([format, source, rounded], context) => {
    const backend = await open(context);
    const tensor = await (await openSamebitsFile(memorySource(await convert(source, rounded)))).readWeight('m.weight');
    if (!rounded) expect(dequantize(tensor)).toEqual(valuesOf(source));
    const weight = await backend.upload(tensor);
    for (const m of [1, 3]) {
      const x = drawActivations({ name: `converted ${format} ${m}`, m, k: K, activations: 'outlier' });
      const y = await backend.linear(x, weight);
      expectBits(int4PlainMM(x, rounded ? packed(source) : tensor, 'f32'), y, N);
      // Held against the plain product too, so that a shuffled weight could not pass by being shuffled twice.
      const plain = dequantizeAndMultiply(Float32Array.from(x, numberFromBf16), packed(source));
      const error = Math.hypot(...y.map((value, i) => value - plain[i]!)) / Math.hypot(...plain);
      expect(error).toBeLessThan(0.05);
    }
    weight.dispose();
  });
});

describe('samebits verify FILE', () => {
  const folder = mkdtempSync(join(tmpdir(), 'samebits-converted-'));
  afterAll(() => rmSync(folder, { recursive: true }));
  afterEach(() => {
    vi.restoreAllMocks();
    process.exitCode = undefined;
  });

  test.for(CONVERSIONS)('%s', async ([, source, rounded], context) => {
    const backends = [await BACKENDS['webgpu']!(context), ...(typeof cuda === 'string' ? [] : [cuda])];
    for (const backend of backends) vi.spyOn(backend, 'dispose').mockResolvedValue();
    vi.mocked(openAvailable).mockResolvedValue({ backends, unavailable: [] });
    const file = join(folder, 'model.safetensors');
    writeFileSync(file, await convert(source, rounded));
    let stdout = '';
    vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
      stdout += String(text);
      return true;
    });
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    const program = new Command().exitOverride();
    registerVerify(program);
    await program.parseAsync(['verify', file, '--rows', '1,2', '--json'], { from: 'user' });
    expect(process.exitCode).toBeUndefined();
    const { results } = JSON.parse(stdout);
    const equal = backends.map(({ name }) => ({ backend: name, difference: null }));
    expect(results).toMatchObject([
      { name: 'm.weight m1', outcomes: equal },
      { name: 'm.weight m2', outcomes: equal },
    ]);
  });
});

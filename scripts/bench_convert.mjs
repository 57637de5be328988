// How fast conversion is, against copying the same bytes in the same run: node scripts/bench_convert.mjs [FORMAT]
// First on one core, in processor time, from memory to nowhere, so that only the work counts; then with threads, from file to
// file, in wall time. Needs dist/ (npm run build).

import { closeSync, copyFileSync, fsyncSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, tmpdir } from 'node:os';
import { join } from 'node:path';

const built = new URL('../dist/core/index.js', import.meta.url).href;
const { convertFile } = await import(new URL('../dist/node/index.js', import.meta.url).href);
const { discardingSink, memoryFolder, openModelCheckpoint, planConversion, runConversion } = await import(built);

const N = 8192;
const K = 8192;
const ROUNDS = 8;
const WEIGHTS = 8;

/** A cheap generator that fills every byte. @param {number} sizeBytes */
function noise(sizeBytes) {
  const words = new Uint32Array(Math.ceil(sizeBytes / 4));
  for (let i = 0, state = 0x9e3779b9; i < words.length; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    words[i] = state;
  }
  return new Uint8Array(words.buffer, 0, sizeBytes);
}

/** 16-bit floats between 2^-8 and 2^-7: f16 and bf16 bits with random significands. @param {number} count @param {'F16' | 'BF16'} dtype */
function scales(count, dtype) {
  const [base, bits] = dtype === 'F16' ? [0x1c00, 10] : [0x3b80, 7];
  const random = new Uint16Array(noise(2 * count).buffer, 0, count);
  return new Uint8Array(random.map((value) => base | (value & ((1 << bits) - 1))).buffer);
}

/** Processor time, so that other processes do not count; a second thread that collects garbage does. */
function cpuMs() {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** @typedef {{name: string, dtype: string, shape: number[], bytes: Uint8Array}} Part */

/** @param {readonly Part[]} parts @param {Record<string, string>} [metadata] */
function safetensors(parts, metadata) {
  /** @type {Record<string, object>} */
  const header = metadata ? { __metadata__: metadata } : {};
  let begin = 0;
  for (const { name, dtype, shape, bytes } of parts) {
    header[name] = { dtype, shape, data_offsets: [begin, begin + bytes.length] };
    begin += bytes.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...parts.map(({ bytes }) => bytes)]);
}

/** @param {number} type @param {number} blockElements @param {number} blockBytes @param {number} scaleCount */
function gguf(type, blockElements, blockBytes, scaleCount) {
  const data = noise(((N * K) / blockElements) * blockBytes).slice();
  const halves = new Uint16Array(data.buffer);
  // The first halves of a block are its f16 scales.
  for (let at = 0; at < halves.length; at += blockBytes / 2) {
    for (let i = 0; i < scaleCount; i++) halves[at + i] = 0x1c00 | ((halves[at + i] ?? 0) & 0x3ff);
  }
  const head = Buffer.alloc(96);
  head.write('GGUF');
  head.writeUInt32LE(3, 4);
  head.writeBigUInt64LE(1n, 8);
  head.writeBigUInt64LE(8n, 24);
  head.write('m.weight', 32);
  head.writeUInt32LE(2, 40);
  head.writeBigUInt64LE(BigInt(K), 44);
  head.writeBigUInt64LE(BigInt(N), 52);
  head.writeUInt32LE(type, 60);
  return Buffer.concat([head, data]);
}

const half = (N * K) / 2;
const G = K / 32;
const G128 = K / 128;
const int4 = {
  tensor_names: '["m.weight"]',
  'm.weight': JSON.stringify({
    _type: 'Int4Tensor',
    _data: { block_size: [1, 32] },
    _tensor_data_names: ['qdata', 'scale', 'zero_point'],
  }),
};
/** @param {string} dtype @param {number} zeroBits */
const torchao = (dtype, zeroBits) => ({
  'model.safetensors': safetensors(
    [
      { name: 'm._weight_qdata', dtype, shape: [N, K / 2], bytes: noise(half) },
      { name: 'm._weight_scale', dtype: 'BF16', shape: [G, N], bytes: scales(G * N, 'BF16') },
      {
        name: 'm._weight_zero_point',
        dtype: 'BF16',
        shape: [G, N],
        bytes: new Uint8Array(new Uint16Array(G * N).fill(zeroBits).buffer),
      },
    ],
    int4,
  ),
});
/** @param {object} config */
const json = (config) => Buffer.from(JSON.stringify({ quantization_config: config }));
/** @param {number[]} shape */
const alongN = (shape) => ({
  'model.safetensors': safetensors([
    { name: 'm.qweight', dtype: 'I32', shape, bytes: noise(half) },
    { name: 'm.qzeros', dtype: 'I32', shape: [G128, N / 8], bytes: noise((G128 * N) / 2) },
    { name: 'm.scales', dtype: 'F16', shape: [G128, N], bytes: scales(G128 * N, 'F16') },
  ]),
});

/** @type {Record<string, () => Record<string, Uint8Array>>} */
const SOURCES = {
  'torchao Int4Tensor, unsigned': () => torchao('U8', 0x4100),
  'torchao Int4Tensor, signed': () => torchao('I8', 0),
  'GPTQ v2, group 128': () => ({
    ...alongN([K / 8, N]),
    'config.json': json({ quant_method: 'gptq', bits: 4, checkpoint_format: 'gptq_v2' }),
  }),
  'AWQ GEMM, group 128': () => ({
    ...alongN([K, N / 8]),
    'config.json': json({ quant_method: 'awq', version: 'gemm' }),
  }),
  'compressed-tensors, group 128': () => ({
    'model.safetensors': safetensors([
      {
        name: 'm.weight_shape',
        dtype: 'I64',
        shape: [2],
        bytes: new Uint8Array(BigInt64Array.of(BigInt(N), BigInt(K)).buffer),
      },
      { name: 'm.weight_packed', dtype: 'I32', shape: [N, K / 8], bytes: noise(half) },
      { name: 'm.weight_scale', dtype: 'BF16', shape: [N, G128], bytes: scales(G128 * N, 'BF16') },
    ]),
    'config.json': json({ quant_method: 'compressed-tensors', format: 'pack-quantized' }),
  }),
  'MLX, group 64': () => ({
    'model.safetensors': safetensors([
      { name: 'm.weight', dtype: 'U32', shape: [N, K / 8], bytes: noise(half) },
      { name: 'm.scales', dtype: 'F16', shape: [N, K / 64], bytes: scales((N * K) / 64, 'F16') },
      { name: 'm.biases', dtype: 'F16', shape: [N, K / 64], bytes: scales((N * K) / 64, 'F16') },
    ]),
    'config.json': Buffer.from('{"quantization":{"bits":4,"group_size":64}}'),
  }),
  'GGUF Q4_0': () => ({ 'm.gguf': gguf(2, 32, 18, 1) }),
  'GGUF Q4_1': () => ({ 'm.gguf': gguf(3, 32, 20, 2) }),
  'GGUF Q4_K': () => ({ 'm.gguf': gguf(12, 256, 144, 2) }),
  'bf16, quantized': () => ({
    'model.safetensors': safetensors([
      { name: 'm.weight', dtype: 'BF16', shape: [N / 4, K], bytes: scales((N * K) / 4, 'BF16') },
    ]),
  }),
};

console.log(`${cpus()[0]?.model}, Node ${process.versions.node}; best of ${ROUNDS} rounds, one core, processor time`);
console.log('format                          source MB   convert GB/s   copy GB/s   share of copy');
const copied = new Uint8Array(2 ** 21);
const wanted = process.argv[2] ?? '';
for (const [name, make] of Object.entries(SOURCES)) {
  if (!name.includes(wanted)) continue;
  const files = new Map(Object.entries(make()));
  const entry = files.has('m.gguf') ? 'm.gguf' : undefined;
  const model = await openModelCheckpoint(memoryFolder(files), entry);
  const once = await planConversion(model);
  // The same weight several times over: a model's weights share the memory that the first one brought in.
  const plan = { ...once, tensors: Array.from({ length: WEIGHTS }, () => once.tensors).flat() };
  let [convertMs, copyMs] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
  for (let round = 0; round < ROUNDS; round++) {
    const start = cpuMs();
    await runConversion(plan, discardingSink);
    const middle = cpuMs();
    for (const tensor of model.tensors.values()) {
      for (let at = 0; at < tensor.sizeBytes; at += copied.length) {
        await tensor.file.read(tensor.name, at, Math.min(copied.length, tensor.sizeBytes - at), copied);
      }
    }
    convertMs = Math.min(convertMs, (middle - start) / WEIGHTS);
    copyMs = Math.min(copyMs, cpuMs() - middle);
  }
  const rate = (/** @type {number} */ ms) => plan.sourceBytes / 1e6 / ms;
  console.log(
    name.padEnd(32) +
      (plan.sourceBytes / 1e6).toFixed(1).padStart(9) +
      rate(convertMs).toFixed(2).padStart(15) +
      rate(copyMs).toFixed(2).padStart(12) +
      `${((100 * copyMs) / convertMs).toFixed(0)} %`.padStart(16),
  );
}

/** Eight GPTQ weights of a model in one file. */
function modelFile() {
  const parts = Array.from({ length: 8 }, (_, i) => [
    { name: `m${i}.qweight`, dtype: 'I32', shape: [K / 8, N], bytes: noise(half) },
    { name: `m${i}.qzeros`, dtype: 'I32', shape: [G128, N / 8], bytes: noise((G128 * N) / 2) },
    { name: `m${i}.scales`, dtype: 'F16', shape: [G128, N], bytes: scales(G128 * N, 'F16') },
  ]);
  return safetensors(parts.flat());
}

/** Seconds that `work` takes, the best of three. @param {() => unknown} work */
async function seconds(work) {
  let best = Number.POSITIVE_INFINITY;
  for (let round = 0; round < 3; round++) {
    const start = performance.now();
    await work();
    best = Math.min(best, (performance.now() - start) / 1000);
  }
  return best;
}

async function benchFiles() {
  const folder = mkdtempSync(join(tmpdir(), 'samebits-bench-'));
  try {
    const bytes = modelFile();
    const [source, out] = [join(folder, 'model.safetensors'), join(folder, 'out')];
    writeFileSync(source, bytes);
    writeFileSync(
      join(folder, 'config.json'),
      json({ quant_method: 'gptq', bits: 4, checkpoint_format: 'gptq_v2', group_size: 128 }),
    );
    const gbps = (/** @type {number} */ elapsed) => `${(bytes.length / 1e9 / elapsed).toFixed(2)} GB/s`;
    console.log(`\n${(bytes.length / 1e6).toFixed(0)} MB of GPTQ from file to file, synced, wall time, best of 3:`);
    for (const threads of new Set([1, Math.min(8, availableParallelism())])) {
      const elapsed = await seconds(() => convertFile(source, out, { threads, overwrite: true }));
      console.log(`${threads} thread${threads === 1 ? '' : 's'}: ${gbps(elapsed)}`);
    }
    const copying = await seconds(() => {
      copyFileSync(source, out);
      const file = openSync(out, 'r+');
      fsyncSync(file);
      closeSync(file);
    });
    console.log(`copying: ${gbps(copying)}`);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

if (wanted === '') await benchFiles();

// Each operation of the decoder alone on a device: inputs that are hard on it, and where it is not the reference.

import { bf16FromF32Array, bf16FromNumber, firstDifference, numberFromBf16, Random } from '../../core/index.js';
import { attend, attendChunk } from '../../core/model/attention.js';
import { add, bf, exp, mul, rcp, rsqrt } from '../../core/model/elementary.js';
import { gelu, softCap } from '../../core/model/gelu.js';
import { normValues, rotateHeads } from '../../core/model/heads.js';
import { rmsNorm } from '../../core/model/rms_norm.js';
import { rotaryTable } from '../../core/model/rotary.js';
import { DECODER_KERNELS } from '../../shaders/decoder_kernels.js';
import elementary from '../../shaders/elementary.wgsl?raw';
import { QUANTIZE_SOURCE } from '../../shaders/kernel_sources.js';
import type { KernelSource } from '../../shaders/pipelines.js';
import { LAST_TOKEN } from '../../shaders/step_inputs.js';
import { f32, u32 } from '../../shaders/uniform_slots.js';
import type { KernelRunner } from './webgpu_kernels.js';

/** The names of the inputs that come out wrong on `of`; `sound` runs the kernels as they are. */
export type Check = (of: KernelRunner, sound: KernelRunner) => Promise<string[]>;

const ZERO = u32(0);
const EPSILON = 1e-6;
const POISON = 0x7fa5a5a5;

const poisoned = (length: number) => new Uint32Array(length).fill(POISON);
const floats = (words: Uint32Array) => new Float32Array(words.buffer, words.byteOffset, words.length);
const range = (length: number) => Array.from({ length }, (_, i) => i);

/** Two bf16 a word. */
const packed = (bits: Uint16Array) => new Uint32Array(bits.slice().buffer);

function isSame(expected: Float32Array | Uint32Array, actual: Uint32Array): boolean {
  const bits = expected instanceof Uint32Array ? expected : new Uint32Array(expected.slice().buffer);
  return bits.length === actual.length && bits.every((word, i) => word === actual[i]);
}

/** Normally distributed values of very different sizes, with zeros. */
function spread(name: string, length: number, exponents = 6): Float32Array<ArrayBuffer> {
  const random = Random.named(name);
  return Float32Array.from({ length }, () => {
    const size = 2 ** (random.below(2 * exponents + 1) - exponents);
    return random.below(16) === 0 ? 0 : random.normal() * size;
  });
}

const bf16Spread = (name: string, length: number, exponents = 1) => bf16FromF32Array(spread(name, length, exponents));

const QUANTIZE: KernelSource = {
  entryPoint: 'quantize_activations',
  code: QUANTIZE_SOURCE,
  bindings: ['read-only-storage', 'storage', 'storage', 'uniform'],
};

const termWords = (m: number, k: number, runSize: number) => 2 * m * (1 + k / runSize);

/** Codes and run terms of bf16 rows, as the kernel that only quantizes makes them. */
async function codesOf(sound: KernelRunner, x: Float32Array, m: number, runSize: number) {
  const k = x.length / m;
  const [, codes, terms] = await sound.run(QUANTIZE, {
    constants: { RUN_SIZE: runSize },
    storage: [packed(bf16FromF32Array(x)), poisoned((m * k) / 4), poisoned(termWords(m, k, runSize))],
    uniforms: [[u32(k / 32)]],
    workgroups: [Math.ceil(k / 2048), m, 1],
  });
  // Nobody reads the second word of a row.
  for (let row = 0; row < m; row++) terms![(row * terms!.length) / m + 1] = POISON;
  return { codes: codes!, terms: terms! };
}

/** Terms whose largest words are 0, and everything else poison. */
function clearedTerms(m: number, k: number, runSize: number): Uint32Array<ArrayBuffer> {
  const terms = poisoned(termWords(m, k, runSize));
  for (let row = 0; row < m; row++) terms[row * (terms.length / m)] = 0;
  return terms;
}

/** exponential, rcp and rsqrt by themselves. */
const ELEMENTARY: KernelSource = {
  entryPoint: 'elementary',
  code: `${elementary}
struct Params { zero: u32 }
@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<vec3<f32>>;
@group(0) @binding(2) var<uniform> p: Params;
@compute @workgroup_size(64)
fn elementary(@builtin(global_invocation_id) id: vec3<u32>) {
  y[id.x] = vec3(exponential(x[id.x]), rcp(abs(x[id.x])), rsqrt(abs(x[id.x])));
}`,
  bindings: ['read-only-storage', 'storage', 'uniform'],
};

async function checkElementary(of: KernelRunner): Promise<string[]> {
  const count = 16_384;
  const x = Float32Array.from({ length: count }, (_, i) => ((i - count / 2) / count) * 176 || 1);
  const edges = [-87, -86.99999, -87.00001, 80, 88, 1, 2, 0.5, 1e-30, 1e30, -1e-30, Math.LN2 / 2, -Math.LN2 / 2, 4, 3];
  x.set(edges);
  const y = floats(
    (
      await of.run(ELEMENTARY, {
        storage: [x, poisoned(4 * count)],
        uniforms: [[ZERO]],
        workgroups: [count / 64, 1, 1],
      })
    )[1]!,
  );
  const functions = { exp, rcp: (v: number) => rcp(Math.abs(v)), rsqrt: (v: number) => rsqrt(Math.abs(v)) };
  return Object.entries(functions).flatMap(([name, reference], column) => {
    const isWrong = (v: number, i: number) => v <= 88 && !Object.is(reference(v), y[4 * i + column]!);
    return x.some(isWrong) ? [name] : [];
  });
}

/** Tokens of both parts of an embedding, one of them only the device knows. */
async function checkEmbed(of: KernelRunner): Promise<string[]> {
  const n = 580;
  const rows = range(7).map((row) => bf16Spread(`row ${row}`, n, 5));
  const scale = Math.fround(Math.sqrt(n));
  const [asked, last] = [[5, LAST_TOKEN, 2, 4], 6];
  const tokens = [5, last, 2, 4];
  const wrong: string[] = [];
  for (const [first, count] of [
    [0, 4],
    [4, 3],
  ] as const) {
    const part = Uint16Array.from(rows.slice(first, first + count).flatMap((row) => [...row]));
    const [, , hidden] = await of.run(DECODER_KERNELS.embedTokens, {
      storage: [packed(part), Uint32Array.of(last), poisoned(tokens.length * n)],
      uniforms: [
        [ZERO, ZERO, ZERO, ZERO, ...asked.map(u32)],
        [u32(n / 2), f32(scale), u32(first), u32(count)],
      ],
      workgroups: [2, tokens.length, 1],
    });
    for (const [m, token] of tokens.entries()) {
      const isThere = token >= first && token < first + count;
      const expected = isThere
        ? Float32Array.from(rows[token]!, (bits) => mul(numberFromBf16(bits), scale))
        : poisoned(n);
      if (!isSame(expected, hidden!.subarray(m * n, (m + 1) * n))) wrong.push(`token ${token} of part ${first}`);
    }
  }
  return wrong;
}

async function checkNorm(of: KernelRunner, sound: KernelRunner): Promise<string[]> {
  const wrong: string[] = [];
  for (const { n, m, branch, runSize, firstRow, size } of [
    { n: 288, m: 24, branch: true, runSize: 32, firstRow: 0, size: 6 },
    { n: 5376, m: 6, branch: true, runSize: 16, firstRow: 2, size: 2 },
    { n: 5376, m: 2, branch: false, runSize: 32, firstRow: 0, size: 20 },
    { n: 32, m: 1, branch: true, runSize: 32, firstRow: 0, size: 0 },
  ]) {
    if (wrong.length > 0) break; // one is enough, and a fault need not be looked for further
    const name = `${n} ${m} ${branch} ${size}`;
    const rows = m + firstRow;
    const y = spread(`y ${name}`, rows * n, size);
    const hidden = spread(`hidden ${name}`, rows * n, size);
    const weights = [bf16Spread(`branch ${name}`, n), bf16Spread(`next ${name}`, n)] as const;
    const [branchWeight, nextWeight] = weights.map((bits) => Float32Array.from(bits, numberFromBf16));
    const scalar = branch ? 0.4375 : 1;
    const later = poisoned(2 * m);
    const [, stream, , , codes, terms, cleared] = await of.run(DECODER_KERNELS.rmsNorm, {
      constants: { HAS_BRANCH: Number(branch), RUN_SIZE: runSize },
      storage: [
        y,
        hidden,
        packed(weights[0]),
        packed(weights[1]),
        poisoned((m * n) / 4),
        poisoned(termWords(m, n, runSize)),
        later,
      ],
      uniforms: [[u32(n), f32(1 / n), f32(EPSILON), f32(scalar), u32(firstRow), u32(2), ZERO]],
      workgroups: [m, 1, 1],
    });
    const expected = hidden.slice();
    const x = new Float32Array(m * n);
    for (let row = 0; row < m; row++) {
      const of = expected.subarray((firstRow + row) * n, (firstRow + row + 1) * n);
      const normed = new Float32Array(n);
      rmsNorm(y.subarray((firstRow + row) * n, (firstRow + row + 1) * n), branchWeight!, EPSILON, normed);
      if (branch) for (let i = 0; i < n; i++) of[i] = mul(add(of[i]!, normed[i]!), scalar);
      rmsNorm(of, nextWeight!, EPSILON, x.subarray(row * n, (row + 1) * n));
    }
    const quantized = await codesOf(sound, x, m, runSize);
    if (!isSame(expected, stream!)) wrong.push(`${name}: hidden`);
    if (!isSame(quantized.codes, codes!)) wrong.push(`${name}: codes`);
    if (!isSame(quantized.terms, terms!)) wrong.push(`${name}: terms`);
    if (!range(m).every((row) => cleared![2 * row] === 0 && cleared![2 * row + 1] === POISON)) {
      wrong.push(`${name}: later terms`);
    }
  }
  return wrong;
}

async function checkHeads(of: KernelRunner): Promise<string[]> {
  const wrong: string[] = [];
  for (const { d, heads, grouped, m, position, slots } of [
    { d: 64, heads: 4, grouped: 2, m: 3, position: 62, slots: 64 },
    { d: 512, heads: 2, grouped: 1, m: 1, position: 5, slots: 32 },
    { d: 288, heads: 1, grouped: 1, m: 2, position: 130, slots: 96 },
  ]) {
    if (wrong.length > 0) break; // one is enough, and a fault need not be looked for further
    const name = `heads of ${d}`;
    const [q, k, v] = [heads, grouped, grouped].map((count, i) => spread(`${name} ${i}`, m * count * d));
    const norms = bf16Spread(name, 2 * d);
    const [qNorm, kNorm] = [norms.subarray(0, d), norms.subarray(d)].map((bits) =>
      Float32Array.from(bits, numberFromBf16),
    );
    const frequencies = Float32Array.from({ length: d / 2 }, (_, i) => (i % 5 === 4 ? 0 : 1 / (1 + i)));
    const tables = range(m).map((i) => rotaryTable(frequencies, position + i));
    const rotary = Float32Array.from(tables.flatMap(({ cos, sin }) => range(d / 2).flatMap((i) => [cos[i]!, sin[i]!])));
    const cacheWords = (grouped * slots * d) / 2;
    const [, , , , , queries, keys, values] = await of.run(DECODER_KERNELS.rotateHeads, {
      constants: { HEAD_SIZE: d, HEADS: heads, KEY_VALUE_HEADS: grouped },
      storage: [q!, k!, v!, packed(norms), rotary, poisoned(m * heads * d), poisoned(cacheWords), poisoned(cacheWords)],
      uniforms: [[u32(position)], [f32(1 / d), f32(EPSILON), u32(slots), ZERO]],
      workgroups: [heads + 2 * grouped, m, 1],
    });
    const cache = new Cache(grouped, slots, d);
    const expected = new Float32Array(m * heads * d);
    for (const [row, table] of tables.entries()) {
      rotateHeads(
        q!.subarray(row * heads * d, (row + 1) * heads * d),
        qNorm!,
        EPSILON,
        table,
        expected.subarray(row * heads * d),
      );
      const [key, value] = [new Float32Array(grouped * d), new Float32Array(grouped * d)];
      rotateHeads(k!.subarray(row * grouped * d, (row + 1) * grouped * d), kNorm!, EPSILON, table, key);
      normValues(v!.subarray(row * grouped * d, (row + 1) * grouped * d), d, EPSILON, value);
      cache.write(position + row, key, value);
    }
    if (!isSame(expected, queries!)) wrong.push(`${name}: queries`);
    if (!isSame(cache.keys, keys!)) wrong.push(`${name}: keys`);
    if (!isSame(cache.values, values!)) wrong.push(`${name}: values`);
  }
  return wrong;
}

/** Keys and values as the kernels lay them out; what nobody wrote is poison. */
class Cache {
  readonly keys: Uint32Array<ArrayBuffer>;
  readonly values: Uint32Array<ArrayBuffer>;

  constructor(
    readonly heads: number,
    readonly slots: number,
    readonly d: number,
  ) {
    this.keys = poisoned((heads * slots * d) / 2);
    this.values = poisoned((heads * slots * d) / 2);
  }

  /** bf16 values [heads * D] of one position. */
  write(position: number, key: Float32Array, value: Float32Array): void {
    const { heads, slots, d } = this;
    const [keys, values] = [new Uint16Array(this.keys.buffer), new Uint16Array(this.values.buffer)];
    const slot = position % slots;
    for (let head = 0; head < heads; head++) {
      for (let i = 0; i < d; i++) {
        const piece = (((head * slots) / 32 + Math.floor(slot / 32)) * (d / 8) + Math.floor(i / 8)) * 32 + (slot % 32);
        keys[piece * 8 + (i % 8)] = bf16FromNumber(key[head * d + i]!);
        values[(head * slots + slot) * d + i] = bf16FromNumber(value[head * d + i]!);
      }
    }
  }
}

async function checkAttention(of: KernelRunner, sound: KernelRunner): Promise<string[]> {
  const wrong: string[] = [];
  for (const { d, heads, grouped, m, position, window, slots, size } of [
    { d: 64, heads: 4, grouped: 2, m: 4, position: 253, window: 37, slots: 64, size: 1 },
    { d: 128, heads: 2, grouped: 1, m: 2, position: 555, window: null, slots: 576, size: 1 },
    { d: 32, heads: 2, grouped: 2, m: 3, position: 600, window: 300, slots: 320, size: 0.01 },
    { d: 512, heads: 1, grouped: 1, m: 1, position: 260, window: null, slots: 320, size: 0.3 },
    { d: 64, heads: 1, grouped: 1, m: 1, position: 0, window: null, slots: 32, size: 1 },
  ]) {
    if (wrong.length > 0) break; // one is enough, and a fault need not be looked for further
    const name = `attention of ${d} at ${position}`;
    const cache = new Cache(grouped, slots, d);
    const rows = Math.min(slots, position + m);
    const oldest = position + m - rows;
    const [keys, values] = [
      spread(`keys ${name}`, rows * grouped * d, 1),
      spread(`values ${name}`, rows * grouped * d, 3),
    ].map((of) => of.map(bf));
    for (let i = 0; i < rows; i++) {
      const at = [i * grouped * d, (i + 1) * grouped * d] as const;
      cache.write(oldest + i, keys!.subarray(...at), values!.subarray(...at));
    }
    const queries = spread(`queries ${name}`, m * heads * d, 2).map((v) => bf(v * size));
    const seen = window === null ? {} : { WINDOW: window };
    const chunks = window === null ? Math.floor((position + m - 1) / 256) + 1 : Math.ceil((window - 1) / 256) + 1;
    const constants = { HEAD_SIZE: d, HEADS: heads, ...seen };
    const uniforms = [[u32(position)], [u32(slots), u32(chunks), ZERO]];
    const [, , , terms, outputs] = await of.run(DECODER_KERNELS.attentionChunks, {
      constants: { ...constants, KEY_VALUE_HEADS: grouped },
      storage: [queries, cache.keys, cache.values, poisoned(2 * m * heads * chunks), poisoned(m * heads * chunks * d)],
      uniforms,
      workgroups: [chunks, heads, m],
    });
    const [, , codes, runTerms] = await of.run(DECODER_KERNELS.combineChunks, {
      constants: { ...constants, THREADS: d / 8, RUN_SIZE: 32 },
      storage: [terms!, outputs!, poisoned((m * heads * d) / 4), clearedTerms(m, heads * d, 32)],
      uniforms,
      workgroups: [heads, m, 1],
    });
    const expected = new Float32Array(m * heads * d);
    for (let row = 0; row < m; row++) {
      const t = position + row;
      for (let head = 0; head < heads; head++) {
        const start = (p: number) => ((p - oldest) * grouped + Math.floor((head * grouped) / heads)) * d;
        const query = queries.subarray((row * heads + head) * d, (row * heads + head + 1) * d);
        const first = window === null ? 0 : Math.max(0, t - window + 1);
        const caches = [
          { data: keys!, start },
          { data: values!, start },
        ] as const;
        for (let begin = first, i = 0; begin <= t; i++) {
          const end = Math.min(t + 1, (Math.floor(begin / 256) + 1) * 256);
          const chunk = attendChunk(query, ...caches, begin, end);
          const at = (row * heads + head) * chunks + i;
          if (!isSame(Float32Array.of(chunk.largest, chunk.sum), terms!.subarray(2 * at, 2 * at + 2))) {
            wrong.push(`${name}: terms of chunk ${i}`);
          }
          if (!isSame(chunk.weighted, outputs!.subarray(at * d, (at + 1) * d))) wrong.push(`${name}: chunk ${i}`);
          begin = end;
        }
        expected.set(attend(query, ...caches, first, t), (row * heads + head) * d);
      }
    }
    const quantized = await codesOf(sound, expected, m, 32);
    if (!isSame(quantized.codes, codes!)) wrong.push(`${name}: codes`);
    if (!isSame(quantized.terms, runTerms!)) wrong.push(`${name}: terms`);
  }
  return wrong;
}

/** Two chunks whose outputs cancel, but for what a fused product would leave of them. */
async function checkCombine(of: KernelRunner, sound: KernelRunner): Promise<string[]> {
  const d = 64;
  const later = spread('outputs of a later chunk', d, 0);
  const factor = exp(-0.75);
  const outputs = Float32Array.from([...later.map((v) => -mul(v, factor)), ...later]);
  const [, , codes] = await of.run(DECODER_KERNELS.combineChunks, {
    constants: { HEAD_SIZE: d, HEADS: 1, THREADS: d / 8, RUN_SIZE: 32 },
    storage: [Float32Array.of(1, 1, 0.25, 1), outputs, poisoned(d / 4), clearedTerms(1, d, 32)],
    uniforms: [[u32(300)], [u32(512), u32(2), ZERO]],
    workgroups: [1, 1, 1],
  });
  const expected = await codesOf(sound, new Float32Array(d), 1, 32);
  return isSame(expected.codes, codes!) ? [] : ['cancelling chunks'];
}

async function checkGelu(of: KernelRunner, sound: KernelRunner): Promise<string[]> {
  const wrong: string[] = [];
  for (const { n, m, runSize, size } of [
    { n: 608, m: 3, runSize: 32, size: 3 },
    { n: 1024, m: 1, runSize: 16, size: 12 },
    { n: 16_384, m: 1, runSize: 32, size: 0 },
  ]) {
    const [gate, up] = [spread(`gate ${n}`, m * n, size), spread(`up ${n}`, m * n, size)];
    if (size === 0) {
      // Blocks of values that are all far from 0, where a last bit of z is many of the result; one block beyond the clamp.
      const random = Random.named('far gates');
      for (const i of gate.keys()) {
        gate[i] = (i < 32 ? -11 : -9.2) - random.below(4096) / 65_536;
        up[i] = 1 + random.below(4096) / 4096;
      }
    } else {
      gate.set([0, -0, 1, -1, 10, -10, 100, -100, 1e6, -1e6, 1e-20, -1e-20, 5, -5, 3.5, -3.5]);
    }
    const [, , codes, terms] = await of.run(DECODER_KERNELS.gatedGelu, {
      constants: { RUN_SIZE: runSize },
      storage: [gate, up, poisoned((m * n) / 4), clearedTerms(m, n, runSize)],
      uniforms: [[u32(n), ZERO]],
      workgroups: [Math.ceil(n / 512), m, 1],
    });
    const expected = await codesOf(
      sound,
      gate.map((g, i) => mul(gelu(g), up[i]!)),
      m,
      runSize,
    );
    if (!isSame(expected.codes, codes!)) wrong.push(`gelu of ${n}: codes`);
    if (!isSame(expected.terms, terms!)) wrong.push(`gelu of ${n}: terms`);
  }
  return wrong;
}

async function checkSoftCap(of: KernelRunner): Promise<string[]> {
  const logits = spread('logits', 1500, 8);
  logits.set([0, 30, -30, 1e6, -1e6, 1200, -1200, 1e-10]);
  const [capped] = await of.run(DECODER_KERNELS.softCap, {
    storage: [logits],
    uniforms: [[u32(logits.length), f32(30), f32(2 / 30), ZERO]],
    workgroups: [2, 1, 1],
  });
  const expected = logits.map((logit) => softCap(logit, 30));
  return firstDifference(expected, floats(capped!), logits.length) === null ? [] : ['logits'];
}

async function checkArgMax(of: KernelRunner): Promise<string[]> {
  const drawn = spread('candidates', 5000);
  const inputs: Record<string, Float32Array<ArrayBuffer>> = {
    drawn,
    'one logit': Float32Array.of(-3),
    'all equal': new Float32Array(700).fill(-1),
    'the last one': Float32Array.from({ length: 2049 }, (_, i) => (i === 2048 ? -1 : -2)),
    'the lower of two lanes': Float32Array.from({ length: 600 }, (_, i) => (i === 300 || i === 299 ? 5 : 1)),
    'the lower of one lane': Float32Array.from({ length: 5000 }, (_, i) => (i === 4106 || i === 10 ? 5 : 1)),
    'a higher lane earlier': Float32Array.from({ length: 600 }, (_, i) => (i === 255 || i === 256 ? 5 : 1)),
    'zeros of both signs': Float32Array.from({ length: 300 }, (_, i) => (i === 7 ? -0 : i === 8 ? 0 : -1)),
  };
  const wrong: string[] = [];
  for (const [name, logits] of Object.entries(inputs)) {
    const [, token] = await of.run(DECODER_KERNELS.argMax, {
      storage: [logits, poisoned(1)],
      uniforms: [[u32(logits.length)]],
      workgroups: [1, 1, 1],
    });
    let best = 0;
    for (const [i, logit] of logits.entries()) if (logit > logits[best]!) best = i;
    if (token![0] !== best) wrong.push(name);
  }
  return wrong;
}

export const CHECKS = {
  elementary: checkElementary,
  embed: checkEmbed,
  norm: checkNorm,
  heads: checkHeads,
  attention: checkAttention,
  combine: checkCombine,
  gelu: checkGelu,
  softCap: checkSoftCap,
  argMax: checkArgMax,
} satisfies Record<string, Check>;

// samebits dequantize: raw f32 of any readable tensor, equal to the formula of its format; all of it or nothing.

import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { dequantize, memorySource, openSamebitsFile } from '../../core/index.js';
import { registerDequantize } from '../../node/commands/dequantize.js';
import { convertFile } from '../../node/file_convert.js';
import { dequantizeFile } from '../../node/file_dequantize.js';
import { refusal } from './checkpoint_bytes.js';
import { gguf, q41 } from './gguf_bytes.js';
import { type PlainNumbers, safetensors, torchaoMetadata, torchaoParts } from './import_bytes.js';

let folder: string;
let out: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'samebits-dequantize-'));
  out = join(folder, 'w.bin');
  vi.spyOn(process.stdout, 'write').mockReturnValue(true);
});

afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

/** Scales with more bits than bf16 holds, so that source and packed weight differ. */
const W: PlainNumbers = {
  n: 3,
  k: 64,
  groupSize: 32,
  q: Uint8Array.from({ length: 192 }, (_, i) => (i * 11) % 16),
  scale: Float64Array.from({ length: 6 }, (_, i) => 1 + (2 * i + 1) / 1024),
  zero: Float64Array.from({ length: 6 }, () => 0.5),
};
const expected = Float32Array.from(W.q, (q, i) => (q - 0.5) * W.scale[Math.floor(i / 32)]!);
const written = () => new Float32Array(new Uint8Array(readFileSync(out)).buffer);

const write = (name: string, bytes: Uint8Array) => {
  writeFileSync(join(folder, name), bytes);
  return join(folder, name);
};
const ggufBytes = gguf([
  { name: 'a.weight', type: 3, dims: [64, 3], data: q41(W) },
  { name: 'norm', type: 1, dims: [3], data: [0, 0x3c, 0, 0xc0, 1, 0] },
  { name: 'six', type: 14, dims: [256], data: new Uint8Array(210) },
]);

test('a weight of a foreign format: its own values, not those after packing', async () => {
  const report = await dequantizeFile(write('m.gguf', ggufBytes), 'a.weight', out);
  expect(written()).toEqual(expected);
  expect(report).toEqual({ format: 'gguf:Q4_1', shape: [3, 64], outputBytes: 768 });
});

test('a weight that several tensors make up', async () => {
  const exact = { ...W, scale: W.scale.map(() => 0.75) };
  const source = write('m.safetensors', safetensors(torchaoParts(exact, false), torchaoMetadata('Int4Tensor', 32)));
  await dequantizeFile(source, 'm.weight', out);
  expect(written()).toEqual(Float32Array.from(W.q, (q) => (q - 0.5) * 0.75));
});

test.each([
  ['its own numbers', false],
  ['rounded ones', true],
])('a packed weight with %s: what dequantize gives', async (_, rounded) => {
  const packed = join(folder, 'packed.safetensors');
  await convertFile(write('m.gguf', ggufBytes), packed, { rounded });
  await dequantizeFile(packed, 'a.weight', out);
  const file = await openSamebitsFile(memorySource(readFileSync(packed)));
  expect(written()).toEqual(dequantize(await file.readWeight('a.weight')));
  if (rounded) expect(written()).not.toEqual(expected);
  else expect(written()).toEqual(expected);
});

test('a plain tensor, through the command', async () => {
  const program = new Command().exitOverride();
  registerDequantize(program);
  const source = write('m.gguf', ggufBytes);
  await program.parseAsync(['dequantize', source, 'norm', '--output', out], { from: 'user' });
  expect(written()).toEqual(Float32Array.of(1, -2, 2 ** -24));
  expect(process.stdout.write).toHaveBeenCalledWith(`wrote ${out}: f32 [3] from f16, 12 bytes\n`);
});

test.each([
  ['a name that is not there', 'nothing', 'FILE_TENSOR_MISSING'],
  ['a type that is not read', 'six', 'FILE_DTYPE_UNKNOWN'],
])('%s leaves no file', async (_, name, code) => {
  const source = write('m.gguf', ggufBytes);
  expect((await refusal(() => dequantizeFile(source, name, out))).code).toBe(code);
  expect(readdirSync(folder)).toEqual(['m.gguf']);
});

test('a weight of a shape that cannot be packed is refused by its shape', async () => {
  const narrow = { ...W, n: 1, k: 6, groupSize: 6, q: W.q.subarray(0, 6), scale: Float64Array.of(1) };
  const source = write('m.safetensors', safetensors(torchaoParts(narrow, false), torchaoMetadata('Int4Tensor', 6)));
  expect((await refusal(() => dequantizeFile(source, 'm.weight', out))).code).toBe('K_UNSUPPORTED');
});

test('a damaged weight and an interruption leave no file', async () => {
  const bad = gguf([{ name: 'a.weight', type: 2, dims: [32, 1], data: new Uint8Array(18).fill(0x7c) }]);
  const source = write('m.gguf', bad);
  expect((await refusal(() => dequantizeFile(source, 'a.weight', out))).code).toBe('SCALE_NOT_FINITE');
  const reason = new Error('enough');
  const aborted = dequantizeFile(write('n.gguf', ggufBytes), 'a.weight', out, { signal: AbortSignal.abort(reason) });
  await expect(aborted).rejects.toBe(reason);
  expect(readdirSync(folder)).toEqual(['m.gguf', 'n.gguf']);
});

test('the source is never overwritten', async () => {
  const source = write('m.gguf', ggufBytes);
  const error = await refusal(() => dequantizeFile(source, 'a.weight', source, { overwrite: true }));
  expect(error.code).toBe('ARGUMENT_INVALID');
  expect(readFileSync(source)).toEqual(Buffer.from(ggufBytes));
});

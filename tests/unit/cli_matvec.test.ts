// samebits matvec as a command: the file it writes, and that nothing is written when anything is wrong.

import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { drawActivations, int4PlainMM, SamebitsError } from '../../core/index.js';
import { registerMatvec } from '../../node/commands/matvec.js';
import { EXIT, exitCodeOf } from '../../node/exit_codes.js';
import { convertFile } from '../../node/file_convert.js';
import { withSamebitsFile } from '../../node/packed_file.js';

const MODEL = join(import.meta.dirname, '../data/gemma4-kjv-6m');
const TENSOR = 'model.layers.0.mlp.up_proj.weight';
const K = 256;

let folder: string;
let packed: string;
let input: string;
let output: string;
const x = drawActivations({ name: 'matvec', m: 3, k: K, activations: 'outlier' });

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'samebits-matvec-'));
  packed = join(folder, 'model.safetensors');
  input = join(folder, 'x.bin');
  output = join(folder, 'y.bin');
  await convertFile(MODEL, packed);
  writeFileSync(input, new Uint8Array(x.buffer));
});

beforeEach(() => rmSync(output, { force: true }));
afterAll(() => rmSync(folder, { recursive: true }));

async function matvec(changes: Record<string, string> = {}, file = packed, tensor = TENSOR): Promise<void> {
  const options = { input, rows: '3', backend: 'cpu', output, ...changes };
  const program = new Command().exitOverride().configureOutput({ writeErr: () => {} });
  registerMatvec(program);
  const flags = Object.entries(options).flatMap(([name, value]) => [`--${name}`, value]);
  await program.parseAsync(['matvec', file, tensor, ...flags], { from: 'user' });
}

test.each(['f32', 'bf16'] as const)('writes the bits of the reference, %s', async (outputType) => {
  await matvec({ 'output-type': outputType });
  const weight = await withSamebitsFile(packed, (file) => file.readWeight(TENSOR));
  const expected = int4PlainMM(x, weight, outputType);
  expect(readFileSync(output)).toEqual(Buffer.from(expected.buffer));
});

describe('on any error nothing is written', () => {
  const cases: Record<string, { code: string; exit: number; run: () => Promise<void> }> = {
    'no such file': { code: 'FILE_UNREADABLE', exit: 2, run: () => matvec({}, join(folder, 'absent')) },
    'not a checkpoint': { code: 'FILE_HEADER_TOO_LARGE', exit: 2, run: () => matvec({}, input) },
    'an untagged checkpoint': {
      code: 'FILE_LAYOUT_UNTAGGED',
      exit: 2,
      run: () => matvec({}, join(MODEL, 'model.safetensors')),
    },
    'no such tensor': { code: 'FILE_TENSOR_MISSING', exit: 2, run: () => matvec({}, packed, 'model.norm.weight') },
    'no such input': { code: 'FILE_UNREADABLE', exit: 2, run: () => matvec({ input: join(folder, 'absent') }) },
    'an input of other rows': { code: 'INPUT_LENGTH_MISMATCH', exit: 2, run: () => matvec({ rows: '2' }) },
    'no such backend': { code: 'commander.invalidArgument', exit: 2, run: () => matvec({ backend: 'tpu' }) },
    'rows that are no number': { code: 'commander.invalidArgument', exit: 2, run: () => matvec({ rows: '0' }) },
    'a folder in the way of the output': { code: 'FILE_EXISTS', exit: 2, run: () => matvec({ output: folder }) },
  };
  test.each(Object.entries(cases))('%s', async (_, { code, exit, run }) => {
    const before = readdirSync(folder).sort();
    const error = await run().then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(error).toMatchObject({ code });
    if (error instanceof SamebitsError) expect(exitCodeOf(error)).toBe(exit);
    expect(existsSync(output)).toBe(false);
    expect(readdirSync(folder).sort()).toEqual(before);
  });

  test('a backend that is not there exits 3', () => {
    const details = { rule: 'r', expected: 'e', got: 'g', fix: 'f' };
    expect(exitCodeOf(new SamebitsError('BACKEND_UNAVAILABLE', details))).toBe(EXIT.unavailable);
    expect(exitCodeOf(new SamebitsError('DEVICE_LOST', details))).toBe(EXIT.unavailable);
  });
});

// A file of every format: the committed bytes are those of the builders, converted they verify, and where a GPU's run of them
// is recorded, the reference and Dawn give its bits.

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type Backend, fileInputs, type ParityResult, verifyWeight } from '../../core/index.js';
import { openDawnBackend } from '../../node/dawn_device.js';
import { convertFile } from '../../node/file_convert.js';
import { withSamebitsFile } from '../../node/packed_file.js';
import type { ParityRecord } from '../../node/record.js';
import { kernelSourcesSha256 } from '../../scripts/kernel-sources.mjs';
import { ranOn, skipWithout } from '../backend_report.js';
import { FORMATS_FOLDER, formatFixtures, formatRecordsFolder } from '../unit/format_fixtures.js';

const fixtures = await formatFixtures();
const recordsFolder = formatRecordsFolder();
const records = (recordsFolder ? readdirSync(recordsFolder) : []).map((name): [string, ParityRecord] => [
  name,
  JSON.parse(readFileSync(join(recordsFolder ?? '', name), 'utf8')),
]);

if (process.env['SAMEBITS_WRITE_FORMATS'] !== undefined) {
  for (const { name, files } of fixtures) {
    mkdirSync(join(FORMATS_FOLDER, name), { recursive: true });
    for (const [fileName, bytes] of files) writeFileSync(join(FORMATS_FOLDER, name, fileName), bytes);
  }
}

let dawn: Backend | undefined;
let unavailable = '';
/** With the numbers of their own, as they are recorded; and with a scale and a zero point in bf16. */
const results = new Map<string, ParityResult>();
const roundedResults = new Map<string, ParityResult>();

beforeAll(async () => {
  try {
    dawn = await openDawnBackend();
  } catch (error) {
    unavailable = error instanceof Error ? error.message : String(error);
  }
  const folder = mkdtempSync(join(tmpdir(), 'samebits-formats-'));
  try {
    for (const { name, path } of fixtures) {
      for (const [rounded, into] of [
        [false, results],
        [true, roundedResults],
      ] as const) {
        const packed = join(folder, `${name}.safetensors`);
        await convertFile(path, packed, { rounded, overwrite: true });
        await withSamebitsFile(packed, async (file) => {
          const weight = await file.readWeight('m.weight');
          // Named as `samebits verify` names the weights of several files.
          const inputs = fileInputs(`${name}.safetensors: m.weight`, weight.k);
          for await (const result of verifyWeight(weight, inputs, dawn ? [dawn] : [])) into.set(result.name, result);
        });
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
}, 300_000);

afterAll(() => dawn?.dispose());

test.each(fixtures)('$name is committed as the rules of its format make it', ({ name, files }) => {
  const folder = join(FORMATS_FOLDER, name);
  expect(readdirSync(folder).sort()).toEqual([...files.keys()].sort());
  for (const [fileName, bytes] of files) expect(new Uint8Array(readFileSync(join(folder, fileName)))).toEqual(bytes);
});

test('converted, all of them verify on Dawn', (context) => {
  if (!dawn) return skipWithout(context, 'webgpu', unavailable);
  ranOn(context, 'webgpu', dawn.device.name);
  expect([results.size, roundedResults.size]).toEqual([5 * fixtures.length, 5 * fixtures.length]);
  for (const { name, outcomes } of [...results.values(), ...roundedResults.values()]) {
    expect(outcomes, name).toEqual([{ backend: 'webgpu', difference: null }]);
  }
});

test('a GPU has run them', (context) => {
  if (!recordsFolder) return skipWithout(context, 'cuda', 'no run of the formats is recorded');
  expect(records).not.toHaveLength(0);
});

describe.each(records)('%s', (_, record) => {
  test('was made with the kernels of this tree', () => {
    expect(record.cudaSourcesSha256).toBe(kernelSourcesSha256('cuda'));
    expect(record.shaderSourcesSha256).toBe(kernelSourcesSha256('shaders'));
  });

  test('holds every format, equal on cuda, webgpu and cpu, with the bits of the reference here', () => {
    expect(results.size).toBe(5 * fixtures.length);
    for (const [name, { sha256 }] of results) {
      expect(record.cases[name]?.sha256, name).toBe(sha256);
      expect([...(record.cases[name]?.backends ?? [])].sort(), name).toEqual(['cpu', 'cuda', 'webgpu']);
    }
  });
});

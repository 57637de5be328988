// Files from before the tag: refused with the command that mends them, and that command mends them.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { type Layout, memorySource, numberFromBf16, openSamebitsFile } from '../../core/index.js';
import { convertFile } from '../../node/file_convert.js';
import { refusal } from './checkpoint_bytes.js';
import { type Part, safetensors } from './import_bytes.js';

const folder = mkdtempSync(join(tmpdir(), 'samebits-old-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** N = 4 or 2, K = 64, groups of 32, unsigned codes; the scales count up in the order in which they are stored. */
function oldFile(n: number, shape: readonly number[]): Uint8Array {
  const count = shape.reduce((product, d) => product * d, 1);
  const parts: Part[] = [
    { name: 'm.weight.qdata', dtype: 'U8', shape: [n, 32], values: new Array(32 * n).fill(0x12) },
    { name: 'm.weight.scale', dtype: 'BF16', shape, values: Array.from({ length: count }, (_, i) => i + 1) },
    { name: 'm.weight.zero_point', dtype: 'BF16', shape, values: new Array(count).fill(8) },
  ];
  return safetensors(parts);
}

async function scalesAfterConversion(bytes: Uint8Array, layout?: Layout): Promise<number[]> {
  const [source, out] = [join(folder, 'old.safetensors'), join(folder, 'new.safetensors')];
  writeFileSync(source, bytes);
  await convertFile(source, out, { overwrite: true, ...(layout && { layout }) });
  const file = await openSamebitsFile(memorySource(readFileSync(out)));
  return Array.from((await file.readWeight('m.weight')).groups.scale, numberFromBf16);
}

test('[n_groups, N]: refused by name, transposed by convert', async () => {
  const old = oldFile(4, [2, 4]);
  const error = await refusal(() => openSamebitsFile(memorySource(old, 'old.safetensors')));
  expect(error.code).toBe('FILE_LAYOUT_UNTAGGED');
  expect(error.message).toContain('[n_groups, N]');
  expect(error.message).toContain('samebits convert old.safetensors OUT.safetensors');
  expect(await scalesAfterConversion(old)).toEqual([1, 5, 2, 6, 3, 7, 4, 8]);
});

test('[N, n_groups] without a tag: refused, copied by convert', async () => {
  const old = oldFile(4, [4, 2]);
  expect((await refusal(() => openSamebitsFile(memorySource(old)))).code).toBe('FILE_LAYOUT_UNTAGGED');
  expect(await scalesAfterConversion(old)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
});

test('a square: refused as ambiguous by both; the answer decides', async () => {
  const old = oldFile(2, [2, 2]);
  const error = await refusal(() => openSamebitsFile(memorySource(old)));
  expect(error.code).toBe('FILE_LAYOUT_AMBIGUOUS');
  expect(error.message).toContain('--layout native');
  expect((await refusal(() => scalesAfterConversion(old))).code).toBe('FILE_LAYOUT_AMBIGUOUS');
  expect(await scalesAfterConversion(old, 'native')).toEqual([1, 3, 2, 4]);
  expect(await scalesAfterConversion(old, 'coalesced')).toEqual([1, 2, 3, 4]);
});

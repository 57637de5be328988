// "Try your own weights": files of many kinds, whole, old and hostile; packing, multiplying, taking the file home.

import { readFileSync } from 'node:fs';
import { expect, type Page, test } from '@playwright/test';
import {
  CoalescedInt4Tensor,
  describeForm,
  drawFormWeight,
  FORM_CASES,
  fileInputs,
  int4PlainMM,
  MemorySink,
  openSamebitsFile,
  outputDigest,
  quantizeInt4,
  writeSamebitsFile,
} from '../../core/index.js';
import { openFileSource } from '../../node/file_source.js';
import { entry, fileBytes, tag } from '../unit/checkpoint_bytes.js';
import { gguf, q40 } from '../unit/gguf_bytes.js';
import { type PlainNumbers, safetensors, torchaoParts } from '../unit/import_bytes.js';
import { editWorker, photograph, settled, watchForErrors } from './page_checks.js';

const MODEL = 'tests/data/gemma4-kjv-6m';
const NAME = 'model.layers.0.mlp.down_proj.weight';
const READ = /^(open|refused)$/;
const DONE = /^(done|refused|cancelled)$/;

test('packs a weight of a real model, multiplies, and hands back the file', async ({ page }) => {
  const errors = watchForErrors(page);
  await page.goto('./');
  await drop(page, [
    { name: 'model.safetensors', bytes: readFileSync(`${MODEL}/model.safetensors`) },
    { name: 'config.json', bytes: readFileSync(`${MODEL}/config.json`) },
  ]);
  expect(await settled(page, 'weights', READ)).toContain('42 weights to use');
  await page.locator('#weights-group').selectOption('64');
  await page.locator('#weights-filter').fill('layers.0.mlp.down');
  await expect(page.locator('#weights tbody tr')).toHaveCount(1);
  await page.getByRole('button', { name: `Pack and multiply: ${NAME}` }).click();
  await settled(page, 'weights', DONE);
  const card = page.locator('#weights .card');
  await expect(card).toHaveAttribute('data-state', 'equal');
  await expect(card).toContainText('agree on every bit, for M = 1 and 4');
  await photograph(page, 'packed');

  const [download] = await Promise.all([
    page.waitForEvent('download'),
    page.getByRole('link', { name: 'Download the packed file' }).click(),
  ]);
  const file = await openSamebitsFile(await openFileSource(await download.path()));
  expect([...file.weights.keys()]).toEqual([NAME]);
  const weight = await file.readWeight(NAME);
  await file.close();
  const expected = await quantizedHere(weight.n, weight.k, 64);
  expect(weight.qdata).toEqual(expected.qdata);
  expect(weight.groups.scale).toEqual(expected.groups.scale);
  expect(await card.getAttribute('data-sha256')).toBe(digests(NAME, expected));
  expect(errors).toEqual([]);
});

test('shows the refusal of an old-layout file, and repacks it', async ({ page }) => {
  await page.goto('./');
  const w = plainNumbers(8, 128);
  await drop(page, [{ name: 'old.safetensors', bytes: safetensors(torchaoParts(w, false)) }]);
  await settled(page, 'weights', READ);
  await expect(page.locator('.refusal')).toHaveAttribute('data-code', 'FILE_LAYOUT_UNTAGGED');
  await expect(page.locator('.refusal')).toContainText('[4,8], which looks like [n_groups, N]');
  await photograph(page, 'old-layout');
  await page.getByRole('button', { name: 'Pack and multiply: m.weight' }).click();
  await settled(page, 'weights', DONE);
  const card = page.locator('#weights .card');
  await expect(card).toHaveAttribute('data-state', 'equal');
  await expect(card).toContainText('none, bit for bit');

  // Its shapes cannot say what a square scale is; its owner can.
  const square = plainNumbers(4, 128);
  await drop(page, [{ name: 'square.safetensors', bytes: safetensors(torchaoParts(square, false)) }]);
  await settled(page, 'weights', /^refused$/);
  await expect(page.locator('.refusal')).toHaveAttribute('data-code', 'FILE_LAYOUT_AMBIGUOUS');
  await page.getByRole('button', { name: 'native' }).click();
  expect(await settled(page, 'weights', READ)).toContain('1 weight to use');

  const qdata = entry('w.qdata', 'U8', [8, 64], 0, 512);
  const scales = ['scale', 'zero_point'].map((part, i) =>
    entry(`w.${part}`, 'BF16', [4, 8], 512 + 64 * i, 576 + 64 * i),
  );
  const header = `{${[tag('{"w":{"n":8,"k":128,"group_size":32}}'), qdata, ...scales].join()}}`;
  await drop(page, [{ name: 'lying.safetensors', bytes: fileBytes(header, new Uint8Array(640)) }]);
  await settled(page, 'weights', READ);
  await expect(page.locator('.refusal')).toHaveAttribute('data-code', 'LAYOUT_NATIVE_SCALE');
});

test('lists and multiplies by weights of other forms', async ({ page }) => {
  await page.goto('./');
  const forms = new Map(FORM_CASES.map(({ form }) => [describeForm(form), form]));
  const weights = new Map(
    [...forms].map(([name, form]) => {
      const weight = drawFormWeight({ name, form, n: 12, k: 512, groupSize: 32, weights: 'signed' });
      return [name.replaceAll(/\W+/g, '-'), weight];
    }),
  );
  const sink = new MemorySink();
  await writeSamebitsFile(sink, { weights });
  await drop(page, [{ name: 'forms.safetensors', bytes: sink.bytes }]);
  expect(await settled(page, 'weights', READ)).toContain(`${weights.size} weights to use`);
  // Each form takes the software adapter seconds to compile.
  for (const name of ['offset-f16', 'nested-zero']) {
    const weight = weights.get(name)!;
    const row = page.locator('#weights tbody tr').filter({ has: page.locator(`th:text-is("${name}")`) });
    await expect(row).toContainText(`int4, ${describeForm(weight.form)}, g 32`);
    await page.getByRole('button', { name: `Multiply: ${name}`, exact: true }).click();
    await settled(page, 'weights', DONE);
    const card = page.locator('#weights .card').filter({ hasText: name });
    await expect(card).toHaveAttribute('data-state', 'equal');
    await expect(card).toHaveAttribute('data-sha256', digests(name, weight));
    await expect(card).toContainText(describeForm(weight.form));
  }
});

test('reads GGUF', async ({ page }) => {
  await page.goto('./');
  const w = plainNumbers(8, 128);
  const bytes = gguf([
    { name: 'blk.0.ffn_up.weight', type: 2, dims: [w.k, w.n], data: q40({ ...w, zero: w.zero.fill(8) }) },
  ]);
  await drop(page, [{ name: 'tiny.gguf', bytes }]);
  expect(await settled(page, 'weights', READ)).toContain('gguf, weights in gguf:Q4_0; 1 weight to use');
  await page.getByRole('button', { name: /^Pack and multiply: / }).click();
  await settled(page, 'weights', DONE);
  await expect(page.locator('#weights .card')).toHaveAttribute('data-state', 'equal');
});

const HOSTILE: readonly (readonly [what: string, name: string, bytes: Uint8Array, code: string])[] = [
  ['an empty file', 'empty.safetensors', new Uint8Array(0), 'FILE_TRUNCATED'],
  ['a header longer than the file', 'a.safetensors', Uint8Array.of(255, 255, 0, 0, 0, 0, 0, 0, 123), 'FILE_TRUNCATED'],
  [
    'a header of 2^62 bytes',
    'b.safetensors',
    Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 64, 123, 125),
    'FILE_HEADER_TOO_LARGE',
  ],
  ['a header that is no JSON', 'c.safetensors', fileBytes('{"a":'), 'FILE_HEADER_INVALID'],
  [
    'duplicate keys',
    'd.safetensors',
    fileBytes(`{${entry('a', 'U8', [1], 0, 1)},${entry('a', 'U8', [1], 0, 1)}}`, [0]),
    'FILE_DUPLICATE_KEY',
  ],
  [
    'overlapping tensors',
    'e.safetensors',
    fileBytes(`{${entry('a', 'U8', [2], 0, 2)},${entry('b', 'U8', [2], 1, 3)}}`, [0, 0, 0]),
    'FILE_OFFSETS_INVALID',
  ],
  ['GGUF of garbage', 'f.gguf', new TextEncoder().encode('GGUF and then nothing of use'), 'FILE_FORMAT_UNSUPPORTED'],
  ['a picture', 'cat.png', Uint8Array.of(137, 80, 78, 71), 'FILE_FORMAT_UNSUPPORTED'],
  ['markup for a name', '<img src=x onerror=alert(1)>.safetensors', fileBytes('{"a":'), 'FILE_HEADER_INVALID'],
];

test('refuses hostile files by their codes, and goes on', async ({ page }) => {
  const errors = watchForErrors(page);
  await page.goto('./');
  for (const [what, name, bytes, code] of HOSTILE) {
    await drop(page, [{ name, bytes }]);
    await settled(page, 'weights', /^refused$/);
    await expect(page.locator('.refusal'), what).toHaveAttribute('data-code', code);
    await expect(page.locator('#weights img'), what).toHaveCount(0);
  }
  const markup = fileBytes(
    `{${entry('<img src=x onerror=alert(1)>.weight', 'BF16', [32, 32], 0, 2048)}}`,
    new Uint8Array(2048),
  );
  await drop(page, [{ name: 'names.safetensors', bytes: markup }]);
  await settled(page, 'weights', /^open$/);
  await expect(page.locator('#weights tbody th')).toHaveText('<img src=x onerror=alert(1)>.weight');
  await page.getByRole('button', { name: /^Pack and multiply: / }).click();
  await settled(page, 'weights', /^done$/);
  expect(errors).toEqual([]);
});

test('takes files that are dropped, and can be cancelled', async ({ page }) => {
  // A weight that would take minutes: every slice waits for the test.
  await editWorker(page, (script) => {
    return `const { arrayBuffer } = Blob.prototype;
      Blob.prototype.arrayBuffer = async function () {
        if (this.size > 100_000) await new Promise((resolve) => setTimeout(resolve, 300));
        return arrayBuffer.call(this);
      };
      ${script}`;
  });
  await page.goto('./');
  const [n, k] = [16_384, 2048];
  const transfer = await page.evaluateHandle(
    ([rows, columns]) => {
      const sizeBytes = rows * columns * 2;
      const header = JSON.stringify({
        'up.weight': { dtype: 'BF16', shape: [rows, columns], data_offsets: [0, sizeBytes] },
      });
      const length = new BigUint64Array([BigInt(header.length)]);
      const made = new DataTransfer();
      made.items.add(new File([length, header, new Uint8Array(sizeBytes)], 'large.safetensors'));
      return made;
    },
    [n, k] as const,
  );
  await page.locator('.drop').dispatchEvent('drop', { dataTransfer: transfer });
  expect(await settled(page, 'weights', READ)).toContain('1 weight to use');
  await page.getByRole('button', { name: /^Pack and multiply: / }).click();
  await page.locator('#weights').getByRole('button', { name: 'Cancel' }).click();
  expect(await settled(page, 'weights', DONE)).toBe('Cancelled.');
  await expect(page.getByRole('button', { name: /^Pack and multiply: / })).toBeEnabled();
});

async function drop(
  page: Page,
  files: readonly { readonly name: string; readonly bytes: Uint8Array }[],
): Promise<void> {
  await page.locator('#weights').evaluate((root) => {
    root.dataset['state'] = 'before';
  });
  await page
    .locator('#weights-files')
    .setInputFiles(
      files.map(({ name, bytes }) => ({ name, mimeType: 'application/octet-stream', buffer: Buffer.from(bytes) })),
    );
}

/** Groups of 32 whose scales and zero points bf16 and f16 hold. */
function plainNumbers(n: number, k: number): PlainNumbers {
  const groups = (n * k) / 32;
  return {
    n,
    k,
    groupSize: 32,
    q: Uint8Array.from({ length: n * k }, (_, i) => (i * 7) % 16),
    scale: Float64Array.from({ length: groups }, (_, i) => (1 + (i % 4)) / 64),
    zero: Float64Array.from({ length: groups }, (_, i) => i % 16),
  };
}

/** The same weight, quantized by the library in Node. */
async function quantizedHere(n: number, k: number, groupSize: number): Promise<CoalescedInt4Tensor> {
  const bytes = readFileSync(`${MODEL}/model.safetensors`);
  const headerBytes = Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.subarray(8, 8 + headerBytes).toString());
  const start = 8 + headerBytes + header[NAME].data_offsets[0];
  const weights = new Uint16Array(bytes.buffer.slice(bytes.byteOffset + start, bytes.byteOffset + start + n * k * 2));
  return CoalescedInt4Tensor.fromInt4Tensor(quantizeInt4(weights, { n, k, groupSize }));
}

/** What the page's products must hash to. */
function digests(name: string, weight: CoalescedInt4Tensor): string {
  return fileInputs(name, weight.k, [1, 4])
    .map(({ x }) => outputDigest(int4PlainMM(x, weight, 'f32'), int4PlainMM(x, weight, 'bf16')))
    .join(' ');
}

// A real model through the page: every packed weight of the converted checkpoint on the browser's WebGPU.

import { execFileSync } from 'node:child_process';
import { expect, test } from '@playwright/test';
import {
  fileInputs,
  int4PlainMM,
  openSamebitsFile,
  outputDigest,
  type SamebitsFile,
  VERIFY_ROWS,
} from '../../core/index.js';
import { openFileSource } from '../../node/file_source.js';
import { photograph, watchForErrors } from './page_checks.js';

const MODEL = 'tests/data/gemma4-kjv-6m';

/** The digest of the reference's outputs for every input of the file, by the name of the input. */
async function referenceDigests(file: SamebitsFile): Promise<Map<string, string>> {
  const digests = new Map<string, string>();
  for (const tensor of file.weights.keys()) {
    const weight = await file.readWeight(tensor);
    for (const { name, x } of fileInputs(tensor, weight.k)) {
      digests.set(name, outputDigest(int4PlainMM(x, weight, 'f32'), int4PlainMM(x, weight, 'bf16')));
    }
  }
  return digests;
}

test('every packed weight of a real model gives the bits of the reference', async ({ page }) => {
  const errors = watchForErrors(page);
  const path = test.info().outputPath('model.samebits.safetensors');
  execFileSync(process.execPath, ['dist/node/cli.js', 'convert', MODEL, path], { stdio: 'pipe' });
  const file = await openSamebitsFile(await openFileSource(path));
  const digests = await referenceDigests(file);
  await file.close();
  expect(digests.size).toBe(42 * VERIFY_ROWS.length);

  await page.goto('/');
  const proof = page.locator('#proof');
  await expect(page.locator('#proof-file')).toBeEnabled();
  await page.locator('#proof-file').setInputFiles(path);
  await expect(proof).toHaveAttribute('data-state', /^(equal|different|failed)$/, { timeout: 200_000 });
  const verdict = (await page.getByRole('status').textContent()) ?? '';
  expect(await proof.getAttribute('data-state'), verdict).toBe('equal');

  const cells = await proof
    .locator('.grid button[data-state="equal"]')
    .evaluateAll((buttons) => buttons.map(({ dataset }) => [dataset['name'], dataset['sha256']]));
  expect(Object.fromEntries(cells)).toEqual(Object.fromEntries(digests));
  await photograph(page, 'model');
  expect(errors).toEqual([]);
});

test('says why a file that is none of ours is refused', async ({ page }) => {
  await page.goto('/');
  await expect(page.locator('#proof-file')).toBeEnabled();
  await page.locator('#proof-file').setInputFiles(`${MODEL}/model.safetensors`);
  await expect(page.locator('#proof')).toHaveAttribute('data-state', 'failed');
  await expect(page.getByRole('status')).toContainText('FILE_LAYOUT_UNTAGGED');
  await expect(page.getByRole('button', { name: 'Run the case table' })).toBeEnabled();
});

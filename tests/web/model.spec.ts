// A real model through the page: every packed weight on the browser's WebGPU, against the recorded CUDA run.

import { expect, test } from '@playwright/test';
import { VERIFY_ROWS } from '../../core/index.js';
import { settled, watchForErrors } from './page_checks.js';
import { RECORDS } from './records.js';

const MODEL = 'tests/data/gemma4-kjv-6m';
const WEIGHTS = 42;

test('every weight of a real model gives the bits that CUDA gave', async ({ page }) => {
  const errors = watchForErrors(page);
  await page.goto('./');
  const proof = page.locator('#proof');
  await page.getByRole('button', { name: 'Run the real model' }).click();
  const verdict = await settled(page, 'proof', /^(equal|different|failed)$/);
  expect(await proof.getAttribute('data-state'), verdict).toBe('equal');
  const cells = await proof
    .locator('.grid button[data-state="equal"]')
    .evaluateAll((buttons) => buttons.map(({ dataset }) => [dataset['name'], dataset['sha256']]));
  expect(cells).toHaveLength(WEIGHTS * VERIFY_ROWS.length);
  for (const { cases } of RECORDS) {
    expect(cells).toEqual(cells.map(([name]) => [name, cases[name ?? '']?.sha256]));
  }
  const others = RECORDS.length === 0 ? 'CPU reference' : RECORDS.map(({ device }) => device).join('’s and the ');
  expect(verdict).toContain(`All ${cells.length} results equal the ${others}’s, bit for bit`);
  expect(errors).toEqual([]);
});

test('says why a file that is none of ours is refused', async ({ page }) => {
  await page.goto('./');
  await expect(page.locator('#proof-file')).toBeEnabled();
  await page.locator('#proof-file').setInputFiles(`${MODEL}/model.safetensors`);
  expect(await settled(page, 'proof', /^failed$/)).toContain('FILE_LAYOUT_UNTAGGED');
  await expect(page.getByRole('button', { name: 'Run the case table' })).toBeEnabled();
});

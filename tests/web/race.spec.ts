// "Race": checked and timed on the browser's GPU, cancelled, and refused where a kernel is wrong.

import { expect, type Page, test } from '@playwright/test';
import { editWorker, photograph, settled, watchForErrors } from './page_checks.js';

const DONE = /^(finished|failed|cancelled)$/;

test('times both layouts and the f32 way, with the recorded bars beside them', async ({ page }) => {
  const errors = watchForErrors(page);
  await page.goto('./');
  await pick(page, 'Gemma 4 31B', ['o']);
  await page.getByRole('button', { name: 'Start the race' }).click();
  expect(await settled(page, 'race', DONE)).toContain('a software adapter: the figures say nothing');
  const lane = page.locator('#race .lane');
  await expect(lane).toHaveCount(1);
  await expect(lane).toContainText(/Cut to [\d,]+ rows/);
  for (const kind of ['native', 'coalesced', 'dequantized']) {
    const bar = lane.locator(`[data-kind="${kind}"]`);
    await expect(bar).toHaveAttribute('data-state', 'done');
    await expect(bar.locator('.figure')).toHaveText(/^[\d.,]+ (µs|ms|s) · [\d.,]+ GB\/s$/);
    expect(Number(await bar.getAttribute('data-us'))).toBeGreaterThan(0);
  }
  await expect(lane.locator('[data-state="recorded"]')).toHaveCount(2);
  await expect(lane.locator('[data-kind="recorded-coalesced"]')).toContainText('NVIDIA H200');
  await expect(lane.locator('.ratio')).toHaveCount(0);
  await photograph(page, 'raced');
  expect(errors).toEqual([]);
});

test('can be cancelled', async ({ page }) => {
  await page.goto('./');
  await pick(page, 'Llama 3.1 8B', ['gate + up', 'down', 'q + k + v', 'o']);
  await page.getByRole('button', { name: 'Start the race' }).click();
  await expect(page.locator('#race [data-state="done"]').first()).toBeVisible({ timeout: 60_000 });
  await page.locator('#race').getByRole('button', { name: 'Cancel' }).click();
  expect(await settled(page, 'race', DONE)).toBe('Cancelled.');
  await expect(page.locator('#race [data-state="running"]')).toHaveCount(0);
  await expect(page.getByRole('button', { name: 'Start the race' })).toBeEnabled();
});

test('gives no figure for a kernel whose bits are wrong', async ({ page }) => {
  await editWorker(page, (script) => script.replace('HI_SCALE = 16384.0', 'HI_SCALE = 8192.0'));
  await page.goto('./');
  await pick(page, 'Qwen 3 0.6B', ['o']);
  await page.getByRole('button', { name: 'Start the race' }).click();
  await settled(page, 'race', DONE);
  for (const kind of ['native', 'coalesced']) {
    await expect(page.locator(`#race [data-kind="${kind}"]`)).toHaveAttribute('data-state', 'refused');
    await expect(page.locator(`#race [data-kind="${kind}"] .figure`)).toContainText('not timed: y[m=0');
  }
  await expect(page.locator('#race [data-kind="dequantized"]')).toHaveAttribute('data-state', 'done');
});

/** Chooses a model, and of its linears those with these labels. */
async function pick(page: Page, model: string, labels: readonly string[]): Promise<void> {
  await expect(page.locator('#device')).toHaveAttribute('data-state', 'available');
  await page.locator('#race-model').selectOption(model);
  for (const box of await page.locator('#race .pick').all()) {
    await box.locator('input').setChecked(labels.includes((await box.textContent()) ?? ''));
  }
}

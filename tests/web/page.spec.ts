// The page in a real browser: it opens, proves the case table on WebGPU, and can be walked with the keyboard.

import { existsSync, readdirSync } from 'node:fs';
import { expect, test } from '@playwright/test';
import { CASES } from '../../core/index.js';
import { photograph, watchForErrors } from './page_checks.js';

const RECORDS = 'tests/data/records';
test('proves the case table on WebGPU, bit for bit', async ({ page, browser }) => {
  const errors = watchForErrors(page);
  await page.goto('/');
  const device = page.locator('#device');
  const proof = page.locator('#proof');
  await expect(device).toHaveAttribute('data-state', 'available');
  const adapter = await device.locator('.device-name').textContent();
  test.info().annotations.push({
    type: 'backend',
    description: `webgpu (Chromium ${browser.version()}): ran on ${adapter}`,
  });

  await page.getByRole('button', { name: 'Run the case table' }).click();
  await expect(proof).toHaveAttribute('data-state', /^(equal|different|failed)$/, { timeout: 200_000 });
  const verdict = (await page.getByRole('status').textContent()) ?? '';
  expect(await proof.getAttribute('data-state'), verdict).toBe('equal');
  await expect(proof).toHaveAttribute('data-inputs', String(CASES.length));
  await expect(proof).toHaveAttribute('data-equal', String(CASES.length));
  await expect(proof.locator('.grid button[data-state="equal"]')).toHaveCount(CASES.length);
  const records = existsSync(RECORDS) ? readdirSync(RECORDS).filter((name) => name.endsWith('.json')).length : 0;
  await expect(proof).toHaveAttribute('data-recorded', String(records * CASES.length));
  await expect(proof).toHaveAttribute('data-recorded-equal', String(records * CASES.length));

  await photograph(page, 'proved');
  expect(errors).toEqual([]);
});

test('shows a kernel that is wrong by one bit', async ({ page }) => {
  await page.route(/prover_worker.*\.js$/, async (route) => {
    const script = await (await route.fetch()).text();
    const faulty = script.replace('NAN_BITS = 0x7fc00000u', 'NAN_BITS = 0x7fc00001u');
    expect(faulty).not.toBe(script);
    await route.fulfill({ contentType: 'text/javascript', body: faulty });
  });
  await page.goto('/');
  await page.getByRole('button', { name: 'Run the case table' }).click();
  await expect(page.locator('#proof')).toHaveAttribute('data-state', 'different', { timeout: 200_000 });
  const withNaN = CASES.filter(({ activations }) => activations === 'nan-row' || activations === 'inf-row');
  const different = page.locator('.grid button[data-state="different"]');
  await expect(different).toHaveCount(withNaN.length);
  await expect(page.getByRole('status')).toContainText(
    `${withNaN[0]!.name}, f32 y[m=0, n=0]: expected 0x7fc00000, got 0x7fc00001`,
  );
  await expect(page.locator('.detail h3')).toHaveText(withNaN[0]!.name);
  await photograph(page, 'different');
});

test('the results can be walked with the keyboard', async ({ page }) => {
  await page.goto('/');
  const start = page.getByRole('button', { name: 'Run the case table' });
  await expect(start).toBeEnabled();
  await start.focus();
  await page.keyboard.press('Enter');
  const cells = page.locator('.grid button');
  await expect(cells.nth(4)).toHaveAttribute('data-state', 'equal');
  await photograph(page, 'running');
  await cells.first().focus();
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  await expect(cells.nth(2)).toBeFocused();
  await expect(page.locator('.detail h3')).toHaveText(CASES[2]!.name);
  await page.keyboard.press('Home');
  await expect(cells.first()).toBeFocused();
});

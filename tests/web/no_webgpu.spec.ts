// The page in a browser without WebGPU: it says what is missing, and all that needs no GPU works. A file of its own,
// because it starts another browser.

import { expect, type Page, test } from '@playwright/test';
import { CASES } from '../../core/index.js';
import { CHROMIUM_ARGS } from '../../scripts/chromium.mjs';
import { editWorker, photograph, settled, watchForErrors } from './page_checks.js';
import { RECORDS } from './records.js';

test.use({
  launchOptions: async ({ launchOptions }, use) => {
    const args = CHROMIUM_ARGS.filter((argument) => !argument.includes('webgpu'));
    await use({ ...launchOptions, args: [...args, '--disable-features=WebGPU'] });
  },
});

test('explains that the browser offers no adapter, and runs the reference', async ({ page }) => {
  const errors = watchForErrors(page);
  await expectExplanation(page, 'offers no adapter');
  await page.getByRole('button', { name: 'Run the case table' }).click();
  const verdict = await settled(page, 'proof', /^(equal|different|uncompared|failed)$/);
  const proof = page.locator('#proof');
  await expect(proof).toHaveAttribute('data-state', RECORDS.length > 0 ? 'equal' : 'uncompared');
  await expect(proof).toHaveAttribute('data-recorded-equal', String(RECORDS.length * CASES.length));
  if (RECORDS.length > 0) expect(verdict).toContain('computed by the CPU reference in this browser');
  await expect(page.locator('.report pre')).toContainText('device: no WebGPU; the CPU reference alone');
  await photograph(page, 'unavailable');

  await page.getByRole('button', { name: 'Use the small model' }).click();
  await settled(page, 'weights', /^open$/);
  await page.getByRole('button', { name: 'Pack and multiply: model.layers.0.self_attn.q_proj.weight' }).click();
  await settled(page, 'weights', /^done$/);
  await expect(page.locator('#weights .card')).toContainText('there is no GPU here to compare with');

  const verses = page.locator('#verses');
  await verses.getByRole('button', { name: 'Write' }).click();
  expect(await settled(page, 'verses', /^(equal|different|unrecorded|failed)$/)).toContain(
    'Letter for letter the text',
  );
  await expect(verses).toContainText('Computed by CPU reference (JavaScript), on the processor and not on a GPU');
  await photograph(page, 'unavailable-verses');
  expect(errors).toEqual([]);
});

test('explains that the browser has never heard of WebGPU', async ({ page }) => {
  await editWorker(page, (script) => `delete WorkerNavigator.prototype.gpu;\n${script}`);
  await expectExplanation(page, 'this browser has no WebGPU');
});

async function expectExplanation(page: Page, reason: string): Promise<void> {
  await page.goto('./');
  await expect(page.locator('#device')).toHaveAttribute('data-state', 'unavailable');
  await expect(page.locator('#device')).toContainText('No WebGPU here');
  await expect(page.locator('#device')).toContainText(reason);
  await expect(page.locator('#device')).toContainText(/Chrome \d+ on Linux/);
  await expect(page.locator('#device')).toContainText('chrome://gpu');
  await expect(page.locator('#race')).toHaveAttribute('data-state', 'unavailable');
  await expect(page.getByRole('button', { name: 'Start the race' })).toBeDisabled();
}

// The page in a browser without WebGPU: it says what is missing. A file of its own, because it starts another browser.

import { expect, test } from '@playwright/test';
import { CHROMIUM_ARGS } from '../../scripts/chromium.mjs';
import { photograph, watchForErrors } from './page_checks.js';

test.use({
  launchOptions: async ({ launchOptions }, use) => {
    const args = CHROMIUM_ARGS.filter((argument) => !argument.includes('webgpu'));
    await use({ ...launchOptions, args: [...args, '--disable-features=WebGPU'] });
  },
});

test('explains what is missing', async ({ page }) => {
  const errors = watchForErrors(page);
  await page.goto('/');
  await expect(page.locator('#device')).toHaveAttribute('data-state', 'unavailable');
  await expect(page.locator('#device')).toContainText('No WebGPU here');
  await expect(page.locator('#proof')).toHaveAttribute('data-state', 'unavailable');
  await expect(page.getByRole('button', { name: 'Run the case table' })).toBeDisabled();
  await photograph(page, 'unavailable');
  expect(errors).toEqual([]);
});

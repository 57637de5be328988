// The page in a browser without WebGPU: it says what is missing. A file of its own, because it starts another browser.

import { expect, type Page, test } from '@playwright/test';
import { CHROMIUM_ARGS } from '../../scripts/chromium.mjs';
import { photograph, watchForErrors } from './page_checks.js';

test.use({
  launchOptions: async ({ launchOptions }, use) => {
    const args = CHROMIUM_ARGS.filter((argument) => !argument.includes('webgpu'));
    await use({ ...launchOptions, args: [...args, '--disable-features=WebGPU'] });
  },
});

test('explains that the browser offers no adapter', async ({ page }) => {
  const errors = watchForErrors(page);
  await expectExplanation(page, 'offers no adapter');
  await photograph(page, 'unavailable');
  expect(errors).toEqual([]);
});

test('explains that the browser has never heard of WebGPU', async ({ page }) => {
  await page.route(/prover_worker.*\.js$/, async (route) => {
    const script = await (await route.fetch()).text();
    await route.fulfill({ contentType: 'text/javascript', body: `delete WorkerNavigator.prototype.gpu;\n${script}` });
  });
  await expectExplanation(page, 'this browser has no WebGPU');
});

async function expectExplanation(page: Page, reason: string): Promise<void> {
  await page.goto('/');
  await expect(page.locator('#device')).toHaveAttribute('data-state', 'unavailable');
  await expect(page.locator('#device')).toContainText('No WebGPU here');
  await expect(page.locator('#device')).toContainText(reason);
  await expect(page.locator('#proof')).toHaveAttribute('data-state', 'unavailable');
  await expect(page.getByRole('button', { name: 'Run the case table' })).toBeDisabled();
}

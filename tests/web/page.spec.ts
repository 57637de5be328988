// "Your device" and "Prove it" in a real browser: the case table on WebGPU against the reference and the recorded run.

import { readFileSync } from 'node:fs';
import { expect, test } from '@playwright/test';
import { CASES } from '../../core/index.js';
import { editWorker, photograph, settled, watchForErrors } from './page_checks.js';
import { RECORDS } from './records.js';

const DONE = /^(equal|different|failed|cancelled)$/;
const RUN = { name: 'Run the case table' } as const;

test('proves the case table on WebGPU, bit for bit, against every recorded run', async ({ page, browser, context }) => {
  const errors = watchForErrors(page);
  await context.grantPermissions(['clipboard-read', 'clipboard-write']);
  await page.goto('./');
  const device = page.locator('#device');
  const proof = page.locator('#proof');
  await expect(device).toHaveAttribute('data-state', 'available');
  await expect(device).toHaveAttribute('data-software', 'true');
  await expect(device).toContainText('Packed dot product');
  await expect(device).toContainText('Largest binding');
  await expect(device).toContainText(/First result after [\d,]+ ms From a cold start: .* ms for the first matvec\./);
  const adapter = await device.locator('.device-name').textContent();
  test.info().annotations.push({
    type: 'backend',
    description: `webgpu (Chromium ${browser.version()}): ran on ${adapter}`,
  });

  await page.getByRole('button', RUN).click();
  const verdict = await settled(page, 'proof', DONE);
  expect(await proof.getAttribute('data-state'), verdict).toBe('equal');
  expect(verdict).toMatch(new RegExp(`^All ${CASES.length} results equal the .*’s, bit for bit: .* on ${adapter}\\.$`));
  await expect(proof).toHaveAttribute('data-equal', String(CASES.length));
  await expect(proof).toHaveAttribute('data-recorded-equal', String(RECORDS.length * CASES.length));

  const digests = await proof
    .locator('.grid button[data-state="equal"]')
    .evaluateAll((cells) => cells.map(({ dataset }) => [dataset['name'], dataset['sha256']]));
  for (const { device: recorded, cases } of RECORDS) {
    const expected = CASES.map(({ name }) => [name, cases[name]?.sha256]);
    expect(digests, `the run recorded on ${recorded}`).toEqual(expected);
  }

  await page.getByRole('button', { name: 'Copy the report' }).click();
  await expect(page.getByText('Copied.')).toBeVisible();
  const report = await page.evaluate(() => navigator.clipboard.readText());
  const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
  expect(report).toContain(`samebits ${version}: equal\n${verdict}\n`);
  expect(report).toContain(`device: ${adapter}\n`);
  expect(report).toContain(`results: ${CASES.length} of ${CASES.length} equal to the CPU reference\n`);
  for (const record of RECORDS) {
    expect(report).toContain(`recorded CUDA run: ${record.device}, driver ${record.driver}`);
  }

  await photograph(page, 'proved');
  expect(errors).toEqual([]);
});

test('shows a kernel that is wrong by one bit, and can be walked with the keyboard', async ({ page }) => {
  await editWorker(page, (script) => script.replace('NAN_BITS = 0x7fc00000u', 'NAN_BITS = 0x7fc00001u'));
  await page.goto('./');
  const start = page.getByRole('button', RUN);
  await expect(start).toBeEnabled();
  await start.focus();
  await page.keyboard.press('Enter');
  await settled(page, 'proof', /^different$/);
  const withNaN = CASES.filter(({ activations }) => activations === 'nan-row' || activations === 'inf-row');
  const first = `${withNaN[0]!.name}, f32 y[m=0, n=0]: expected 0x7fc00000, got 0x7fc00001`;
  await expect(page.locator('.grid button[data-state="different"]')).toHaveCount(withNaN.length);
  await expect(page.locator('#proof').getByRole('status')).toContainText(first);
  await expect(page.locator('.report pre')).toContainText('f32 y[m=0, n=0]: expected 0x7fc00000, got 0x7fc00001');
  await expect(page.locator('.detail h3')).toHaveText(withNaN[0]!.name);
  await photograph(page, 'different');

  const cells = page.locator('.grid button');
  await cells.and(page.locator('[tabindex="0"]')).focus();
  await page.keyboard.press('Home');
  await page.keyboard.press('ArrowRight');
  await page.keyboard.press('ArrowRight');
  await expect(cells.nth(2)).toBeFocused();
  await expect(page.locator('.detail h3')).toHaveText(CASES[2]!.name);
});

test('a run can be cancelled and started again', async ({ page }) => {
  await page.goto('./');
  await page.getByRole('button', RUN).click();
  const cells = page.locator('.grid button');
  await expect(cells.nth(3)).toHaveAttribute('data-state', 'equal');
  await page.locator('#proof').getByRole('button', { name: 'Cancel' }).click();
  const words = await settled(page, 'proof', /^cancelled$/);
  expect(words).toMatch(/^Cancelled after \d+ of \d+ inputs\.$/);
  await expect(page.locator('.grid button[data-state="running"]')).toHaveCount(0);
  await page.getByRole('button', RUN).click();
  await expect(cells.first()).toHaveAttribute('data-state', 'equal');
});

test('a device that is lost in mid-run ends the run, and the next run has a new one', async ({ page }) => {
  // Keeps every device where the test can get at it.
  await editWorker(
    page,
    (script) => `
      self.devices = [];
      const { requestDevice } = GPUAdapter.prototype;
      GPUAdapter.prototype.requestDevice = async function (...args) {
        const device = await requestDevice.apply(this, args);
        self.devices.push(device);
        return device;
      };
      ${script}`,
  );
  await page.goto('./');
  await page.getByRole('button', RUN).click();
  const cells = page.locator('.grid button');
  await expect(cells.nth(3)).toHaveAttribute('data-state', 'equal');
  const devices = () => page.workers()[0]!.evaluate(() => Reflect.get(self, 'devices').length);
  await page.workers()[0]!.evaluate(() => Reflect.get(self, 'devices')[0].destroy());
  expect(await settled(page, 'proof', DONE)).toContain('DEVICE_LOST');
  await expect(page.locator('#proof')).toHaveAttribute('data-state', 'failed');
  expect(await devices()).toBe(1);
  await page.getByRole('button', RUN).click();
  await expect(cells.nth(1)).toHaveAttribute('data-state', 'equal');
  expect(await devices()).toBe(2);
});

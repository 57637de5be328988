// What every test of the page looks at: complaints in the console, how it looks, and who can use it.

import AxeBuilder from '@axe-core/playwright';
import { expect, type Page, test } from '@playwright/test';

const VIEWPORTS = { phone: { width: 390, height: 844 }, wide: { width: 1280, height: 900 } } as const;

/** Everything that the page complains about while it lives. */
export function watchForErrors(page: Page): string[] {
  const errors: string[] = [];
  page.on('console', (message) => {
    if (message.type() === 'error') errors.push(message.text());
  });
  page.on('pageerror', (error) => errors.push(error.message));
  return errors;
}

/**
 * At a phone's and a desktop's width, light and dark: a screenshot for people, no sideways scrolling, and nothing that
 * axe calls serious or critical.
 */
export async function photograph(page: Page, name: string): Promise<void> {
  for (const [width, viewport] of Object.entries(VIEWPORTS)) {
    await page.setViewportSize(viewport);
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme });
      await page.screenshot({ path: test.info().outputPath(`${name}-${width}-${colorScheme}.png`), fullPage: true });
      const overflow = await page.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
      expect(overflow, `${name} scrolls sideways at ${viewport.width} px`).toBeLessThanOrEqual(0);
      if (width === 'phone') await expectAccessible(page, `${name}, ${colorScheme}`);
    }
  }
}

async function expectAccessible(page: Page, what: string): Promise<void> {
  const { violations } = await new AxeBuilder({ page }).analyze();
  const serious = violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(
      ({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => `${html} ${failureSummary}`).join('\n')}`,
    );
  expect(serious, `axe on ${what}`).toEqual([]);
}

/** Changes the worker's script on its way to the page: plants a fault, or puts code in front. */
export async function editWorker(page: Page, edit: (script: string) => string): Promise<void> {
  await page.route(/engine_worker.*\.js$/, async (route) => {
    const script = await (await route.fetch()).text();
    const edited = edit(script);
    expect(edited).not.toBe(script);
    await route.fulfill({ contentType: 'text/javascript', body: edited });
  });
}

/** Waits for a section to come to one of some states, and gives what it then says. */
export async function settled(page: Page, section: string, states: RegExp, timeout = 150_000): Promise<string> {
  const root = page.locator(`#${section}`);
  await expect(root).toHaveAttribute('data-state', states, { timeout });
  return (await root.getByRole('status').first().textContent()) ?? '';
}

// "Why it is fast": the picture shows what the counting code counts, for whatever shape the sliders say.

import { expect, test } from '@playwright/test';
import { warpScaleRead } from '../../core/layout_traffic.js';
import { weightShape } from '../../core/limits.js';

test('counts 32 cache lines against 1, and follows the sliders', async ({ page }) => {
  await page.goto('./');
  const layout = page.locator('#layout');
  await expect(layout.locator('[data-layout="native"] .count')).toContainText('32 cache lines');
  await expect(layout.locator('[data-layout="native"] .count')).toContainText('4,096 bytes fetched for 64 used');
  await expect(layout.locator('[data-layout="coalesced"] .count')).toContainText('1 cache line');
  await expect(layout.getByRole('img', { name: /^\[N, n_groups\]: 32 lanes, 1 cache line/ })).toBeVisible();
  await expect(layout.getByRole('status')).toContainText('take 168 lines (21,504 bytes)');

  const group = layout.getByRole('slider', { name: 'Group size' });
  const row = layout.getByRole('slider', { name: 'Row' });
  const values = async (name: string) =>
    Number((await layout.getByRole('slider', { name }).getAttribute('aria-valuetext'))?.replace(',', ''));
  const counted: (readonly [number, number])[] = [];
  for (const key of ['ArrowLeft', 'ArrowRight', 'ArrowRight', 'ArrowRight']) {
    await group.press(key);
    await row.press('ArrowRight');
    const shape = weightShape(await values('N outputs'), await values('K inputs'), await values('Group size'));
    const at = await values('Row');
    for (const which of ['native', 'coalesced'] as const) {
      const { lines, fetchedBytes, neededBytes } = warpScaleRead(shape, which, at, 0);
      const words = `${fetchedBytes.toLocaleString('en')} bytes fetched for ${neededBytes} used`;
      await expect(layout).toHaveAttribute(`data-${which}-lines`, String(lines.length));
      await expect(layout.locator(`[data-layout="${which}"] .count`)).toContainText(words);
    }
    counted.push([shape.groupSize, at]);
  }
  expect(counted).toEqual([
    [16, 1],
    [32, 2],
    [64, 3],
    [128, 4],
  ]);

  await layout.getByRole('slider', { name: 'Lane' }).press('Home');
  await expect(layout.locator('[data-layout="coalesced"] .lane-words')).toContainText(
    'Lane 0 reads group 0 at byte 336',
  );
});

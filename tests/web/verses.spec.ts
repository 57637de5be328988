// "Let it write": verses from a seed, stopped and written again, compared with the recorded texts. Without WebGPU it is in
// no_webgpu.spec.ts.

import { readdirSync, readFileSync } from 'node:fs';
import { expect, type Page, test } from '@playwright/test';
import type { VerseRecord } from '../../web/verse_records.js';
import { photograph, settled, watchForErrors } from './page_checks.js';

const FOLDER = 'tests/data/verses';
const RECORDS = readdirSync(FOLDER).map((name): VerseRecord => JSON.parse(readFileSync(`${FOLDER}/${name}`, 'utf8')));
const recordedText = (seed: number): string => {
  const text = RECORDS[0]?.texts[seed];
  if (text === undefined) throw new Error(`no record has a text for seed ${seed}`);
  return text;
};

const verses = (page: Page) => page.locator('#verses');
const written = async (page: Page) => (await verses(page).locator('.text').textContent()) ?? '';
const START = /^Write/;

async function open(page: Page): Promise<void> {
  await page.goto('./');
  await expect(verses(page).getByRole('button', { name: START })).toBeEnabled();
}

async function write(page: Page, seed: number): Promise<void> {
  await verses(page).getByLabel('Seed').fill(String(seed));
  await verses(page).getByRole('button', { name: START }).click();
}

test('writes the recorded text of a seed, and says so', async ({ page }) => {
  const errors = watchForErrors(page);
  await open(page);
  await write(page, 3);
  expect(await settled(page, 'verses', /^(equal|different|unrecorded|failed)$/)).toContain(
    'Letter for letter the text',
  );
  await expect(verses(page)).toHaveAttribute('data-state', 'equal');
  await expect(verses(page)).toHaveAttribute('data-tokens', '160');
  expect(await written(page)).toBe(RECORDS[0]!.prompt + recordedText(3));
  await expect(verses(page).locator('.pace')).toHaveText(/^160 tokens, [\d.,]+ tokens\/s; the prompt: 6 tokens/);
  await photograph(page, 'verses');
  expect(errors).toEqual([]);
});

test('writes the same on WebGPU, and says so far so good when it is stopped', async ({ page }) => {
  const errors = watchForErrors(page);
  await open(page);
  await verses(page).getByLabel('Computed by').selectOption('device');
  await write(page, 3);
  const [start, text] = [RECORDS[0]!.prompt, recordedText(3)];
  await expect.poll(async () => (await written(page)).length, { timeout: 200_000 }).toBeGreaterThan(start.length + 40);
  await verses(page).getByRole('button', { name: 'Stop' }).click();
  expect(await settled(page, 'verses', /^(cancelled|equal|failed)$/)).toContain('letter for letter the text recorded');
  expect(`${start}${text}`.startsWith(await written(page))).toBe(true);
  await expect(verses(page)).not.toContainText(/Computed by\s+CPU reference/);
  expect(errors).toEqual([]);
});

test('is stopped, and writes again', async ({ page }) => {
  await open(page);
  await write(page, 5);
  await expect.poll(() => written(page)).not.toBe(RECORDS[0]!.prompt);
  await verses(page).getByRole('button', { name: 'Stop' }).click();
  expect(await settled(page, 'verses', /^(cancelled|equal|failed)$/)).toContain('Stopped. So far, letter for letter');
  const part = await written(page);
  expect(`${RECORDS[0]!.prompt}${recordedText(5)}`.startsWith(part)).toBe(true);
  await verses(page).getByRole('button', { name: 'Write it again' }).click();
  await settled(page, 'verses', /^equal$/);
  expect(await written(page)).toBe(RECORDS[0]!.prompt + recordedText(5));
});

test('a seed that nobody recorded gives a text, twice the same', async ({ page }) => {
  await open(page);
  const texts: string[] = [];
  for (let run = 0; run < 2; run++) {
    await write(page, 987_654_321);
    expect(await settled(page, 'verses', /^unrecorded$/)).toContain('No text is recorded for seed 987654321');
    texts.push(await written(page));
  }
  expect(texts[0]).toBe(texts[1]);
});

test('refuses what is no seed', async ({ page }) => {
  await open(page);
  for (const seed of ['-1', '1.5', '']) {
    await verses(page).getByLabel('Seed').fill(seed);
    await verses(page).getByRole('button', { name: START }).click();
    await expect(verses(page).getByRole('status')).toContainText('A seed is an integer');
    await expect(verses(page)).toHaveAttribute('data-state', 'idle');
  }
});

// "Numbers behind it": every recorded benchmark of single shapes, with the command that prints it, and whether its kernels ship.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@playwright/test';
import { kernelSourcesSha256 } from '../../scripts/kernel-sources.mjs';
import { watchForErrors } from './page_checks.js';

const FOLDER = 'benchmarks';
const SHOWN = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.json') && !/^(abuse|decode|gemma4-31b)-/.test(name))
  .sort();

test('names the command of each recorded benchmark, and says which is of earlier kernels', async ({ page }) => {
  const errors = watchForErrors(page);
  await page.goto('./');
  const numbers = page.locator('#numbers');
  await expect(numbers).toHaveAttribute('data-state', 'drawn');

  const recorded = SHOWN.map((name) => ({ name, ...JSON.parse(readFileSync(join(FOLDER, name), 'utf8')) }));
  expect(recorded.length).toBeGreaterThan(0);
  const commands = recorded.map(({ name, command = 'samebits bench --json' }) => `npx ${command} > ${FOLDER}/${name}`);
  await expect(numbers.locator('pre')).toHaveText(commands);

  const kernels = { cuda: kernelSourcesSha256('cuda'), webgpu: kernelSourcesSha256('shaders') };
  const headings = recorded.flatMap(({ reports, cudaSourcesSha256, shaderSourcesSha256 }) =>
    reports.map(({ backend }: { backend: 'cuda' | 'webgpu' }) => {
      const recordedOf = { cuda: cudaSourcesSha256, webgpu: shaderSourcesSha256 }[backend];
      return recordedOf === kernels[backend] ? /GB\/s$/ : /GB\/s, earlier kernels$/;
    }),
  );
  await expect(numbers.locator('h3')).toHaveText(headings);
  expect(errors).toEqual([]);
});

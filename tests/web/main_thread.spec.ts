// A main thread that is never held up, and a layout that does not jump, while every section works.

import { expect, type Page, test } from '@playwright/test';
import { settled } from './page_checks.js';

/** What the browser calls a long task. */
const LONG_TASK_MS = 50;
const MARK = 'samebits main thread';
/** What the trace calls the way by which a test asks the page. */
const DEV_TOOLS = 'blink.mojom.DevToolsSession';

// Playwright's own trace takes snapshots of the page on the thread that is measured.
test.use({ trace: 'off' });

test('never holds up the main thread, and nothing jumps, while every section works', async ({ page }) => {
  await page.addInitScript(observe);
  const stopTrace = await traceTasks(page);
  await page.goto('./');
  await expect(page.locator('#device')).toHaveAttribute('data-state', 'available');
  await expect(page.locator('#numbers')).toHaveAttribute('data-state', 'drawn');
  const loaded = await seenBy(page);
  expect(loaded.shifts, 'cumulative layout shift of the load').toBeLessThan(0.02);

  await page.getByRole('button', { name: 'Use the small model' }).click();
  await settled(page, 'weights', /^open$/);
  await page.getByRole('button', { name: 'Pack and multiply: model.layers.0.mlp.down_proj.weight' }).click();
  await settled(page, 'weights', /^done$/);
  await page.locator('#race-model').selectOption('Qwen 3 0.6B');
  await page.getByRole('button', { name: 'Start the race' }).click();
  await expect(page.locator('#race [data-state="done"]').first()).toBeVisible({ timeout: 60_000 });
  await page.locator('#race').getByRole('button', { name: 'Cancel' }).click();
  await settled(page, 'race', /^cancelled$/);
  await page.getByRole('button', { name: 'Run the case table' }).click();
  await settled(page, 'proof', /^equal$/);
  await page.locator('#verses').getByRole('button', { name: 'Write' }).click();
  await settled(page, 'verses', /^equal$/);
  const group = page.getByRole('slider', { name: 'Group size' });
  for (const key of ['Home', 'End', 'Home']) await group.press(key);
  const { longTasks } = await seenBy(page);
  const held = heldBy(longTasks, await stopTrace());
  test.info().annotations.push({ type: 'long tasks', description: JSON.stringify(longTasks) });
  expect(held, `the observer saw ${JSON.stringify(longTasks)}`).toEqual([]);
});

test('a page that does hold up the main thread is seen to', async ({ page }) => {
  await page.addInitScript(observe);
  const stopTrace = await traceTasks(page);
  await page.goto('./');
  await page.evaluate(async () => {
    await new Promise((resolve) => setTimeout(resolve));
    for (let sum = 0, i = 0; i < 1e9 && sum >= 0; i++) sum += Math.sqrt(i);
  });
  await expect.poll(async () => (await seenBy(page)).longTasks.length).toBeGreaterThan(0);
  const { longTasks } = await seenBy(page);
  expect(heldBy(longTasks, await stopTrace())).not.toEqual([]);
});

/** By the clock of the page, in milliseconds. */
interface Span {
  readonly startMs: number;
  readonly durationMs: number;
}

interface Task extends Span {
  /** Of the thread alone. */
  readonly cpuMs: number;
  readonly isOfTest: boolean;
}

/**
 * The long tasks that the page's own work made long: a software GPU takes the processor away from the thread for longer
 * than that, and the test's own questions run on the thread too, which is no doing of the page's.
 */
function heldBy(longTasks: readonly Span[], tasks: readonly Task[]): readonly Task[] {
  const overlaps = (a: Span, b: Span) => a.startMs < b.startMs + b.durationMs && b.startMs < a.startMs + a.durationMs;
  return longTasks.flatMap((long) => {
    const within = tasks.filter((task) => overlaps(task, long));
    expect(within, `the trace has the task at ${long.startMs} ms`).not.toEqual([]);
    return within.filter(({ cpuMs, isOfTest }) => cpuMs > LONG_TASK_MS && !isOfTest);
  });
}

function seenBy(page: Page): Promise<{ readonly longTasks: readonly Span[]; readonly shifts: number }> {
  return page.evaluate(() => Reflect.get(globalThis, 'seen'));
}

/** Runs in the page: notes long tasks and shifts of the layout that no input caused. */
function observe(): void {
  const seen: { longTasks: { startMs: number; durationMs: number }[]; shifts: number } = { longTasks: [], shifts: 0 };
  Reflect.set(globalThis, 'seen', seen);
  new PerformanceObserver((list) => {
    seen.longTasks.push(
      ...list.getEntries().map(({ startTime, duration }) => ({ startMs: startTime, durationMs: duration })),
    );
  }).observe({ type: 'longtask', buffered: true });
  new PerformanceObserver((list) => {
    for (const entry of list.getEntries()) {
      if (Reflect.get(entry, 'hadRecentInput') === false) seen.shifts += Number(Reflect.get(entry, 'value'));
    }
  }).observe({ type: 'layout-shift', buffered: true });
}

/** The tasks of the page's main thread from now until the result is called. */
async function traceTasks(page: Page): Promise<() => Promise<readonly Task[]>> {
  const client = await page.context().newCDPSession(page);
  const events: Readonly<Record<string, unknown>>[] = [];
  client.on('Tracing.dataCollected', ({ value }) => events.push(...value));
  const includedCategories = ['toplevel', 'disabled-by-default-devtools.timeline', 'blink.user_timing'];
  await client.send('Tracing.start', { transferMode: 'ReportEvents', traceConfig: { includedCategories } });
  return async () => {
    // Says which thread is the page's, and what its clock reads by the trace's.
    const markMs = await page.evaluate((name) => performance.mark(name).startTime, MARK);
    const complete = new Promise((resolve) => client.once('Tracing.tracingComplete', resolve));
    await client.send('Tracing.end');
    await complete;
    const mark = events.find(({ name }) => name === MARK);
    expect(mark, 'the trace has the mark').toBeDefined();
    const offsetMs = Number(mark?.['ts']) / 1000 - markMs;
    const ofThread = events.filter(({ pid, tid }) => pid === mark?.['pid'] && tid === mark?.['tid']);
    const questions = ofThread
      .filter(({ args }) => JSON.stringify(args).includes(DEV_TOOLS))
      .map(({ ts }) => Number(ts));
    return ofThread
      .filter(({ name }) => name === 'RunTask')
      .map(({ ts, dur, tdur }) => {
        const [start, duration] = [Number(ts), Number(dur ?? 0)];
        return {
          startMs: start / 1000 - offsetMs,
          durationMs: duration / 1000,
          cpuMs: Number(tdur ?? 0) / 1000,
          isOfTest: questions.some((at) => at >= start && at < start + duration),
        };
      });
  };
}

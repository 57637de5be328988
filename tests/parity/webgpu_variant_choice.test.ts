// The choice of a kernel variant at start-up is made within its bound of time, by whatever clock.

import { expect, type TestContext, test, vi } from 'vitest';
import { DEFAULT_FORM } from '../../core/forms.js';
import { BLOCK_SIZE } from '../../core/index.js';
import { DeviceGuard } from '../../shaders/device_guard.js';
import type { DotVariant } from '../../shaders/index.js';
import { Pipelines } from '../../shaders/pipelines.js';
import { BUDGET_MS, type Entrant, fasterOf } from '../../shaders/variant_race.js';
import { useDawn } from './webgpu_device.js';

const dawn = useDawn();

/** Both dot products, compiled; and how often a kernel is submitted from then on. */
async function entrantsOn(context: TestContext) {
  const { device } = dawn(context);
  const guard = new DeviceGuard(device);
  const entrant = async (dot: DotVariant): Promise<Entrant> => {
    const pipelines = new Pipelines(guard, { reduction: 'workgroup', dot });
    const specialisation = {
      linears: 1,
      rows: 1,
      runSize: BLOCK_SIZE,
      layout: 'coalesced',
      form: DEFAULT_FORM,
    } as const;
    return { pipelines, kernel: await pipelines.matmul({ ...specialisation, outputType: 'f32', quantizes: false }) };
  };
  const entrants = [await entrant('packed'), await entrant('unpacked')];
  const submit = vi.spyOn(device.queue, 'submit');
  return { guard, entrants, submissions: () => submit.mock.calls.length };
}

/** A clock that each reading moves on: a measurement takes two. */
function clockOf(stepMs: number) {
  let readings = 0;
  return { now: () => stepMs * readings++, passedMs: () => stepMs * (readings - 1) };
}

test('a device so slow that one measurement takes all the time: no other is begun, and the choice is the first', async (context) => {
  const { guard, entrants, submissions } = await entrantsOn(context);
  const before = submissions();
  const { pipelines, why } = await fasterOf(guard, entrants, clockOf(BUDGET_MS + 1).now);
  // A first use of each, and one measurement.
  expect(submissions() - before).toBe(entrants.length + 1);
  expect(pipelines).toBe(entrants[0]!.pipelines);
  expect(why).toMatch(/packed 51\.0 ms, .*unpacked not in time/);
});

test('a slow device: both are measured once, and no more rows follow', async (context) => {
  const { guard, entrants, submissions } = await entrantsOn(context);
  const before = submissions();
  const { pipelines, why } = await fasterOf(guard, entrants, clockOf(BUDGET_MS / 8).now);
  expect(submissions() - before).toBe(2 * entrants.length);
  // Equally fast: the first in the order of preference.
  expect(pipelines).toBe(entrants[0]!.pipelines);
  expect(why).not.toMatch(/not in time/);
});

test('a clock of any speed: the race ends within its time and the measurement that is under way', async (context) => {
  const { guard, entrants } = await entrantsOn(context);
  for (const stepMs of [1, 5, 20, 49, 200]) {
    const clock = clockOf(stepMs);
    const { pipelines } = await fasterOf(guard, entrants, clock.now);
    expect(entrants.map((entrant) => entrant.pipelines)).toContain(pipelines);
    // First uses and the readings around the race itself: a few steps.
    expect(clock.passedMs()).toBeLessThan(BUDGET_MS + 12 * stepMs);
  }
});

test('on a device so fast that only submissions are measured, their times decide nothing', async (context) => {
  const { guard, entrants } = await entrantsOn(context);
  const { device } = guard;
  const createBindGroup = device.createBindGroup.bind(device);
  const [slow, fast] = entrants;
  let nowMs = 0;
  const bind = vi.spyOn(device, 'createBindGroup').mockImplementation((descriptor) => {
    if (descriptor.layout === slow!.kernel.bindGroupLayout) nowMs += 1;
    return createBindGroup(descriptor);
  });
  const submit = vi.spyOn(device.queue, 'submit').mockImplementation(() => undefined);
  const { pipelines } = await fasterOf(guard, [slow!, fast!], () => nowMs);
  submit.mockRestore();
  bind.mockRestore();
  expect(pipelines).toBe(slow!.pipelines);
});

test('the faster one is chosen, whatever the order', async (context) => {
  const { guard, entrants } = await entrantsOn(context);
  const { device } = guard;
  const createBindGroup = device.createBindGroup.bind(device);
  for (const [slow, fast] of [entrants, entrants.toReversed()]) {
    // Time passes only while the slow one is measured.
    let nowMs = 0;
    const bind = vi.spyOn(device, 'createBindGroup').mockImplementation((descriptor) => {
      if (descriptor.layout === slow!.kernel.bindGroupLayout) nowMs += 5;
      return createBindGroup(descriptor);
    });
    const { pipelines } = await fasterOf(guard, [slow!, fast!], () => nowMs);
    bind.mockRestore();
    expect(pipelines).toBe(fast!.pipelines);
  }
});

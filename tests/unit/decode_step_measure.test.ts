// The decode step is measured only when every bit of every kernel is right, and only with the kernels that fit.

import { describe, expect, test } from 'vitest';
import type { DeviceInfo } from '../../core/index.js';
import type { KernelName } from '../../node/bench/contenders.js';
import type { DecodeLinear } from '../../node/bench/decode_step.js';
import { measureDecodeStep } from '../../node/bench/decode_step_measure.js';
import { type DecodeStepReport, formatDecodeStep, reportDecodeStep } from '../../node/bench/decode_step_report.js';
import { weightBytesOf } from '../../node/bench/decode_step_resident.js';
import { type Impostor, ImpostorBackend } from './impostor_backend.js';

/** A layer and a head of which every linear has rows of its own, so that a fault can be planted in one. */
const LINEARS: readonly DecodeLinear[] = [
  { name: 'layer 0 q', layer: 0, n: 96, k: 64, xFrom: null, outputType: 'bf16' },
  { name: 'layer 0 o', layer: 0, n: 64, k: 96, xFrom: 0, outputType: 'bf16' },
  { name: 'layer 1 down', layer: 1, n: 128, k: 64, xFrom: 1, outputType: 'bf16' },
  { name: 'head', layer: null, n: 200, k: 128, xFrom: 2, outputType: 'f32' },
];
const STEP_BYTES = weightBytesOf(LINEARS);
const ALL: readonly KernelName[] = ['native', 'plain', 'samebits'];

async function measure(how: Impostor, options: { replays?: number; freeBytes?: number | null } = {}) {
  const timed: KernelName[] = [];
  const backend = new ImpostorBackend({ ...how, timed });
  const { replays = 4, freeBytes = null } = options;
  try {
    return { backend, timed, measurement: await measureDecodeStep(backend, { linears: LINEARS, replays, freeBytes }) };
  } finally {
    await backend.dispose();
  }
}

describe('a step whose bits are right', () => {
  test('is timed in rounds of all kernels, the baselines first', async () => {
    const { timed, measurement } = await measure({}, { replays: 8 });
    expect(measurement.difference).toBeNull();
    expect(measurement.skipped).toEqual([]);
    expect(measurement.verifiedOutputs).toBeGreaterThanOrEqual(4 * 6);
    expect(measurement.timings.map(({ kernel }) => kernel)).toEqual(ALL);
    const turns = timed.filter((kernel, i) => kernel !== timed[i - 1]);
    expect(turns).toEqual([...ALL, ...ALL, ...ALL, ...ALL]);
    for (const { step, wall, latency, head } of measurement.timings) {
      expect([step.samples, wall.samples, latency.samples, head.samples]).toEqual([8, 4, 8, 8]);
      expect([step.minUs, step.medianUs, step.maxUs]).toEqual([100, 101, 101]);
    }
  });
});

describe('a planted wrong bit', () => {
  test.each(ALL.flatMap((kernel) => LINEARS.map(({ name, n }) => ({ kernel, name, n }))))(
    'of $kernel in $name stops before anything is timed',
    async ({ kernel, name, n }) => {
      const { timed, measurement } = await measure({ fault: { kernel, n } });
      expect(timed).toEqual([]);
      expect(measurement.timings).toEqual([]);
      expect(measurement.difference).toMatchObject({ kernel, linear: name, m: 0, n: 0 });
    },
  );

  test('that comes only while timing is found after it, and no time is reported', async () => {
    const { timed, measurement } = await measure({ fault: { kernel: 'plain', n: 96, afterRuns: 3 } });
    expect(timed).toContain('plain');
    expect(measurement.timings).toEqual([]);
    expect(measurement.difference).toMatchObject({ kernel: 'plain', linear: 'layer 0 q' });
  });
});

describe('memory', () => {
  const tooLarge = expect.objectContaining({ code: 'DEVICE_OUT_OF_MEMORY' });

  test('for no kernel is refused with the layers that would fit, before anything is uploaded', async () => {
    const call = measure({ room: 0 }, { freeBytes: STEP_BYTES });
    await expect(call).rejects.toThrow(tooLarge);
    await expect(call).rejects.toThrow(/for 2 layers and the head; got .* free\. Use '--layers 1' or fewer/);
  });

  test('that ends during the upload of the kernel in use is refused so too', async () => {
    const call = measure({ room: 3 });
    await expect(call).rejects.toThrow(tooLarge);
    await expect(call).rejects.toThrow(/got a device that took .* GB\. Use '--layers 0'/);
  });

  test.each([
    ['known', {}, { freeBytes: 2.5 * STEP_BYTES }],
    ['found out', { room: 2 * LINEARS.length + 1 }, {}],
  ])('for two kernels, %s, leaves out a baseline and says so', async (_, how, options) => {
    const { measurement } = await measure(how, options);
    expect(measurement.timings.map(({ kernel }) => kernel)).toEqual(['plain', 'samebits']);
    expect(measurement.skipped).toEqual([
      { kernel: 'native', reason: expect.stringMatching(/^no room for .* GB more/) },
    ]);
  });
});

test('a list with a gap is refused', async () => {
  const linears = LINEARS.map((linear) => ({ ...linear, xFrom: null }));
  const call = measureDecodeStep(new ImpostorBackend(), { linears, replays: 1, freeBytes: null });
  await expect(call).rejects.toThrow(expect.objectContaining({ code: 'ARGUMENT_INVALID' }));
});

describe('the report', () => {
  const nvidia: DeviceInfo = { name: 'nvidia-h200', isSoftware: false, details: { vendor: 'nvidia', driver: '1.2' } };
  const spread = (medianUs: number) => ({ medianUs, minUs: medianUs, maxUs: medianUs, samples: 1 });
  const timing = (kernel: KernelName, us: number) => ({
    kernel,
    step: spread(us),
    wall: spread(2 * us),
    latency: spread(3 * us),
    head: spread(us / 2),
  });

  function report(name: 'cuda' | 'webgpu', us: number, device: DeviceInfo, cuda: DecodeStepReport | null) {
    const timings = [timing('native', 3 * us), timing('samebits', us)];
    const measurement = { verifiedOutputs: 7, timings, skipped: [{ kernel: 'plain' as const, reason: 'no room' }] };
    const run = { backend: { name, device }, clocks: null, linears: LINEARS, divisor: 1, readingsGBps: [1, 4] };
    return reportDecodeStep({ ...run, measurement: { ...measurement, difference: null } }, cuda);
  }

  test('rates against the best reading, and baselines against the kernel in use', () => {
    const { roof, kernels, ratios, toCuda, driver } = report('cuda', 10, nvidia, null);
    expect(roof).toEqual({ bandwidthGBps: 4, measuredOn: 'cuda' });
    expect(driver).toBe('1.2');
    expect(toCuda).toBeNull();
    expect(ratios.step).toEqual({ nativeToSamebits: 3, plainToSamebits: null });
    const { step } = kernels.find(({ kernel }) => kernel === 'samebits')!;
    expect(step.stepsPerSecond).toBe(100_000);
    expect(step.bandwidthGBps).toBeCloseTo(STEP_BYTES / 10 / 1000, 9);
    expect(step.percentOfRoof).toBeCloseTo((100 * step.bandwidthGBps) / 4, 9);
  });

  test('compares WebGPU on the same GPU with CUDA, by both clocks', () => {
    const cuda = report('cuda', 10, nvidia, null);
    const webgpu = report('webgpu', 12, nvidia, cuda);
    expect(webgpu.roof.measuredOn).toBe('cuda');
    expect(webgpu.toCuda).toEqual({ step: 1.2, wall: 1.2, head: 1.2 });
    expect(formatDecodeStep(webgpu)).toMatch(
      /to CUDA in this run: 1\.20x by the device's clock, 1\.20x by the wall clock/,
    );
    expect(formatDecodeStep(webgpu)).toMatch(/\(b\).*: SKIPPED \(no room\)/);
  });

  test('does not compare a software adapter with CUDA', () => {
    const software = { ...nvidia, isSoftware: true };
    const webgpu = report('webgpu', 12, software, report('cuda', 10, nvidia, null));
    expect(webgpu.roof.measuredOn).toBe('webgpu');
    expect(webgpu.toCuda).toBeNull();
  });
});

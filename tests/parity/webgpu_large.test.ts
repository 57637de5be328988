// The largest weight of Gemma 4 31B, its head of 705 MB of codes, on the least device that WebGPU allows.

import { expect, test } from 'vitest';
import { CoalescedInt4Tensor, int4PlainMM } from '../../core/index.js';
import { decodeInput } from '../../node/bench/decode_step.js';
import { sampleRows, syntheticWeight } from '../../node/bench/synthetic_weight.js';
import { WebGPUWeight } from '../../shaders/device_weight.js';
import { WebGPUBackend } from '../../shaders/index.js';
import { bytesOf, expectBits, f32From, useDawn } from './webgpu_device.js';

const dawn = useDawn();
const [N, K, GROUP_SIZE] = [262_144, 5376, 32];
const SAMPLED_ROWS = 96;

test('a head of 705 MB runs on a device with default limits, in slices that fit a binding', async (context) => {
  const adapter = (await dawn(context).keepAlive.gpu.requestAdapter())!;
  const device = await adapter.requestDevice();
  const { maxStorageBufferBindingSize } = device.limits;
  expect((N * K) / 2).toBeGreaterThan(5 * maxStorageBufferBindingSize);
  const backend = await WebGPUBackend.create(device, { ownsDevice: true });
  context.onTestFinished(() => backend.dispose());
  const tensor = CoalescedInt4Tensor.fromInt4Tensor(syntheticWeight(N, K, GROUP_SIZE));
  const weight = await backend.upload(tensor);
  if (!(weight instanceof WebGPUWeight)) throw new Error('not a WebGPUWeight');
  for (const { qdata, groups } of weight.slices) {
    expect(Math.max(qdata.size, groups.size)).toBeLessThanOrEqual(maxStorageBufferBindingSize);
  }

  const input = decodeInput(K);
  const x = await backend.createBuffer(input.byteLength);
  await x.write(bytesOf(input));
  const y = await backend.createBuffer(N * 4);
  const plan = await backend.plan([{ m: 1, x, weight, y, outputType: 'f32' }]);
  await plan.run();
  const outputs = f32From(await y.read());

  const { rows, sample } = sampleRows(tensor, SAMPLED_ROWS);
  // Of every slice.
  for (const { nFirst, n } of weight.slices) expect(rows.some((row) => row >= nFirst && row < nFirst + n)).toBe(true);
  expectBits(
    int4PlainMM(input, sample),
    Float32Array.from(rows, (row) => outputs[row]!),
    rows.length,
  );
});

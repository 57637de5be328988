// What the WebGPU test files share: the Dawn device, opened once a file, and small linears to run on it.

import { afterAll, beforeAll, expect, type TestContext } from 'vitest';
import {
  type ActivationKind,
  CoalescedInt4Tensor,
  drawActivations,
  drawWeight,
  type ErrorCode,
  firstDifference,
  formatDifference,
  SamebitsError,
  type WeightKind,
} from '../../core/index.js';
import { type DawnDevice, openDawnDevice } from '../../node/dawn_device.js';
import { ranOn, skipWithout } from '../backend_report.js';

const BACKEND = 'webgpu (Dawn)';

/** Gives each test the file's device; skips the test, loudly, where there is none. Call at the top of a file. */
export function useDawn(): (context: TestContext) => DawnDevice {
  let opened: DawnDevice | string = 'not opened';
  beforeAll(async () => {
    opened = await dawnOrReason();
  });
  afterAll(() => {
    if (typeof opened !== 'string') opened.device.destroy();
  });
  return (context) => usable(opened, context);
}

/** A device of the test's own, which it may lose; skips as useDawn does. */
export async function ownDawn(context: TestContext): Promise<DawnDevice> {
  return usable(await dawnOrReason(), context);
}

async function dawnOrReason(): Promise<DawnDevice | string> {
  try {
    return await openDawnDevice();
  } catch (error) {
    if (error instanceof SamebitsError && error.code === 'BACKEND_UNAVAILABLE') return error.got;
    throw error;
  }
}

function usable(opened: DawnDevice | string, context: TestContext): DawnDevice {
  if (typeof opened === 'string') skipWithout(context, BACKEND, opened);
  ranOn(context, BACKEND, opened.info.name);
  return opened;
}

export interface SmallCase {
  readonly n?: number;
  readonly k?: number;
  readonly groupSize?: number;
  readonly m?: number;
  readonly weights?: WeightKind;
  readonly activations?: ActivationKind;
}

/** A weight in both layouts and activations for it, drawn from their shape. */
export function drawSmall(of: SmallCase = {}) {
  const { n = 21, k = 512, groupSize = 32, m = 1, weights = 'real-zero', activations = 'outlier' } = of;
  const name = `webgpu n${n}-k${k}-g${groupSize}-m${m}-${weights}-${activations}`;
  const native = drawWeight({ name, n, k, groupSize, weights });
  const x = drawActivations({ name, m, k, activations });
  return { n, k, groupSize, m, native, weight: CoalescedInt4Tensor.fromInt4Tensor(native), x };
}

/** Every bit equal, or the first that is not. */
export function expectBits(expected: Float32Array | Uint16Array, actual: Float32Array | Uint16Array, n: number): void {
  const difference = firstDifference(expected, actual, n);
  expect(difference === null ? 'equal' : formatDifference(difference)).toBe('equal');
}

export const bytesOf = (values: Uint16Array | Float32Array) =>
  new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
export const f32From = (bytes: Uint8Array) => new Float32Array(bytes.slice().buffer);
export const bf16From = (bytes: Uint8Array) => new Uint16Array(bytes.slice().buffer);

/** What a refusal must match: `await expect(call).rejects.toThrow(refusal('DISPOSED'))`. */
export const refusal = (code: ErrorCode) => expect.objectContaining({ name: 'SamebitsError', code });

/** Counts the bytes of buffers that live on a device from now on. */
export function countBuffers(device: GPUDevice): { bytes(): number } {
  const live = new Map<GPUBuffer, number>();
  const create = device.createBuffer;
  device.createBuffer = (descriptor) => {
    const buffer = create.call(device, descriptor);
    const destroy = buffer.destroy;
    live.set(buffer, descriptor.size);
    buffer.destroy = () => {
      live.delete(buffer);
      return destroy.call(buffer);
    };
    return buffer;
  };
  return { bytes: () => [...live.values()].reduce((sum, size) => sum + size, 0) };
}

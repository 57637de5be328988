// Faults planted in the kernels: a device that compiles sources with words exchanged.

import { expect, onTestFinished } from 'vitest';

/** Words of a kernel, and what stands there instead. */
export type Edit = readonly [from: string, to: string];

/** Makes `device` compile edited sources until the test is over. */
export function plant(device: GPUDevice, edits: readonly Edit[]): void {
  const real = device.createShaderModule;
  const found = edits.map(() => 0);
  device.createShaderModule = (descriptor) => {
    let code = descriptor.code;
    edits.forEach(([from, to], i) => {
      found[i] = Math.max(found[i]!, code.split(from).length - 1);
      code = code.replace(from, () => to);
    });
    return real.call(device, { ...descriptor, code });
  };
  onTestFinished(() => {
    device.createShaderModule = real;
    expect(found).toEqual(edits.map(() => 1));
  });
}

// What an adapter is, for people, and what to ask it for.

import type { DeviceInfo } from '../core/backend.js';

/** Names of drivers that compute on the CPU. */
const SOFTWARE = /swiftshader|llvmpipe|lavapipe|basic render/i;

/** Names an adapter, and says whether it is a CPU in disguise. */
export function describeAdapter(info: GPUAdapterInfo): DeviceInfo {
  const names = [info.description, info.device, info.architecture, info.vendor].filter((text) => text !== '');
  return {
    name: names[0] ?? 'WebGPU adapter',
    isSoftware: info.isFallbackAdapter || names.some((text) => SOFTWARE.test(text)),
    details: { api: 'WebGPU', vendor: info.vendor, architecture: info.architecture, driver: info.description },
  };
}

/**
 * The device that large weights and exact timings want: every buffer size that the adapter offers, and timestamps where
 * it has them. A device with default limits works too; weights are then cut into more slices.
 */
export function deviceDescriptor(adapter: GPUAdapter): GPUDeviceDescriptor {
  const { maxBufferSize, maxStorageBufferBindingSize } = adapter.limits;
  const features: GPUFeatureName[] = ['timestamp-query'];
  return {
    label: 'samebits',
    requiredFeatures: features.filter((feature) => adapter.features.has(feature)),
    requiredLimits: { maxBufferSize, maxStorageBufferBindingSize },
  };
}

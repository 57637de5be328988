// What an adapter is, for people, and what to ask it for.

import { requireFields, requireObject } from '../core/argument_checks.js';
import type { DeviceInfo } from '../core/backend.js';
import { LINEAR_STORAGE_BUFFERS, MAX_LINEARS, SHARED_STORAGE_BUFFERS } from './kernel_sources.js';

/** Drivers that compute on the CPU, by what their adapters say of themselves. */
const SOFTWARE_DRIVERS: readonly (readonly [pattern: RegExp, name: string])[] = [
  [/swiftshader/i, 'SwiftShader'],
  [/llvmpipe|lavapipe/i, 'llvmpipe'],
  [/basic render/i, 'Microsoft Basic Render Driver'],
];

/** Names the adapter of a device. */
export function describeDevice(device: GPUDevice): DeviceInfo {
  // Absent in browsers older than the attribute, whatever its type says.
  const info: GPUAdapterInfo | undefined = device.adapterInfo;
  return info ? describeAdapter(info) : { name: 'WebGPU device', isSoftware: false, details: { api: 'WebGPU' } };
}

/** Names an adapter, and says whether it is a CPU in disguise. Browsers hide much of this; what is hidden is left out. */
export function describeAdapter(info: GPUAdapterInfo): DeviceInfo {
  const { vendor = '', architecture = '', device = '', description = '' } = requireObject(info, 'what an adapter says');
  const everything = [vendor, architecture, device, description].join(' ');
  const software = SOFTWARE_DRIVERS.find(([pattern]) => pattern.test(everything))?.[1];
  const family = [vendor, architecture].filter((word) => word !== '').join(' ');
  const details = { api: 'WebGPU', vendor, architecture, device, driver: description };
  return {
    name: software ?? (device || family || description || 'WebGPU adapter'),
    isSoftware: software !== undefined || info.isFallbackAdapter === true,
    details: Object.fromEntries(Object.entries(details).filter(([, value]) => value !== '')),
  };
}

/** Storage buffers of a dispatch that takes as many linears as one can. */
const USEFUL_STORAGE_BUFFERS = SHARED_STORAGE_BUFFERS + MAX_LINEARS * LINEAR_STORAGE_BUFFERS;

/**
 * The device that large weights and exact timings want: every buffer size that the adapter offers, bindings for linears
 * side by side, and timestamps and subgroups where it has them. A device with default limits and no features works too:
 * its weights are cut into more slices, and its linears run one after the other.
 */
export function deviceDescriptor(adapter: GPUAdapter): GPUDeviceDescriptor {
  const { maxBufferSize, maxStorageBufferBindingSize, maxStorageBuffersPerShaderStage } = requireFields(
    adapter,
    'a GPUAdapter',
    ['limits', 'features'],
  ).limits;
  const features: GPUFeatureName[] = ['timestamp-query', 'subgroups'];
  return {
    label: 'samebits',
    requiredFeatures: features.filter((feature) => adapter.features.has(feature)),
    requiredLimits: {
      maxBufferSize,
      maxStorageBufferBindingSize,
      maxStorageBuffersPerShaderStage: Math.min(USEFUL_STORAGE_BUFFERS, maxStorageBuffersPerShaderStage),
    },
  };
}

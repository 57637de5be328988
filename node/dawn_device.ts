// WebGPU in Node: a device from Dawn, the `webgpu` package, on a GPU or on SwiftShader.

import { isMainThread } from 'node:worker_threads';
import { kindOf } from '../core/argument_checks.js';
import { type DeviceInfo, type PassedOver, unavailableError } from '../core/backend.js';
import { SamebitsError } from '../core/errors.js';
import { describeAdapter, deviceDescriptor, WebGPUBackend } from '../shaders/index.js';
import { findSoftwareDriver, provideLoader, withDriver } from './software_vulkan.js';

export interface DawnDeviceOptions {
  /** 'auto' (default): a GPU, or else a CPU driver. 'hardware', 'software': no other will do. */
  readonly adapter?: 'auto' | 'hardware' | 'software';
}

/** A device, and what Dawn needs to be kept as long as it is used. */
export interface DawnDevice {
  readonly device: GPUDevice;
  readonly info: DeviceInfo;
  /** The adapter must not be collected before the device; the instance never is. */
  readonly keepAlive: { readonly gpu: GPU; readonly adapter: GPUAdapter };
}

const ADAPTERS: readonly unknown[] = ['auto', 'hardware', 'software'];

/** Exact times; Dawn would round them to protect web pages from each other. */
const INSTANCE_FLAGS = ['disable-dawn-features=timestamp_quantization'];
const INSTALL_DRIVER =
  "Install a GPU's Vulkan driver, or a Chromium, whose SwiftShader driver samebits uses (Debian: 'apt-get install chromium').";

/** Drivers are named to the Vulkan loader in the environment, of which a worker thread has but a copy. */
const SHARE_ENVIRONMENT = "Start this worker thread with 'env: SHARE_ENV', or open the device in the main thread.";

/**
 * A WebGPU backend on a device of its own, which dies with it.
 * @throws SamebitsError BACKEND_UNAVAILABLE with the reason
 */
export async function openDawnBackend(
  passedOver: readonly PassedOver[] = [],
  options: DawnDeviceOptions = {},
): Promise<WebGPUBackend> {
  const { device, info, keepAlive } = await openDawnDevice(options);
  return WebGPUBackend.create(device, { ownsDevice: true, info, keepAlive, passedOver });
}

/**
 * A device with every buffer size that the adapter offers. The caller destroys it, and keeps `keepAlive` until then.
 * @throws SamebitsError BACKEND_UNAVAILABLE with the reason
 */
export async function openDawnDevice({ adapter: wanted = 'auto' }: DawnDeviceOptions = {}): Promise<DawnDevice> {
  if (!ADAPTERS.includes(wanted)) {
    throw new SamebitsError('ARGUMENT_INVALID', {
      rule: 'an adapter is chosen by its kind',
      expected: ADAPTERS.join(', '),
      got: kindOf(wanted),
      fix: 'Leave it out for a GPU, or else a CPU driver.',
    });
  }
  const { create } = await importDawn();
  const driver = wanted === 'hardware' || process.platform !== 'linux' ? null : findSoftwareDriver();
  if (process.platform === 'linux' && !provideLoader(driver)) {
    throw unavailableError('webgpu', 'no Vulkan loader (libvulkan.so.1) on this machine', INSTALL_DRIVER);
  }
  // Loaders older than 1.3.207 know only one of the two ways to name a driver.
  const roles = driver === null ? (['besides'] as const) : (['besides', 'instead'] as const);
  for (const role of roles) {
    const found = await requestAdapter(create, wanted, driver, role);
    if (found === null) continue;
    const info = describeAdapter(found.adapter.info);
    if (wanted !== 'auto' && info.isSoftware !== (wanted === 'software')) continue;
    return { device: await requestDevice(found.adapter), info, keepAlive: found };
  }
  const what = wanted === 'auto' ? 'no WebGPU adapter' : `no ${wanted} WebGPU adapter`;
  const isBlind = driver !== null && !isMainThread;
  throw unavailableError('webgpu', `${what} on this machine`, isBlind ? SHARE_ENVIRONMENT : INSTALL_DRIVER);
}

async function requestDevice(adapter: GPUAdapter): Promise<GPUDevice> {
  try {
    return await adapter.requestDevice(deviceDescriptor(adapter));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw unavailableError('webgpu', `the adapter gave no device: ${reason}`, "Run 'samebits doctor'.", cause);
  }
}

type CreateInstance = (flags: string[]) => GPU;

/**
 * Every instance of this process, by driver and role. Dawn polls for the events of an instance that was collected, also
 * after its last device was destroyed, and then crashes or waits for a mutex that is gone; so none is ever given up.
 */
const instances = new Map<string, GPU>();

async function importDawn(): Promise<{ create: CreateInstance }> {
  try {
    return await import('webgpu');
  } catch (cause) {
    const isMissing = cause instanceof Error && 'code' in cause && cause.code === 'ERR_MODULE_NOT_FOUND';
    const reason = isMissing
      ? "the 'webgpu' package is not installed"
      : `the 'webgpu' package does not load: ${cause instanceof Error ? cause.message : String(cause)}`;
    throw unavailableError('webgpu', reason, "Run 'npm install webgpu'.", cause);
  }
}

async function requestAdapter(
  create: CreateInstance,
  wanted: 'auto' | 'hardware' | 'software',
  driver: string | null,
  role: 'besides' | 'instead',
): Promise<{ gpu: GPU; adapter: GPUAdapter } | null> {
  // Dawn reads the environment when the adapter is asked for, not when it comes.
  const { gpu, pending } = withDriver(driver, role, () => {
    const key = `${role} ${driver}`;
    const gpu = instances.get(key) ?? create(INSTANCE_FLAGS);
    instances.set(key, gpu);
    const forceFallbackAdapter = wanted === 'software';
    return { gpu, pending: gpu.requestAdapter({ powerPreference: 'high-performance', forceFallbackAdapter }) };
  });
  const adapter = await pending;
  return adapter === null ? null : { gpu, adapter };
}

// WebGPU in a browser: a device from navigator.gpu, or the reason why there is none.

import { type PassedOver, unavailableError } from '../core/backend.js';
import { deviceDescriptor, WebGPUBackend } from '../shaders/index.js';

/**
 * A WebGPU backend on a device of its own, which dies with it.
 * @throws SamebitsError BACKEND_UNAVAILABLE with the reason
 */
export async function openBrowserBackend(passedOver: readonly PassedOver[] = []): Promise<WebGPUBackend> {
  return WebGPUBackend.create(await requestBrowserDevice(), { ownsDevice: true, passedOver });
}

/**
 * A device with every buffer size that the browser's adapter offers. Works in pages and in workers.
 * @throws SamebitsError BACKEND_UNAVAILABLE with the reason
 */
export async function requestBrowserDevice(): Promise<GPUDevice> {
  const adapter = await requestAdapter();
  try {
    return await adapter.requestDevice(deviceDescriptor(adapter));
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw unavailableError('webgpu', `the adapter gave no device: ${reason}`, 'Reload the page.', cause);
  }
}

async function requestAdapter(): Promise<GPUAdapter> {
  // Absent in browsers without WebGPU and in pages that are not secure, whatever its type says.
  const gpu: GPU | undefined = globalThis.navigator?.gpu;
  if (gpu === undefined) {
    throw globalThis.isSecureContext === false
      ? unavailableError('webgpu', 'this page is not a secure context', 'Open it over https or from localhost.')
      : unavailableError('webgpu', 'this browser has no WebGPU', 'Use a current Chrome, Edge, Safari or Firefox.');
  }
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' });
  if (adapter !== null) return adapter;
  throw unavailableError(
    'webgpu',
    'the browser has WebGPU but offers no adapter: no GPU, a blocked driver, or WebGPU switched off',
    "See chrome://gpu; in Chromium '--enable-unsafe-webgpu --use-webgpu-adapter=swiftshader' computes on the CPU.",
  );
}

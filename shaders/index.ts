// The public surface of samebits/shaders: the backend for any GPUDevice, and what is needed to ask for a good one.

export { describeAdapter, deviceDescriptor } from './adapter.js';
export type { WebGPUBuffer } from './device_buffer.js';
export type { DotVariant } from './pipelines.js';
export { type EncodeOperands, WebGPUBackend, type WebGPUBackendOptions } from './webgpu_backend.js';

// The public surface of samebits/shaders: the backend for any GPUDevice, and what is needed to ask for a good one.

export { describeAdapter, deviceDescriptor } from './adapter.js';
export type { WebGPUDecoderCache } from './decoder_cache.js';
export type { WebGPUBuffer } from './device_buffer.js';
export type { DotVariant, KernelVariant, ReductionVariant } from './kernel_sources.js';
export type { VariantOptions } from './variant_choice.js';
export { type EncodeOperands, WebGPUBackend, type WebGPUBackendOptions } from './webgpu_backend.js';
export type { WebGPUDecoder } from './webgpu_decoder.js';

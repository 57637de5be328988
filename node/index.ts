// The public surface of samebits in Node: everything of core and shaders, and the backends that only Node has.

export * from '../core/index.js';
export * from '../shaders/index.js';
export { CudaBackend } from './cuda_backend.js';
export { openDawnBackend } from './dawn_device.js';
export { openBackend } from './open_backend.js';

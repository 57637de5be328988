// The public surface of samebits in Node: everything of core and shaders, and the backends and files that only Node has.

export * from '../core/index.js';
export * from '../shaders/index.js';
export { CudaBackend } from './cuda_backend.js';
export { openDawnBackend } from './dawn_device.js';
export { type ConvertFileOptions, convertFile } from './file_convert.js';
export { fileFolder, openFileSource } from './file_source.js';
export { openBackend } from './open_backend.js';

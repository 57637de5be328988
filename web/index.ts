// The browser entry of the package: opens a backend, and everything of samebits/core and samebits/shaders.

export * from '../core/index.js';
export * from '../shaders/index.js';
export { blobSource } from './blob_source.js';
export { openBrowserBackend, requestBrowserDevice } from './browser_device.js';
export { filesFolder } from './files_folder.js';
export { openBackend } from './open_backend.js';

import { resolve } from 'node:path';
import { defineConfig } from 'vitest/config';
import { kernelSourcesSha256 } from './scripts/kernel-sources.mjs';
import { pageRecords } from './scripts/page-records.mjs';
import { wasmKernels } from './scripts/wasm-kernels.mjs';

const fromRoot = (path: string) => resolve(import.meta.dirname, path);

// What a recorded run is checked against: the hashes of the kernels that this build was made with.
const define = {
  __CUDA_SOURCES_SHA256__: JSON.stringify(kernelSourcesSha256('cuda')),
  __SHADER_SOURCES_SHA256__: JSON.stringify(kernelSourcesSha256('shaders')),
};

// Engines know the values of top-level constants, lookup tables above all, but not those of the variables that bundlers make
// of them: conversion takes half as long.
const output = { topLevelVar: false };

const library = {
  define,
  plugins: [wasmKernels()],
  build: {
    outDir: 'dist',
    emptyOutDir: false,
    target: 'es2023',
    minify: false,
    sourcemap: true,
    lib: {
      entry: {
        'core/index': fromRoot('core/index.ts'),
        'shaders/index': fromRoot('shaders/index.ts'),
        'node/index': fromRoot('node/index.ts'),
        'node/cli': fromRoot('node/cli.ts'),
        'node/soak_worker': fromRoot('node/soak_worker.ts'),
        'node/convert_worker': fromRoot('node/convert_worker.ts'),
        'web/index': fromRoot('web/index.ts'),
      },
      formats: ['es' as const],
    },
    rolldownOptions: {
      output,
      external: [/^node:/, 'webgpu', 'commander', 'cli-progress', /^@noble\/hashes/, /^@huggingface\//],
    },
  },
  // Every core, where vitest would leave one idle: half of all tests wait for one thread of a software device.
  test: {
    include: ['tests/{unit,parity}/**/*.test.ts'],
    globalSetup: 'tests/native/build_on_host.ts',
    testTimeout: 120_000,
    maxWorkers: '100%',
  },
};

const page = {
  define,
  plugins: [wasmKernels(), pageRecords()],
  root: fromRoot('web'),
  base: './',
  worker: { format: 'es' as const, plugins: () => [wasmKernels()], rolldownOptions: { output } },
  build: { outDir: fromRoot('dist/page'), emptyOutDir: true, target: 'es2023', rolldownOptions: { output } },
};

export default defineConfig(({ mode }) => (mode === 'page' ? page : library));

// Constants that the build puts in (vite.config.ts).

declare const __CUDA_SOURCES_SHA256__: string;
declare const __SHADER_SOURCES_SHA256__: string;

// What the build makes of kernels/index.ts: the bytes of a WebAssembly module.

declare module '*?wasm' {
  const bytes: Uint8Array<ArrayBuffer>;
  export default bytes;
}

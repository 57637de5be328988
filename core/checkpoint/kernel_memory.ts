// The kernels of conversion, WebAssembly with SIMD that gives the same bits on every engine, and the memory they work in.

import { SamebitsError } from '../errors.js';

/** Functions of kernels/index.ts; what is a place is an address in their memory. */
export interface Kernels {
  transpose32(source: number, stride: number, rows: number, columns: number, out: number): void;
  transpose16(source: number, stride: number, rows: number, columns: number, out: number): void;
  transposeAwq(source: number, stride: number, k: number, columns: number, out: number): void;
  flipSigns(codes: number, sizeBytes: number): void;
  packSigned(source: number, sizeBytes: number, out: number): number;
  unpackZeroPoints(
    source: number,
    wordStride: number,
    groupStride: number,
    rows: number,
    nGroups: number,
    wordAddend: number,
    addend: number,
    isAwq: boolean,
    out: number,
  ): void;
  firstOutside(values: number, units: number, count: number, least: number, most: number): number;
  widenF16(source: number, count: number, out: number): void;
  widenBf16(source: number, count: number, out: number): void;
  unpackQ40(source: number, blocks: number, qdata: number, scale: number, zeroPoint: number): void;
  unpackQ41(source: number, blocks: number, qdata: number, scale: number, offset: number): void;
  unpackQ4K(source: number, blocks: number, qdata: number, scale: number, offset: number): void;
  unpackNestedQ4K(
    source: number,
    blocks: number,
    qdata: number,
    scale: number,
    offset: number,
    scaleStep: number,
    offsetStep: number,
  ): void;
  narrowGroups(
    scale: number,
    second: number,
    isOffset: boolean,
    top: number,
    isF16: boolean,
    count: number,
    scaleOut: number,
    secondOut: number,
  ): void;
  roundGroups(
    scale: number,
    second: number,
    isOffset: boolean,
    middle: number,
    count: number,
    scaleOut: number,
    zeroPointOut: number,
  ): void;
  addChanges(codes: number, groupBytes: number, count: number): void;
  addRowChanges(
    weights: number,
    qdata: number,
    groupSize: number,
    nGroups: number,
    scale: number,
    zeroPoint: number,
  ): void;
  regionsStart(): number;
  readonly CHUNK_GROUPS: WebAssembly.Global;
  readonly scales: WebAssembly.Global;
  readonly offsets: WebAssembly.Global;
  readonly slopes: WebAssembly.Global;
  readonly shifts: WebAssembly.Global;
  readonly specials: WebAssembly.Global;
  readonly results: WebAssembly.Global;
  readonly rowResults: WebAssembly.Global;
  readonly narrowed: WebAssembly.Global;
}

const PAGE_BYTES = 65536;
/** Regions start at lines of the cache. */
const ALIGNMENT = 64;
/** What kernels may touch behind a region. */
const SPARE_BYTES = 64;

/** Part of the memory. Views of it are good until the next region is taken. */
export class Region {
  constructor(
    private readonly memory: WebAssembly.Memory,
    readonly address: number,
    readonly sizeBytes: number,
  ) {}

  bytes(length = this.sizeBytes): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.memory.buffer, this.address, length);
  }

  u16(length: number): Uint16Array<ArrayBuffer> {
    return new Uint16Array(this.memory.buffer, this.address, length);
  }

  u32(length: number): Uint32Array<ArrayBuffer> {
    return new Uint32Array(this.memory.buffer, this.address, length);
  }

  f32(length: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.memory.buffer, this.address, length);
  }

  f64(length: number): Float64Array<ArrayBuffer> {
    return new Float64Array(this.memory.buffer, this.address, length);
  }
}

/**
 * One weight at a time works in it. It grows to what the largest one took and is used again: fresh pages cost more than work.
 */
export class KernelMemory {
  #end: number;

  private constructor(
    private readonly memory: WebAssembly.Memory,
    readonly kernels: Kernels,
  ) {
    this.#end = kernels.regionsStart();
  }

  /** @throws SamebitsError WEBASSEMBLY_UNAVAILABLE, HOST_OUT_OF_MEMORY */
  static async create(): Promise<KernelMemory> {
    try {
      compiled ??= compile();
      const memory = new WebAssembly.Memory({ initial: 1 });
      const { exports } = await WebAssembly.instantiate(await compiled, { env: { memory } });
      if (isKernels(exports)) return new KernelMemory(memory, exports);
      throw new TypeError('the module lacks a kernel');
    } catch (cause) {
      compiled = undefined;
      // What engines throw without memory, or without the address space that they reserve for it: some 10 GB.
      throw cause instanceof RangeError ? outOfMemory(PAGE_BYTES, cause) : unavailable(cause);
    }
  }

  /** Gives all regions back; what they hold is lost with the next ones. */
  clear(): void {
    this.#end = this.kernels.regionsStart();
  }

  /**
   * A region for as long as nothing is cleared.
   * @throws SamebitsError HOST_OUT_OF_MEMORY
   */
  take(sizeBytes: number): Region {
    const address = this.#end;
    const end = Math.ceil((address + sizeBytes + SPARE_BYTES) / ALIGNMENT) * ALIGNMENT;
    const missing = end - this.memory.buffer.byteLength;
    if (missing > 0) grow(this.memory, Math.ceil(missing / PAGE_BYTES));
    this.#end = end;
    return this.region(address, sizeBytes);
  }

  /** What a kernel keeps at an address of its own. */
  region(address: number, sizeBytes: number): Region {
    return new Region(this.memory, address, sizeBytes);
  }
}

let compiled: Promise<WebAssembly.Module> | undefined;

/** Loaded when it is needed first: most who use the library convert nothing. */
async function compile(): Promise<WebAssembly.Module> {
  const { default: bytes } = await import('./kernels/index.ts?wasm');
  return WebAssembly.compile(bytes);
}

function isKernels(exports: object): exports is Kernels {
  return 'roundGroups' in exports && 'regionsStart' in exports;
}

function grow(memory: WebAssembly.Memory, pages: number): void {
  try {
    memory.grow(pages);
  } catch (cause) {
    throw outOfMemory(pages * PAGE_BYTES, cause);
  }
}

function outOfMemory(sizeBytes: number, cause: unknown): SamebitsError {
  return new SamebitsError('HOST_OUT_OF_MEMORY', {
    rule: 'some rows of a weight must fit into memory',
    expected: `${sizeBytes} bytes more`,
    got: cause instanceof Error ? cause.message : String(cause),
    fix: 'Free memory; where ulimit -v limits addresses, run Node with --disable-wasm-trap-handler.',
    cause,
  });
}

function unavailable(cause: unknown): SamebitsError {
  return new SamebitsError('WEBASSEMBLY_UNAVAILABLE', {
    rule: 'WebAssembly with SIMD must be allowed where weights are converted',
    expected: 'an engine that compiles the kernels of conversion',
    got: cause instanceof Error ? cause.message : String(cause),
    fix: "A page's Content-Security-Policy must allow 'wasm-unsafe-eval'; Node must run without --jitless.",
    cause,
  });
}

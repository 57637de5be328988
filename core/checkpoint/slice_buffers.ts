// Memory that is used again for every slice of a weight: fresh pages cost more than the work on them.

/** Arrays by name. An array is good until the next one of its name is asked for; what it held before is still in it. */
export class SliceBuffers {
  readonly #byName = new Map<string, ArrayBuffer>();

  bytes(name: string, length: number): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.#buffer(name, length), 0, length);
  }

  u16(name: string, length: number): Uint16Array<ArrayBuffer> {
    return new Uint16Array(this.#buffer(name, 2 * length), 0, length);
  }

  f32(name: string, length: number): Float32Array<ArrayBuffer> {
    return new Float32Array(this.#buffer(name, 4 * length), 0, length);
  }

  f64(name: string, length: number): Float64Array<ArrayBuffer> {
    return new Float64Array(this.#buffer(name, 8 * length), 0, length);
  }

  #buffer(name: string, sizeBytes: number): ArrayBuffer {
    const existing = this.#byName.get(name);
    if (existing && existing.byteLength >= sizeBytes) return existing;
    const buffer = new ArrayBuffer(sizeBytes);
    this.#byName.set(name, buffer);
    return buffer;
  }
}

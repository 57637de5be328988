// Uniforms of many dispatches in one buffer, each in a slot of its own.

import { SLOT_BYTES } from './device_weight.js';
import { BufferUsage } from './gpu_flags.js';

/** A member of a uniform struct. */
export type UniformWord = { readonly u32: number } | { readonly f32: number };

export const u32 = (value: number): UniformWord => ({ u32: value });
export const f32 = (value: number): UniformWord => ({ f32: value });

/** Collects structs, then makes their buffer. */
export class UniformSlots {
  readonly #structs: (readonly UniformWord[])[] = [];

  /** The index of the slot. */
  add(...words: readonly UniformWord[]): number {
    return this.#structs.push(words) - 1;
  }

  get sizeBytes(): number {
    return this.#structs.length * SLOT_BYTES;
  }

  /** Call inside an error scope; the buffer is the caller's. */
  create(device: GPUDevice, label: string): GPUBuffer {
    const usage = BufferUsage.UNIFORM | BufferUsage.COPY_DST;
    const view = new DataView(new ArrayBuffer(this.sizeBytes));
    for (const [slot, words] of this.#structs.entries()) {
      for (const [i, word] of words.entries()) {
        const place = slot * SLOT_BYTES + 4 * i;
        if ('u32' in word) view.setUint32(place, word.u32, true);
        else view.setFloat32(place, word.f32, true);
      }
    }
    const buffer = device.createBuffer({ label, size: this.sizeBytes, usage });
    device.queue.writeBuffer(buffer, 0, view.buffer);
    return buffer;
  }
}

/** A slot's range of the buffer. */
export function uniformAt(buffer: GPUBuffer, slot: number): GPUBufferBinding {
  return { buffer, offset: slot * SLOT_BYTES, size: SLOT_BYTES };
}

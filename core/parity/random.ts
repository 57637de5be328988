// sfc32, a small seeded generator (PractRand, public domain): integer arithmetic only, so every engine draws the same.

import { kindOf, requireBytes } from '../argument_checks.js';
import { SamebitsError } from '../errors.js';

export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** @throws SamebitsError ARGUMENT_INVALID for what is no number */
  constructor(seed: number) {
    if (!Number.isFinite(seed)) throw notASeed('a finite number', seed);
    this.#a = seed | 0;
    this.#b = (seed / 2 ** 32) | 0;
    this.#c = 0x9e3779b9 | 0;
    for (let i = 0; i < 15; i++) this.u32();
  }

  /** A seed made of a name (FNV-1a), so that a case can be drawn again from its name alone. */
  static named(name: string): Random {
    if (typeof name !== 'string') throw notASeed('a name', name);
    let hash = 0x811c9dc5;
    for (const char of name) hash = Math.imul(hash ^ char.codePointAt(0)!, 0x01000193);
    return new Random(hash >>> 0);
  }

  u32(): number {
    const sum = (this.#a + this.#b + this.#counter++) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }

  /** An integer in 0..bound-1; bound at most 2^16 keeps the bias below 2^-16. */
  below(bound: number): number {
    return Math.floor((this.u32() / 2 ** 32) * bound);
  }

  /** Bell-shaped around 0 with variance 1: the sum of twelve uniforms, exact in every engine. */
  normal(): number {
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += this.u32() / 2 ** 32;
    return sum;
  }

  /** @throws SamebitsError DTYPE_MISMATCH */
  fillBytes(bytes: Uint8Array): void {
    requireBytes(bytes, 'what is filled');
    const words = Math.floor(bytes.length / 4);
    if (bytes.byteOffset % 4 === 0) {
      const view = new Uint32Array(bytes.buffer, bytes.byteOffset, words);
      for (let i = 0; i < words; i++) view[i] = this.u32();
      for (let i = words * 4; i < bytes.length; i++) bytes[i] = this.u32();
    } else {
      for (let i = 0; i < bytes.length; i++) bytes[i] = this.u32();
    }
  }
}

function notASeed(expected: string, got: unknown): SamebitsError {
  return new SamebitsError('ARGUMENT_INVALID', {
    rule: 'what is drawn must be drawn again from its seed',
    expected,
    got: kindOf(got),
    fix: 'Pass the seed, or the name, of the case.',
  });
}

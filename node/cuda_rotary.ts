// What a step on a CUDA device is told of the rotary embedding: cosines and sines of its positions, a kind after the other.

import { type DecoderConfig, type LayerConfig, TOKENS_PER_STEP } from '../core/model/decoder_config.js';
import { rotaryFrequencies, rotaryTable } from '../core/model/rotary.js';

/** Layers with the same frequencies, and where the pairs of their rows begin. */
interface RotaryKind {
  readonly frequencies: Float32Array;
  readonly offset: number;
}

/** Positions whose tables are kept: those of a step, and of the next one, made while the device runs this one. */
const KEPT_POSITIONS = 2 * TOKENS_PER_STEP;

export class CudaRotary {
  /** Floats of a step. */
  readonly length: number;
  readonly #kinds = new Map<string, RotaryKind>();
  readonly #rows = new Map<number, readonly Float32Array[]>();

  constructor(config: DecoderConfig) {
    let offset = 0;
    for (const layer of config.layers) {
      if (this.#kinds.has(keyOf(layer))) continue;
      const frequencies = rotaryFrequencies(layer).subarray(0, layer.rotaryFrequencies);
      this.#kinds.set(keyOf(layer), { frequencies, offset });
      offset += TOKENS_PER_STEP * frequencies.length * 2;
    }
    this.length = offset;
  }

  /** Where a layer's pairs begin. */
  offset(layer: LayerConfig): number {
    return this.#kinds.get(keyOf(layer))!.offset;
  }

  /** {cos, sin} f32[m, frequencies] of every kind, for positions `position`... */
  step(position: number, m: number): Float32Array {
    const floats = new Float32Array(this.length);
    for (let row = 0; row < m; row++) {
      const rows = this.#row(position + row);
      for (const [i, { offset }] of [...this.#kinds.values()].entries()) {
        floats.set(rows[i]!, offset + row * rows[i]!.length);
      }
    }
    return floats;
  }

  /** Makes the rows of these positions, to have them when a step asks. */
  prepare(position: number, m: number): void {
    for (let row = 0; row < m; row++) this.#row(position + row);
  }

  #row(position: number): readonly Float32Array[] {
    const known = this.#rows.get(position);
    if (known) return known;
    const made = [...this.#kinds.values()].map(({ frequencies }) => {
      const { cos, sin } = rotaryTable(frequencies, position);
      return Float32Array.from({ length: 2 * cos.length }, (_, i) => (i % 2 === 0 ? cos : sin)[i >> 1]!);
    });
    this.#rows.set(position, made);
    const [oldest] = this.#rows.keys();
    if (this.#rows.size > KEPT_POSITIONS && oldest !== undefined) this.#rows.delete(oldest);
    return made;
  }
}

function keyOf({ rotaryTheta, rotaryFrequencies: real, headSize }: LayerConfig): string {
  return `${rotaryTheta} ${real} ${headSize}`;
}

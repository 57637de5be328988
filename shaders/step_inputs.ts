// What the host gives a step: its tokens, their first position, and the cosines and sines of their positions for every kind
// of layer.

import { type DecoderConfig, type LayerConfig, TOKENS_PER_STEP } from '../core/model/decoder_config.js';
import { type RotaryTable, rotaryFrequencies, rotaryTable } from '../core/model/rotary.js';
import { SLOT_BYTES } from './device_weight.js';
import { BufferUsage } from './gpu_flags.js';

/** Layers that turn alike. */
interface RotaryKind {
  readonly key: string;
  readonly frequencies: Float32Array;
  /** Words from the begin of the buffer. */
  readonly firstWord: number;
}

/** In place of a token: the one that the last greedy step left on the device. Of embed_tokens.wgsl. */
export const LAST_TOKEN = 0xffff_ffff;

/** Where the tokens lie, in words: a vec4 after the position. */
const FIRST_TOKEN_WORD = 4;
/** Positions whose tables are kept: what several texts are about to take. */
const MAX_KEPT = 64;

/** One small buffer, written before a step; a queue keeps the writes and the steps in their order. */
export class StepInputs {
  readonly #kinds: readonly RotaryKind[];
  readonly #bytes: ArrayBuffer;
  /** Tables of each kind, made while the device was busy. */
  readonly #tables = new Map<number, readonly RotaryTable[]>();

  constructor(readonly config: DecoderConfig) {
    const kinds: RotaryKind[] = [];
    let sizeBytes = SLOT_BYTES;
    for (const layer of config.layers) {
      const key = keyOf(layer);
      if (kinds.some((kind) => kind.key === key)) continue;
      kinds.push({ key, frequencies: rotaryFrequencies(layer), firstWord: sizeBytes / 4 });
      sizeBytes += Math.ceil(rotaryBytes(layer) / SLOT_BYTES) * SLOT_BYTES;
    }
    this.#kinds = kinds;
    this.#bytes = new ArrayBuffer(sizeBytes);
  }

  get sizeBytes(): number {
    return this.#bytes.byteLength;
  }

  /** Call inside an error scope; the buffer is the caller's. */
  create(device: GPUDevice): GPUBuffer {
    const usage = BufferUsage.UNIFORM | BufferUsage.STORAGE | BufferUsage.COPY_DST;
    return device.createBuffer({ label: 'step inputs', size: this.sizeBytes, usage });
  }

  /** {u32 position, u32[TOKENS_PER_STEP] tokens}, a uniform. */
  step(buffer: GPUBuffer): GPUBufferBinding {
    return { buffer, offset: 0, size: SLOT_BYTES };
  }

  /** {cos, sin} f32[M, D/2] of a layer. */
  rotary(buffer: GPUBuffer, layer: LayerConfig): GPUBufferBinding {
    const { firstWord } = this.#kinds.find(({ key }) => key === keyOf(layer))!;
    return { buffer, offset: firstWord * 4, size: rotaryBytes(layer) };
  }

  /** For `tokens` from `position`. */
  write(queue: GPUQueue, buffer: GPUBuffer, tokens: readonly number[], position: number): void {
    const values = new Float32Array(this.#bytes);
    const words = new Uint32Array(this.#bytes);
    words[0] = position;
    words.set(tokens, FIRST_TOKEN_WORD);
    for (const m of tokens.keys()) {
      const tables = this.#tablesOf(position + m);
      this.#tables.delete(position + m);
      for (const [kind, { firstWord }] of this.#kinds.entries()) {
        const { cos, sin } = tables[kind]!;
        const first = firstWord + 2 * m * cos.length;
        for (let i = 0; i < cos.length; i++) {
          values[first + 2 * i] = cos[i]!;
          values[first + 2 * i + 1] = sin[i]!;
        }
      }
    }
    queue.writeBuffer(buffer, 0, this.#bytes);
  }

  /** Makes the tables that the next step most likely takes. */
  prepare(position: number, count: number): void {
    for (let m = 0; m < count; m++) this.#tables.set(position + m, this.#tablesOf(position + m));
    for (const oldest of this.#tables.keys()) {
      if (this.#tables.size <= MAX_KEPT) return;
      this.#tables.delete(oldest);
    }
  }

  #tablesOf(position: number): readonly RotaryTable[] {
    const kept = this.#tables.get(position);
    return kept ?? this.#kinds.map(({ frequencies }) => rotaryTable(frequencies, position));
  }
}

function keyOf({ headSize, rotaryTheta, rotaryFrequencies }: LayerConfig): string {
  return `${headSize} ${rotaryTheta} ${rotaryFrequencies}`;
}

function rotaryBytes({ headSize }: LayerConfig): number {
  return TOKENS_PER_STEP * (headSize / 2) * 8;
}

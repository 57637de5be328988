// The memory of a step between its kernels: one set for all caches of a decoder. That is safe because a queue carries out
// its command buffers in order, and a step is never cut in two.

import type { DecoderConfig } from '../core/model/decoder_config.js';
import { TOKENS_PER_STEP } from '../core/model/decoder_config.js';
import type { DeviceGuard } from './device_guard.js';
import { BufferUsage } from './gpu_flags.js';
import { type QuantizedActivations, quantizedAt, quantizedBytes } from './workspace.js';

/** Named as in step.ts; of bf16 values that linears read, only the codes. Room for TOKENS_PER_STEP rows. */
export interface DecoderValues {
  readonly hidden: GPUBuffer;
  readonly q: GPUBuffer;
  readonly k: GPUBuffer;
  readonly v: GPUBuffer;
  readonly queries: GPUBuffer;
  readonly gate: GPUBuffer;
  readonly up: GPUBuffer;
  readonly y: GPUBuffer;
  readonly logits: GPUBuffer;
  /** u32: the arg-max, until the next greedy step of any cache. */
  readonly token: GPUBuffer;
  readonly x: QuantizedActivations;
  readonly attended: QuantizedActivations;
  readonly gated: QuantizedActivations;
  readonly sizeBytes: number;
  dispose(): void;
}

/** @throws SamebitsError DEVICE_OUT_OF_MEMORY, with nothing left behind */
export async function createDecoderValues(guard: DeviceGuard, config: DecoderConfig): Promise<DecoderValues> {
  const { hiddenSize, intermediateSize, vocabularySize, layers } = config;
  const queryWidth = Math.max(...layers.map(({ heads, headSize }) => heads * headSize));
  const keyWidth = Math.max(...layers.map(({ keyValueHeads, headSize }) => keyValueHeads * headSize));
  const buffers: GPUBuffer[] = [];
  const create = (label: string, size: number, usage: number = BufferUsage.STORAGE) => {
    const buffer = guard.device.createBuffer({ label, size, usage });
    buffers.push(buffer);
    return buffer;
  };
  const f32 = (label: string, width: number, usage?: number) => create(label, TOKENS_PER_STEP * width * 4, usage);
  const codes = (label: string, width: number) => {
    const elements = TOKENS_PER_STEP * width;
    return quantizedAt(create(label, quantizedBytes(elements)), 0, elements);
  };
  const dispose = () => {
    for (const buffer of buffers) buffer.destroy();
  };
  const read = BufferUsage.STORAGE | BufferUsage.COPY_SRC;
  const { value, accepted } = guard.scoped("a decoder's working memory", () => ({
    hidden: f32('hidden', hiddenSize),
    q: f32('q', queryWidth),
    k: f32('k', keyWidth),
    v: f32('v', keyWidth),
    queries: f32('queries', queryWidth),
    gate: f32('gate', intermediateSize),
    up: f32('up', intermediateSize),
    y: f32('y', hiddenSize),
    logits: f32('logits', vocabularySize, read),
    token: create('token', 4, read),
    x: codes('x', hiddenSize),
    attended: codes('attended', queryWidth),
    gated: codes('gated', intermediateSize),
  }));
  try {
    await accepted;
  } catch (error) {
    dispose();
    throw error;
  }
  return { ...value, sizeBytes: buffers.reduce((sum, { size }) => sum + size, 0), dispose };
}

// Keys and values of one text on the device, and its steps: each one submission, whose command buffer was recorded while the
// device was busy with the step before.

import { checkedReplays } from '../core/argument_checks.js';
import { disposedError } from '../core/backend.js';
import type { DeviceCache, StepResult } from '../core/model/decoder_backend.js';
import type { Operation } from '../core/model/step.js';
import type { BufferPool } from './buffer_pool.js';
import type { CacheLayers } from './cache_layers.js';
import { DecoderSteps, type StepItem } from './decoder_steps.js';
import type { DecoderValues } from './decoder_values.js';
import type { DecoderWeights } from './decoder_weights.js';
import type { DeviceGuard } from './device_guard.js';
import { type Dispatch, recordDispatches } from './dispatches.js';
import { MAP_MODE_READ } from './gpu_flags.js';
import type { Lifetime } from './lifetime.js';
import type { StepInputs } from './step_inputs.js';
import { timePasses } from './timing.js';

/** What all caches of a decoder share. */
export interface SharedDecoder {
  readonly guard: DeviceGuard;
  readonly lifetime: Lifetime;
  readonly staging: BufferPool;
  readonly weights: DecoderWeights;
  readonly values: DecoderValues;
  readonly steps: DecoderSteps;
  readonly inputs: StepInputs;
  readonly inputsBuffer: GPUBuffer;
}

/** A step whose commands are recorded, and not yet submitted. */
interface RecordedStep {
  readonly key: string;
  readonly commands: GPUCommandBuffer;
}

export class WebGPUDecoderCache implements DeviceCache {
  #disposed = false;
  #next: RecordedStep | null = null;
  /** Settles when the last step that was asked for has. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    readonly shared: SharedDecoder,
    readonly layers: CacheLayers,
    readonly capacity: number,
    readonly onDispose: (cache: WebGPUDecoderCache) => void,
  ) {}

  step(tokens: readonly number[], position: number, wants: StepResult['wants']): Promise<StepResult> {
    const own = [...tokens];
    return this.shared.lifetime.track(() => {
      const step = this.#last.then(() => this.#run(own, position, wants));
      this.#last = step.catch(() => {});
      return step;
    });
  }

  /**
   * Microseconds of each of `replays` runs of a greedy step's operations of some kinds, for M = 1; all but the copies of rows
   * and results. The cache then holds anything at `position`.
   */
  time(position: number, kinds: readonly Operation['kind'][], replays: number): Promise<readonly number[]> {
    return this.shared.lifetime.track(async () => {
      this.#requireLive();
      const { guard, inputs, inputsBuffer } = this.shared;
      const all = await this.#dispatches(1, position, 'greedy');
      const timed = all.filter(({ kind }) => kinds.includes(kind)).map(({ dispatch }) => dispatch);
      await guard.run('timed operations', () => inputs.write(guard.device.queue, inputsBuffer, position, 1));
      return timePasses(guard, { record: (pass) => recordDispatches(pass, timed) }, checkedReplays(replays));
    });
  }

  async #dispatches(m: number, position: number, wants: StepResult['wants']): Promise<readonly TimedDispatch[]> {
    const items = await this.shared.steps.get(m, wants);
    return items.flatMap((item) => this.#filledIn(item, m, position));
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#next = null;
    this.layers.dispose();
    this.onDispose(this);
  }

  async #run(tokens: readonly number[], position: number, wants: StepResult['wants']): Promise<StepResult> {
    const { guard, inputs, inputsBuffer, staging } = this.shared;
    this.#requireLive();
    const m = tokens.length;
    const dispatches = await this.#dispatches(m, position, wants);
    this.#requireLive();
    const { queue } = guard.device;
    const what = 'a step of the decoder';
    const { value, accepted } = guard.scoped(what, () => {
      const key = this.layers.key(m, position, wants);
      const main = this.#next?.key === key ? this.#next.commands : this.#recorded(dispatches);
      this.#next = null;
      inputs.write(queue, inputsBuffer, position, m);
      const { commands: result, buffer, sizeBytes } = this.#resultCommands(m, wants);
      queue.submit([this.#embeddingCommands(tokens), main, ...result]);
      const done = buffer ? buffer.mapAsync(MAP_MODE_READ, 0, sizeBytes) : queue.onSubmittedWorkDone();
      return { buffer, sizeBytes, done: guard.settle(what, done) };
    });
    const { buffer, sizeBytes, done } = value;
    try {
      await accepted;
      await this.#recordNext(m, position + m, wants);
      await done;
      if (!buffer) return { wants: 'nothing' };
      const bytes = buffer.getMappedRange(0, sizeBytes).slice(0);
      buffer.unmap();
      staging.release(buffer);
      if (wants === 'greedy') return { wants, token: new Uint32Array(bytes)[0]! };
      return wants === 'nothing' ? { wants } : { wants, logits: new Float32Array(bytes) };
    } catch (error) {
      buffer?.destroy();
      throw error;
    }
  }

  /** What the next step most likely is: as many tokens, which want the same. */
  async #recordNext(m: number, position: number, wants: StepResult['wants']): Promise<void> {
    if (this.#disposed || position + m > this.capacity) return;
    this.shared.inputs.prepare(position, m);
    const dispatches = await this.#dispatches(m, position, wants);
    const commands = await this.shared.guard.run('a step of the decoder', () => this.#recorded(dispatches));
    this.#next = { key: this.layers.key(m, position, wants), commands };
  }

  #requireLive(): void {
    if (this.#disposed) throw disposedError('cache');
  }

  #filledIn(item: StepItem, m: number, position: number): readonly TimedDispatch[] {
    if ('dispatch' in item) return [item];
    const { kind, layer } = item;
    const dispatches = kind === 'heads' ? [this.layers.heads(layer, m)] : this.layers.attention(layer, m, position);
    return dispatches.map((dispatch) => ({ kind, dispatch }));
  }

  #recorded(dispatches: readonly TimedDispatch[]): GPUCommandBuffer {
    const encoder = this.shared.guard.device.createCommandEncoder({ label: 'a step' });
    const pass = encoder.beginComputePass({ label: 'a step' });
    recordDispatches(
      pass,
      dispatches.map(({ dispatch }) => dispatch),
    );
    pass.end();
    return encoder.finish();
  }

  /** The rows of the tokens, side by side. */
  #embeddingCommands(tokens: readonly number[]): GPUCommandBuffer {
    const { guard, weights, values, steps } = this.shared;
    const encoder = guard.device.createCommandEncoder({ label: 'embedding' });
    const rowBytes = steps.parts.config.hiddenSize * 2;
    for (const [i, token] of tokens.entries()) {
      const { buffer, offset } = weights.embeddingRow(token);
      encoder.copyBufferToBuffer(buffer, offset, values.rows, i * rowBytes, rowBytes);
    }
    return encoder.finish();
  }

  /** The way of the result into a buffer that the host reads. */
  #resultCommands(m: number, wants: StepResult['wants']) {
    const { guard, staging, values, steps } = this.shared;
    if (wants === 'nothing') return { commands: [], buffer: null, sizeBytes: 0 };
    const logitsBytes = DecoderSteps.logitRows(m, wants) * steps.parts.config.vocabularySize * 4;
    const sizeBytes = wants === 'greedy' ? 4 : logitsBytes;
    const buffer = staging.acquire(sizeBytes);
    const encoder = guard.device.createCommandEncoder({ label: 'result' });
    encoder.copyBufferToBuffer(wants === 'greedy' ? values.token : values.logits, 0, buffer, 0, sizeBytes);
    return { commands: [encoder.finish()], buffer, sizeBytes };
  }
}

/** A dispatch, and what it is part of. */
interface TimedDispatch {
  readonly kind: Operation['kind'];
  readonly dispatch: Dispatch;
}

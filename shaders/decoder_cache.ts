// Keys and values of one text on the device, and its steps: each one command buffer, which was recorded while the device was
// busy with the step before. A greedy step that will go on is followed at once by the next one, whose token the device has
// from the first: that one runs while the host reads the token, and asks for more.

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
import { LAST_TOKEN, type StepInputs } from './step_inputs.js';
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
  /** Whose greedy step was submitted last: its token is the one on the device, once it is done. */
  tokenOf: WebGPUDecoderCache | null;
}

/** All that the commands of a step depend on. */
interface PlannedStep {
  readonly items: readonly StepItem[];
  readonly m: number;
  readonly position: number;
  readonly wants: StepResult['wants'];
}

/** Where the host reads what a step gives. */
interface ResultBuffer {
  readonly buffer: GPUBuffer;
  readonly sizeBytes: number;
}

/** A step whose commands are recorded, and not yet submitted. */
interface RecordedStep {
  /** Equal for steps of equal commands. */
  readonly key: string;
  readonly commands: GPUCommandBuffer;
  /** Null where nothing is wanted. */
  readonly result: ResultBuffer | null;
}

/** A step that the device has. */
interface SubmittedStep {
  readonly result: ResultBuffer | null;
  readonly accepted: Promise<void>;
}

/** A greedy step of one token, which was submitted before it was asked for. */
interface AheadStep extends SubmittedStep {
  readonly position: number;
}

const WHAT = 'a step of the decoder';

export class WebGPUDecoderCache implements DeviceCache {
  #disposed = false;
  /** What most likely is submitted next. */
  #recorded: RecordedStep | null = null;
  #ahead: AheadStep | null = null;
  /** What the last greedy step gave, and the one ahead runs. */
  #token: number | null = null;
  /** Settles when the last call has. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(
    readonly shared: SharedDecoder,
    readonly layers: CacheLayers,
    readonly capacity: number,
    readonly onDispose: (cache: WebGPUDecoderCache) => void,
  ) {}

  step(tokens: readonly number[], position: number, wants: StepResult['wants'], goesOn = false): Promise<StepResult> {
    const own = [...tokens];
    return this.#inTurn(() => this.#run(own, position, wants, goesOn));
  }

  /**
   * Microseconds of each of `replays` runs of a greedy step's operations of some kinds, for M = 1; all but the copy of the
   * result. The cache then holds anything at `position`.
   */
  time(position: number, kinds: readonly Operation['kind'][], replays: number): Promise<readonly number[]> {
    return this.#inTurn(async () => {
      const { guard, inputs, inputsBuffer } = this.shared;
      const dispatches = this.#dispatches(await this.#planned(1, position, 'greedy'));
      const timed = dispatches.filter(({ kind }) => kinds.includes(kind));
      // Inputs are written where nobody waits before the submission: those of another cache's step could come between.
      const record = (pass: GPUComputePassEncoder) => {
        this.shared.tokenOf = null;
        inputs.write(guard.device.queue, inputsBuffer, [0], position);
        recordAll(pass, timed);
      };
      this.#drop();
      return timePasses(guard, { record }, checkedReplays(replays));
    });
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#drop();
    this.layers.dispose();
    this.onDispose(this);
  }

  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    return this.shared.lifetime.track(() => {
      const result = this.#last.then(work);
      this.#last = result.catch(() => {});
      return result;
    });
  }

  async #run(
    tokens: readonly number[],
    position: number,
    wants: StepResult['wants'],
    goesOn: boolean,
  ): Promise<StepResult> {
    const { guard, staging } = this.shared;
    const m = tokens.length;
    const next = position + m;
    const mayRunAhead = goesOn && wants === 'greedy' && next < this.capacity;
    const following = mayRunAhead ? await this.#planned(1, next, wants) : null;
    const planned = await this.#planned(m, position, wants);
    // From here on without waiting, so that no other cache's step comes between this one and the one ahead.
    const step = this.#takeAhead(tokens, planned) ?? this.#submit(planned, tokens);
    try {
      let newest = planned;
      // Not so where the step ran ahead, and another cache's came after it.
      if (following && this.shared.tokenOf === this) {
        this.#ahead = { ...this.#submit(following, [LAST_TOKEN]), position: next };
        newest = following;
      }
      const { value: done, accepted } = guard.scoped(WHAT, () => {
        // Not before it is asked for, so that nobody waits for a step that is dropped.
        const read = step.result?.buffer.mapAsync(MAP_MODE_READ, 0, step.result.sizeBytes);
        this.#recordNext({ ...newest, position: newest.position + newest.m });
        return guard.settle<unknown>(WHAT, read ?? guard.device.queue.onSubmittedWorkDone());
      });
      await Promise.all([step.accepted, accepted]);
      await done;
      if (wants === 'nothing' || step.result === null) return { wants: 'nothing' };
      const { buffer, sizeBytes } = step.result;
      const bytes = buffer.getMappedRange(0, sizeBytes).slice(0);
      buffer.unmap();
      staging.release(buffer);
      if (wants === 'greedy') {
        const token = new Uint32Array(bytes)[0]!;
        this.#token = token;
        return { wants, token };
      }
      return { wants, logits: new Float32Array(bytes) };
    } catch (error) {
      step.result?.buffer.destroy();
      this.#drop();
      throw error;
    }
  }

  async #planned(m: number, position: number, wants: StepResult['wants']): Promise<PlannedStep> {
    this.#requireLive();
    const items = await this.shared.steps.get(m, wants);
    this.#requireLive();
    return { items, m, position, wants };
  }

  #submit(planned: PlannedStep, tokens: readonly number[]): SubmittedStep {
    const { guard, inputs, inputsBuffer } = this.shared;
    const { queue } = guard.device;
    const { value, accepted } = guard.scoped(WHAT, () => {
      const { commands, result } = this.#takeRecorded(planned) ?? this.#record(planned);
      inputs.write(queue, inputsBuffer, tokens, planned.position);
      queue.submit([commands]);
      if (planned.wants === 'greedy') this.shared.tokenOf = this;
      return result;
    });
    return { result: value, accepted };
  }

  /** The step ahead, if it is the one that is asked for; else it is dropped: what it wrote is never seen. */
  #takeAhead(tokens: readonly number[], { position, wants }: PlannedStep): SubmittedStep | null {
    const ahead = this.#ahead;
    this.#ahead = null;
    const isIt = ahead?.position === position && wants === 'greedy' && tokens.length === 1 && tokens[0] === this.#token;
    if (isIt) return ahead;
    ahead?.result?.buffer.destroy();
    return null;
  }

  #takeRecorded(planned: PlannedStep): RecordedStep | null {
    const recorded = this.#recorded;
    if (recorded?.key !== this.#key(planned)) return null;
    this.#recorded = null;
    return recorded;
  }

  /** What the next step most likely is, while the device is busy. Call inside an error scope. */
  #recordNext(planned: PlannedStep): void {
    const { m, position } = planned;
    const fits = position + m <= this.capacity;
    if (fits) this.shared.inputs.prepare(position, m);
    if (fits && this.#recorded?.key === this.#key(planned)) return;
    this.#recorded?.result?.buffer.destroy();
    this.#recorded = fits ? this.#record(planned) : null;
  }

  /** Call inside an error scope. */
  #record(planned: PlannedStep): RecordedStep {
    const encoder = this.shared.guard.device.createCommandEncoder({ label: 'a step' });
    const pass = encoder.beginComputePass({ label: 'a step' });
    recordAll(pass, this.#dispatches(planned));
    pass.end();
    const result = this.#copyResult(encoder, planned);
    return { key: this.#key(planned), commands: encoder.finish(), result };
  }

  #key({ m, position, wants }: PlannedStep): string {
    return this.layers.key(m, position, wants);
  }

  #dispatches({ items, m, position }: PlannedStep): readonly KindDispatch[] {
    return items.flatMap((item) => {
      if ('dispatch' in item) return [item];
      const { kind, layer } = item;
      const dispatches = kind === 'heads' ? [this.layers.heads(layer, m)] : this.layers.attention(layer, m, position);
      return dispatches.map((dispatch) => ({ kind, dispatch }));
    });
  }

  /** The way of the result into a buffer that the host reads. */
  #copyResult(encoder: GPUCommandEncoder, { m, wants }: PlannedStep): ResultBuffer | null {
    if (wants === 'nothing') return null;
    const { staging, values, steps } = this.shared;
    const logitsBytes = DecoderSteps.logitRows(m, wants) * steps.parts.config.vocabularySize * 4;
    const sizeBytes = wants === 'greedy' ? 4 : logitsBytes;
    const buffer = staging.acquire(sizeBytes);
    encoder.copyBufferToBuffer(wants === 'greedy' ? values.token : values.logits, 0, buffer, 0, sizeBytes);
    return { buffer, sizeBytes };
  }

  /** Forgets what nobody has asked for. Buffers are not kept, since they may be what failed. */
  #drop(): void {
    for (const step of [this.#recorded, this.#ahead]) step?.result?.buffer.destroy();
    this.#recorded = null;
    this.#ahead = null;
  }

  #requireLive(): void {
    if (this.#disposed) throw disposedError('cache');
  }
}

/** A dispatch, and what it is part of. */
interface KindDispatch {
  readonly kind: Operation['kind'];
  readonly dispatch: Dispatch;
}

function recordAll(pass: GPUComputePassEncoder, dispatches: readonly KindDispatch[]): void {
  recordDispatches(
    pass,
    dispatches.map(({ dispatch }) => dispatch),
  );
}

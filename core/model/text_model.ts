// A text model on a device: opens sessions and writes text in them.

import { requireObject } from '../argument_checks.js';
import type { DeviceDecoder } from './decoder_backend.js';
import { type GeneratedToken, Generation, type GenerationOptions } from './generate.js';
import { type SamplingOptions, sampler } from './sampling.js';
import { DecoderSession } from './session.js';
import type { TextModelFile } from './text_model_file.js';

/** How long, by which draws, and what can end it; what belongs to the model itself is taken from there. */
export type TextOptions = Pick<GenerationOptions, 'maxNewTokens' | 'signal' | 'betweenSteps'> &
  Partial<SamplingOptions>;

/** Made by TextModelFile.load. Belongs to the backend that it was loaded on. */
export class TextModel {
  constructor(
    /** What it was loaded from: makes tokens of prompts. */
    readonly file: TextModelFile,
    readonly decoder: DeviceDecoder,
  ) {}

  /**
   * A session with room for `capacity` positions; without it, for as many as the model can have.
   * @throws SamebitsError CONTEXT_FULL, DEVICE_OUT_OF_MEMORY
   */
  openSession(capacity: number = this.decoder.config.maxPositions): Promise<DecoderSession> {
    return DecoderSession.open(this.decoder, capacity);
  }

  /**
   * Writes on from `prompt` in a session of this model. Greedy unless `temperature` is above 0.
   * @throws SamebitsError ARGUMENT_INVALID, also for limits of draws that a greedy text does not need
   */
  generate(session: DecoderSession, prompt: readonly number[], options: TextOptions): Generation {
    const { temperature = 0, topK, topP, seed = 0, ...rest } = requireObject(options, 'the options of a text');
    const draws = { temperature, seed, ...(topK !== undefined && { topK }), ...(topP !== undefined && { topP }) };
    const pick = sampler(draws);
    return new Generation(session, this.file.tokenizer, {
      ...rest,
      prompt,
      endTokens: this.decoder.config.endTokens,
      ...(temperature !== 0 && { pick }),
    });
  }

  /** The same for a text, in a session of its own, which ends with the iteration. */
  async *write(prompt: string, options: TextOptions): AsyncGenerator<GeneratedToken, void, undefined> {
    const tokens = this.file.textTokens(prompt);
    const { maxNewTokens } = requireObject(options, 'the options of a text');
    const session = await this.openSession(this.file.capacityFor(tokens, maxNewTokens));
    try {
      yield* this.generate(session, tokens, options);
    } finally {
      session.dispose();
    }
  }

  /** Frees the weights once no session of it is left. */
  dispose(): void {
    this.decoder.dispose();
  }
}

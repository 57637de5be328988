// Writes text with the small model: on the device where there is one, else on the reference, here in the worker.

import { type Backend, CpuBackend, openSamebitsFile, type TextModel, TextModelFile } from '../../core/index.js';
import { blobSource } from '../blob_source.js';
import type { JobContext } from './job.js';
import type { Jobs, WriteRequest } from './messages.js';

/** Keeps the model on the device that it was loaded to last, for the next text. */
export class Writer {
  #loaded: { readonly backend: Backend; readonly model: TextModel } | null = null;
  readonly #reference = new CpuBackend();

  async write(request: WriteRequest, context: JobContext<'write'>): Promise<Jobs['write']['result']> {
    const { prompt, maxNewTokens, temperature, topK, seed } = request;
    const { emit, signal, step } = context;
    const model = await this.#load(request, context);
    const tokens = model.file.textTokens(prompt);
    const session = await model.openSession(model.file.capacityFor(tokens, maxNewTokens));
    try {
      const options = { maxNewTokens, temperature, topK, seed, signal, betweenSteps: step };
      const generation = model.generate(session, tokens, options);
      for await (const { delta } of generation) {
        const { decodedTokens, decodeMs } = generation.times;
        emit({ kind: 'text', delta, decodedTokens, decodeMs });
      }
      return generation.times;
    } finally {
      session.dispose();
    }
  }

  async #load({ file, on }: WriteRequest, { device, emit, signal }: JobContext<'write'>): Promise<TextModel> {
    const backend = (on === 'device' ? (await device.get())?.backend : null) ?? this.#reference;
    if (this.#loaded?.backend !== backend) {
      this.#loaded?.model.dispose();
      this.#loaded = null;
      const open = await openSamebitsFile(blobSource(file, 'the small model'));
      try {
        const modelFile = await TextModelFile.open(open);
        const onProgress = (doneBytes: number, totalBytes: number) => emit({ kind: 'loading', doneBytes, totalBytes });
        this.#loaded = { backend, model: await modelFile.load(backend, { signal, onProgress }) };
      } finally {
        await open.close();
      }
    }
    emit({ kind: 'ready', device: backend.device.name, isSoftware: backend.device.isSoftware });
    return this.#loaded.model;
  }
}

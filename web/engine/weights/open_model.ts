// The checkpoint that is open on the page: listed when it is opened, packed a weight at a time when asked.

import { planSamebitsFile } from '../../../core/checkpoint/samebits_writer.js';
import {
  asSamebitsFile,
  type CoalescedInt4Tensor,
  describeForm,
  isTagged,
  type Layout,
  MemorySink,
  type ModelCheckpoint,
  memorySource,
  openModelCheckpoint,
  openSamebitsFile,
  runConversion,
  SafetensorsFile,
  SamebitsError,
  type SamebitsFile,
  type Selection,
  type WeightChange,
} from '../../../core/index.js';
import { weightShape } from '../../../core/limits.js';
import { filesFolder } from '../../files_folder.js';
import type { JobContext } from '../job.js';
import type { Listing, OpenRequest, PackRequest, PackResult } from '../messages.js';
import { listForeign, listPacked } from './listing.js';
import { multiply } from './multiply.js';

interface Packed {
  readonly weight: CoalescedInt4Tensor;
  readonly sourceBytes: number;
  readonly change?: WeightChange;
  readonly file?: Blob;
}

/** At most one model is open; opening the next closes it. */
export class OpenModel {
  #model: ModelCheckpoint | null = null;
  #packed: SamebitsFile | null = null;
  #selections: ReadonlyMap<string, Selection> = new Map();

  /** @throws SamebitsError for a file that is none of any format, or damaged */
  async open({ files, layout }: OpenRequest): Promise<Listing> {
    await this.#model?.close();
    this.#model = null;
    this.#packed = null;
    this.#selections = new Map();
    const model = await openModelCheckpoint(filesFolder(files), entryOf(files));
    try {
      const listing = await this.#list(model, layout);
      this.#model = model;
      return listing;
    } catch (error) {
      await model.close();
      throw error;
    }
  }

  /** Packs a weight of the open file, unless it is packed already, and multiplies by it. */
  async pack({ name, groupSize }: PackRequest, context: JobContext<'pack'>): Promise<PackResult> {
    const start = performance.now();
    const packed = this.#packed
      ? { weight: await this.#packed.readWeight(name), sourceBytes: 0 }
      : await this.#convert(name, groupSize, context);
    const { weight, sourceBytes, change, file } = packed;
    const elapsedMs = performance.now() - start;
    context.emit({ kind: 'multiplying' });
    await context.step();
    const { n, k, sizeBytes: packedBytes } = weight;
    return {
      name,
      n,
      k,
      groupSize: weight.groupSize,
      ...(await multiply(name, weight, context)),
      sourceBytes,
      packedBytes,
      form: describeForm(weight.form),
      ...(change && { change }),
      ...(file && { file }),
      elapsedMs,
    };
  }

  async #list(model: ModelCheckpoint, layout: Layout | undefined): Promise<Listing> {
    const file = model.files[0];
    if (file instanceof SafetensorsFile && isTagged(file)) {
      this.#packed = asSamebitsFile(file);
      return listPacked(model.name, file.sizeBytes, this.#packed);
    }
    const { listing, selections } = await listForeign(model, layout);
    this.#selections = new Map(selections.map((selection) => [selection.name, selection]));
    return listing;
  }

  async #convert(name: string, groupSize: number, { signal, emit }: JobContext<'pack'>): Promise<Packed> {
    const selected = this.#selections.get(name);
    if (selected?.packed === undefined) throw notOpen(name);
    const shape =
      selected.kind === 'weight'
        ? selected.packed
        : { ...selected.packed, ...weightShape(selected.packed.n, selected.packed.k, groupSize) };
    const only: Selection =
      selected.kind === 'weight' ? { ...selected, keepPlain: false } : { ...selected, packed: shape, keepPlain: false };
    const sink = new MemorySink();
    const output = planSamebitsFile(new Map([[name, shape]]), [], selected.dtype);
    const plan = { symmetric: false, tensors: [only], output, sourceBytes: selected.sizeBytes };
    // A byte at the end first, so that the sink takes all its memory at once.
    await sink.writeAt(output.sizeBytes - 1, new Uint8Array(1));
    const { tensors } = await runConversion(plan, sink, {
      signal,
      onProgress: ({ doneBytes, totalBytes }) => emit({ kind: 'packing', doneBytes, totalBytes }),
    });
    const file = await openSamebitsFile(memorySource(sink.bytes, name));
    const change = tensors[0]?.change;
    return {
      weight: await file.readWeight(name),
      sourceBytes: selected.sizeBytes,
      ...(change && { change }),
      file: new Blob([sink.bytes], { type: 'application/octet-stream' }),
    };
  }
}

/** The file that leads to the others: an index, a GGUF file, or the one with the weights. */
function entryOf(files: readonly File[]): string {
  for (const ending of ['.index.json', '.gguf', '.safetensors']) {
    const entry = files.find(({ name }) => name.endsWith(ending));
    if (entry) return entry.name;
  }
  throw new SamebitsError('FILE_FORMAT_UNSUPPORTED', {
    rule: 'a checkpoint must be a file of a known container',
    expected: 'a .safetensors file, a .gguf file, or an index with its shards',
    got:
      files.length === 0
        ? 'no file'
        : files
            .map(({ name }) => JSON.stringify(name))
            .join(', ')
            .slice(0, 200),
    fix: 'Drop the weights themselves; of a model in shards, all of them with their index.',
  });
}

function notOpen(name: string): SamebitsError {
  return new SamebitsError('FILE_TENSOR_MISSING', {
    rule: 'a weight that is packed must be in the open file',
    expected: 'the name of one of its weights',
    got: JSON.stringify(name).slice(0, 200),
    fix: 'Open the file again.',
  });
}

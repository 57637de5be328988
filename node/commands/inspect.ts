// samebits inspect: every tensor of a checkpoint, and what can be done with it.

import type { Command } from 'commander';
import { findWeights } from '../../core/checkpoint/importers.js';
import { LayoutChoice } from '../../core/checkpoint/layout_choice.js';
import { type PackedShape, packedSizeBytes } from '../../core/checkpoint/packed_parts.js';
import { printable } from '../../core/checkpoint/tensor_error.js';
import {
  asSamebitsFile,
  describeForm,
  isTagged,
  type ModelCheckpoint,
  openModelCheckpoint,
  planConversion,
  SafetensorsFile,
  SamebitsError,
  type Selection,
} from '../../core/index.js';
import { locateModel } from '../file_source.js';
import { formatTable } from '../table.js';

/** One line of the listing: a tensor, or a packed weight with its parts. */
interface Entry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly sizeBytes: number;
  /** N, K, groupSize, nGroups and form of a packed weight, or of what it would be packed as. */
  readonly packed?: PackedShape;
  readonly use: string;
}

interface Listing {
  readonly format: string;
  /** What the checkpoint as a whole is good for. */
  readonly use: string;
  readonly entries: readonly Entry[];
}

export function registerInspect(program: Command): void {
  program
    .command('inspect')
    .description('list the tensors of a checkpoint and what can be done with them')
    .argument('<source>', "a checkpoint: .safetensors, an index of shards, .gguf, a model's folder, or the URL of one")
    .option('--json', 'print the listing as JSON')
    .action(inspect);
}

async function inspect(source: string, options: { readonly json?: true }): Promise<void> {
  const { folder, entry } = await locateModel(source);
  const model = await openModelCheckpoint(folder, entry);
  try {
    const listing = model.files.some(isTagged) ? listPacked(model) : await listForeign(model);
    if (options.json) process.stdout.write(`${JSON.stringify({ source, ...listing }, null, 1)}\n`);
    else print(source, listing);
  } finally {
    await model.close();
  }
}

/** @throws SamebitsError when the tagged file does not hold what its tag says */
function listPacked(model: ModelCheckpoint): Listing {
  const entries: Entry[] = [];
  const versions = new Set<string>();
  for (const file of model.files) {
    if (!(file instanceof SafetensorsFile)) continue;
    versions.add(file.metadata.get('layout_version') ?? '');
    const { weights, plainTensors } = asSamebitsFile(file);
    for (const [name, packed] of weights) {
      const { n, k } = packed;
      const sizeBytes = packedSizeBytes(packed);
      entries.push({ name, dtype: 'INT4', shape: [n, k], sizeBytes, packed, use: 'verify, matvec, load' });
    }
    for (const { name, dtype, shape, sizeBytes } of plainTensors.values()) {
      entries.push({ name, dtype, shape, sizeBytes, use: 'load as it is' });
    }
  }
  return {
    format: `samebits coalesced-int4, version ${[...versions].join(' and ')}`,
    use: 'verify, matvec, load',
    entries,
  };
}

/** What convert would do with every weight and tensor; what it cannot read says why. */
async function listForeign(model: ModelCheckpoint): Promise<Listing> {
  const found = await findWeights(model, new LayoutChoice());
  const refused = found.flatMap((entry) => (entry.kind === 'refused' ? [entry] : []));
  const refusals = refused.map(({ name, parts, error }): Entry => {
    const sizeBytes = parts.reduce((sum, part) => sum + part.sizeBytes, 0);
    const { dtype = '', shape = [] } = parts[0] ?? {};
    return { name, dtype, shape, sizeBytes, use: `none: ${error.code}, got ${error.got}. ${error.fix}` };
  });
  const files = model.files.length === 1 ? '' : `, ${model.files.length} shards`;
  try {
    const { tensors } = await planConversion(model, { exclude: refused.map(({ name }) => name) });
    const refusedParts = new Set(refused.flatMap(({ parts }) => parts.map(({ name }) => name)));
    const entries = tensors.filter(({ name }) => !refusedParts.has(name)).map(entryOf);
    const formats = [...new Set(entries.flatMap(({ packed, dtype }) => (packed ? [dtype] : [])))].join(', ');
    const use = refusals.length === 0 ? 'convert' : `convert with --exclude for ${refusals.length} unreadable weights`;
    return { format: `${model.container}${files}: ${formats}`, use, entries: [...entries, ...refusals] };
  } catch (error) {
    if (!(error instanceof SamebitsError)) throw error;
    const listed = [...model.tensors.values()].map(({ name, dtype, shape, sizeBytes }): Entry => {
      return { name, dtype, shape, sizeBytes, use: 'none' };
    });
    const reason = refused[0]?.error ?? error;
    return {
      format: `${model.container}${files}`,
      use: `none: ${reason.rule}, got ${reason.got}`,
      entries: refusals.length > 0 ? refusals : listed,
    };
  }
}

function entryOf({ name, dtype, shape, sizeBytes, packed, keepPlain, reason }: Selection): Entry {
  const verb = packed ? 'packs' : keepPlain ? 'keeps' : 'leaves out';
  return { name, dtype, shape, sizeBytes, ...(packed && { packed }), use: `convert ${verb} it: ${reason}` };
}

function print(source: string, { format, use, entries }: Listing): void {
  const table = formatTable(
    [
      { title: 'tensor' },
      { title: 'dtype' },
      { title: 'shape, N x K', align: 'right' },
      { title: 'group', align: 'right' },
      { title: 'form' },
      { title: 'bytes', align: 'right' },
      { title: 'use' },
    ],
    entries.map((entry) => [
      printable(entry.name),
      entry.dtype,
      entry.shape.join(' x '),
      entry.packed ? String(entry.packed.groupSize) : '',
      entry.packed ? describeForm(entry.packed.form) : '',
      String(entry.sizeBytes),
      entry.use,
    ]),
  );
  const packedCount = entries.filter(({ packed }) => packed).length;
  process.stdout.write(
    `${table}\n\n${source}: ${format}; ${packedCount} packed weights, ${entries.length - packedCount} plain tensors; use: ${use}\n`,
  );
}

// samebits inspect: every tensor of a checkpoint, and what can be done with it.

import type { Command } from 'commander';
import { printable } from '../../core/checkpoint/tensor_error.js';
import {
  asSamebitsFile,
  isTagged,
  type ModelCheckpoint,
  openModelCheckpoint,
  planConversion,
  SamebitsError,
  type WeightShape,
} from '../../core/index.js';
import { locateModel } from '../file_source.js';
import { formatTable } from '../table.js';

/** One line of the listing: a tensor, or a packed weight with its three parts. */
interface Entry {
  readonly name: string;
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly sizeBytes: number;
  /** N, K, groupSize and nGroups of a packed weight. */
  readonly packed?: WeightShape;
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
    .argument('<source>', "a samebits checkpoint, a .safetensors file, an index of shards, or a model's folder")
    .option('--json', 'print the listing as JSON')
    .action(inspect);
}

async function inspect(source: string, options: { readonly json?: true }): Promise<void> {
  const { folder, entry } = await locateModel(source);
  const model = await openModelCheckpoint(folder, entry);
  try {
    const listing = model.files.some(isTagged) ? listPacked(model) : listPlain(model);
    if (options.json) process.stdout.write(`${JSON.stringify({ source, ...listing }, null, 1)}\n`);
    else print(source, listing);
  } finally {
    await model.close();
  }
}

/** @throws SamebitsError when the tagged file does not hold what its tag says */
function listPacked(model: ModelCheckpoint): Listing {
  const entries: Entry[] = [];
  for (const file of model.files) {
    const { weights, plainTensors } = asSamebitsFile(file);
    for (const [name, packed] of weights) {
      const { n, k, nGroups } = packed;
      const sizeBytes = (n * k) / 2 + 4 * n * nGroups;
      entries.push({ name, dtype: 'INT4', shape: [n, k], sizeBytes, packed, use: 'verify, matvec, load' });
    }
    for (const { name, dtype, shape, sizeBytes } of plainTensors.values()) {
      entries.push({ name, dtype, shape, sizeBytes, use: 'load as it is' });
    }
  }
  return { format: 'samebits coalesced-int4, version 1', use: 'verify, matvec, load', entries };
}

/** Plain models can be converted; what cannot says why. */
function listPlain(model: ModelCheckpoint): Listing {
  const format = model.files.length === 1 ? 'safetensors' : `safetensors, ${model.files.length} shards`;
  const tensors = [...model.tensors.values()];
  try {
    const { tensors: selected } = planConversion(model);
    const useOf = new Map(
      selected.map(({ tensor, packed, reason }) => [
        tensor.name,
        `convert ${packed ? 'packs' : 'keeps'} it: ${reason}`,
      ]),
    );
    const entries = tensors.map((tensor) => entryOf(tensor, useOf.get(tensor.name) ?? ''));
    return { format, use: 'convert', entries };
  } catch (error) {
    if (!(error instanceof SamebitsError)) throw error;
    const use = `none: ${error.rule}, got ${error.got}`;
    return { format, use, entries: tensors.map((tensor) => entryOf(tensor, 'none')) };
  }
}

function entryOf({ name, dtype, shape, sizeBytes }: Omit<Entry, 'use'>, use: string): Entry {
  return { name, dtype, shape, sizeBytes, use };
}

function print(source: string, { format, use, entries }: Listing): void {
  const table = formatTable(
    [
      { title: 'tensor' },
      { title: 'dtype' },
      { title: 'shape', align: 'right' },
      { title: 'group', align: 'right' },
      { title: 'bytes', align: 'right' },
      { title: 'use' },
    ],
    entries.map((entry) => [
      printable(entry.name),
      entry.dtype,
      entry.shape.join(' x '),
      entry.packed ? String(entry.packed.groupSize) : '',
      String(entry.sizeBytes),
      entry.use,
    ]),
  );
  const packedCount = entries.filter(({ packed }) => packed).length;
  process.stdout.write(
    `${table}\n\n${source}: ${format}; ${packedCount} packed weights, ${entries.length - packedCount} plain tensors; use: ${use}\n`,
  );
}

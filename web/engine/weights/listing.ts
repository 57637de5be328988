// What a checkpoint holds, what can be packed, and what is refused and why.

import { findWeights } from '../../../core/checkpoint/importers.js';
import { LayoutChoice } from '../../../core/checkpoint/layout_choice.js';
import { packedSizeBytes } from '../../../core/checkpoint/packed_parts.js';
import {
  asSamebitsFile,
  describeForm,
  type Layout,
  type ModelCheckpoint,
  planConversion,
  SafetensorsFile,
  SamebitsError,
  type SamebitsFile,
  type Selection,
} from '../../../core/index.js';
import { failureOf } from '../job.js';
import type { Failure, ListedTensor, Listing } from '../messages.js';

/** What the page shows of a file; more would only slow it down. */
const MAX_LISTED = 2000;

export function listPacked(name: string, sizeBytes: number, file: SamebitsFile): Listing {
  const tensors: ListedTensor[] = [];
  for (const [weightName, packed] of file.weights) {
    const { n, k, groupSize, form } = packed;
    tensors.push({
      name: weightName,
      dtype: 'int4',
      shape: [n, k],
      sizeBytes: packedSizeBytes(packed),
      use: 'packed',
      groupSize,
      form: describeForm(form),
      reason: 'packed already',
    });
  }
  for (const { name: plainName, dtype, shape, sizeBytes: bytes } of file.plainTensors.values()) {
    tensors.push({ name: plainName, dtype, shape, sizeBytes: bytes, use: 'plain', reason: 'kept as it is' });
  }
  return listing(name, 'a samebits file, coalesced-int4', sizeBytes, tensors);
}

/**
 * A file of another format: what packing would do with each tensor. What no reader knows is refused by itself.
 * @throws SamebitsError when the file holds nothing that can be packed, or its layout must be said first
 */
export async function listForeign(
  model: ModelCheckpoint,
  layout: Layout | undefined,
): Promise<{ readonly listing: Listing; readonly selections: readonly Selection[] }> {
  const choice = layout === undefined ? {} : { layout };
  const found = await findWeights(model, new LayoutChoice(choice));
  const refused = found.flatMap((entry) => (entry.kind === 'refused' ? [entry] : []));
  const ambiguous = refused.find(({ error }) => error.code === 'FILE_LAYOUT_AMBIGUOUS');
  if (ambiguous) throw ambiguous.error;
  const refusals = refused.map(({ name, parts, error }): ListedTensor => {
    const { dtype = '', shape = [] } = parts[0] ?? {};
    const sizeBytes = parts.reduce((sum, part) => sum + part.sizeBytes, 0);
    return { name, dtype, shape, sizeBytes, use: 'refused', reason: error.rule, failure: failureOf(error) };
  });
  const selections = await selectionsOf(
    model,
    choice,
    refused.map(({ name }) => name),
  );
  const refusedParts = new Set(refused.flatMap(({ parts }) => parts.map(({ name }) => name)));
  const usable = selections.filter(({ name }) => !refusedParts.has(name));
  const formats = [...new Set(usable.flatMap(({ packed, dtype }) => (packed ? [dtype] : [])))];
  const shards = model.files.length === 1 ? '' : ` in ${model.files.length} files`;
  const sizeBytes = model.files.reduce((sum, file) => sum + file.sizeBytes, 0);
  const tensors = [...usable.map(listed), ...refusals];
  const refusal = refusalAsIs(model);
  return {
    listing: {
      ...listing(
        model.name,
        `${model.container}${shards}, weights in ${formats.join(', ') || 'no known format'}`,
        sizeBytes,
        tensors,
      ),
      ...(refusal && { refusal }),
    },
    selections: usable,
  };
}

/** Nothing to pack is no error where the reasons are known: they are listed. */
async function selectionsOf(
  model: ModelCheckpoint,
  choice: { readonly layout?: Layout },
  exclude: readonly string[],
): Promise<readonly Selection[]> {
  try {
    return (await planConversion(model, { ...choice, exclude })).tensors;
  } catch (error) {
    if (error instanceof SamebitsError && exclude.length > 0) return [];
    throw error;
  }
}

function listed({ kind, name, dtype, shape, sizeBytes, packed, reason }: Selection): ListedTensor {
  const groupSize = kind === 'weight' ? packed.groupSize : undefined;
  return {
    name,
    dtype,
    shape,
    sizeBytes,
    use: packed ? 'packable' : 'plain',
    ...(groupSize !== undefined && { groupSize }),
    reason,
  };
}

/** What the loader says of a file with packed codes and no tag: shapes are no proof of a layout. */
function refusalAsIs(model: ModelCheckpoint): Failure | undefined {
  for (const file of model.files) {
    if (!(file instanceof SafetensorsFile) || ![...file.tensors.keys()].some((name) => name.endsWith('qdata')))
      continue;
    try {
      asSamebitsFile(file);
    } catch (error) {
      return failureOf(error);
    }
  }
  return undefined;
}

/** Weights that can be used come first, then what is refused, then the rest. */
function listing(name: string, format: string, sizeBytes: number, tensors: readonly ListedTensor[]): Listing {
  const order = ['packed', 'packable', 'refused', 'plain'];
  const sorted = [...tensors].sort((a, b) => order.indexOf(a.use) - order.indexOf(b.use));
  return { name, format, sizeBytes, tensors: sorted.slice(0, MAX_LISTED), count: tensors.length };
}

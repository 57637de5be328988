// Every format that convert reads, in one list.

import { importAwq } from './import_awq.js';
import { importCompressedTensors } from './import_compressed_tensors.js';
import { importGguf } from './import_gguf.js';
import { importGptq } from './import_gptq.js';
import { importMlx } from './import_mlx.js';
import { importTorchao } from './import_torchao.js';
import { importUntagged } from './import_untagged.js';
import type { LayoutChoice } from './layout_choice.js';
import type { ModelCheckpoint } from './model_checkpoint.js';
import type { Found, Importer } from './source_weight.js';

const IMPORTERS: readonly Importer[] = [
  importGguf,
  importTorchao,
  importUntagged,
  importGptq,
  importAwq,
  importCompressedTensors,
  importMlx,
];

/**
 * The 4-bit weights of a checkpoint in any format, and what looks like one and is none.
 * @throws SamebitsError for metadata that cannot be read at all; what concerns one weight is in its entry
 */
export async function findWeights(model: ModelCheckpoint, layout: LayoutChoice): Promise<readonly Found[]> {
  const found: Found[] = [];
  for (const importer of IMPORTERS) found.push(...(await importer(model, layout)));
  return found;
}

// The weight of tests/data/formats: one of every format that is read, with the config that says all about it.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import type { SourceFolder } from '../../core/index.js';
import { importSources } from './import_sources.js';

export const FORMATS_FOLDER = join(import.meta.dirname, '../data/formats');
/** Not square, of several runs, and of a group size that every format has. */
const SOURCES = importSources(24, 512, 32);
const FILES = ['model.safetensors', 'config.json', 'quantize_config.json', 'm.gguf'];

/** By name of the folder. Formats that can only be told apart by options are left out. */
const FORMATS: Readonly<Record<string, string>> = {
  'torchao-unsigned': 'torchao, unsigned',
  'torchao-signed': 'torchao, signed',
  'torchao-intx': 'torchao, a code a byte',
  'gptq-v2': 'GPTQ v2',
  'gptq-v1': 'GPTQ v1, symmetric',
  awq: 'AWQ',
  'compressed-tensors': 'compressed-tensors, asymmetric',
  'compressed-tensors-i8': 'compressed-tensors, signed zero points',
  'compressed-tensors-symmetric': 'compressed-tensors, symmetric',
  mlx: 'MLX',
  native: 'untagged, native',
  'gguf-q4_0': 'GGUF Q4_0',
  'gguf-q4_1': 'GGUF Q4_1',
  'gguf-q4_k': 'GGUF Q4_K',
};

export interface FormatFixture {
  readonly name: string;
  /** What `samebits convert` is given: a folder, or a .gguf file. */
  readonly path: string;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** Every fixture as the builders of the tests make it, with the path at which it is committed. */
export async function formatFixtures(): Promise<readonly FormatFixture[]> {
  return Promise.all(
    Object.entries(FORMATS).map(async ([name, source]) => {
      const files = await filesOf(SOURCES[source]![0]);
      const isGguf = files.has('m.gguf');
      return { name, files, path: join(FORMATS_FOLDER, name, isGguf ? 'm.gguf' : '') };
    }),
  );
}

async function filesOf(folder: SourceFolder): Promise<ReadonlyMap<string, Uint8Array>> {
  const files = new Map<string, Uint8Array>();
  for (const name of FILES) {
    const file = await folder.open(name);
    if (file) files.set(name, await file.read(0, file.sizeBytes));
  }
  return files;
}

/** Where the recorded runs of these fixtures are, if there are any. */
export function formatRecordsFolder(): string | undefined {
  const folder = join(import.meta.dirname, '../data/format_records');
  return existsSync(folder) ? folder : undefined;
}

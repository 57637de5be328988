// A model: as Hugging Face lays it out, one safetensors file or shards with an index and the config beside them, or GGUF.

import { requireFields } from '../argument_checks.js';
import { SamebitsError } from '../errors.js';
import { openGguf } from './gguf_file.js';
import { decodeUtf8, openSafetensors, type SafetensorsFile } from './safetensors_reader.js';
import { readSideFiles } from './side_files.js';
import type { RandomAccessSource, SourceFolder } from './source.js';
import { describeJson, isJsonObject, type JsonObject, parseStrictJsonObject } from './strict_json.js';
import { quoted } from './tensor_error.js';
import type { ModelTensor, TensorFile } from './tensor_file.js';

const SINGLE_FILE = 'model.safetensors';
const INDEX_FILE = 'model.safetensors.index.json';
const MAX_JSON_BYTES = 100_000_000;
const MAX_SHARDS = 10_000;

/** An open model. Owns its files. */
export interface ModelCheckpoint {
  readonly name: string;
  /** By file, then in the order of their data. */
  readonly tensors: ReadonlyMap<string, ModelTensor>;
  readonly files: readonly TensorFile[];
  readonly container: 'safetensors' | 'gguf';
  /** config.json; empty when there is none. */
  readonly config: JsonObject;
  /** quantize_config.json, which older GPTQ models have; empty when there is none. */
  readonly quantizeConfig: JsonObject;
  /** What lies beside the weights and is taken along: `files/config.json`, `files/tokenizer.json`, ... */
  readonly sideFiles: readonly ModelTensor[];
  close(): Promise<void>;
}

/**
 * Opens the model in `folder`.
 * @param entry a .safetensors file, an index or a .gguf file in the folder; by default model.safetensors, else its index
 * @throws SamebitsError FILE_UNREADABLE when there is no model; FILE_HEADER_INVALID, FILE_TENSOR_MISSING,
 * FILE_TENSOR_INVALID for an index that does not fit its shards, FILE_DUPLICATE_KEY for a tensor in two of them; what
 * openSafetensors and openGguf throw
 */
export async function openModelCheckpoint(folder: SourceFolder, entry?: string): Promise<ModelCheckpoint> {
  requireFields(folder, 'a folder', ['open']);
  const opened: TensorFile[] = [];
  const close = async () => {
    await Promise.all(opened.map((file) => file.close()));
  };
  async function open<T extends TensorFile>(fileName: string, reader: (source: RandomAccessSource) => Promise<T>) {
    const file = await openOwned(await requireFile(folder, fileName), reader);
    opened.push(file);
    return file;
  }
  try {
    const first = String(entry ?? (await defaultEntry(folder)));
    if (first.endsWith('.gguf')) {
      const shards = [];
      for (const fileName of ggufShards(first)) shards.push(await open(fileName, openGguf));
      const tensors = tensorsOf(shards);
      return {
        name: folder.name,
        tensors,
        files: opened,
        container: 'gguf',
        config: NONE,
        quantizeConfig: NONE,
        sideFiles: [],
        close,
      };
    }
    const openShard = (fileName: string) => open(fileName, openSafetensors);
    const tensors = first.endsWith('.json')
      ? await openShards(folder, first, openShard)
      : tensorsOf([await openShard(first)]);
    const config = await readOptionalJson(folder, 'config.json');
    const quantizeConfig = await readOptionalJson(folder, 'quantize_config.json');
    const sideFiles = await readSideFiles(folder);
    const container = 'safetensors';
    return { name: folder.name, tensors, files: opened, container, config, quantizeConfig, sideFiles, close };
  } catch (error) {
    await close();
    throw error;
  }
}

const NONE: JsonObject = new Map();

async function readOptionalJson(folder: SourceFolder, fileName: string): Promise<JsonObject> {
  const source = await folder.open(fileName);
  return source ? readJson(source) : NONE;
}

/** The files of a split model, `x-00001-of-00003.gguf`: all of them, whichever was named. */
function ggufShards(entry: string): readonly string[] {
  const [, prefix = '', total = ''] = /^(.*-)[0-9]{5}-of-([0-9]{5})\.gguf$/s.exec(entry) ?? [];
  if (total === '') return [entry];
  const number = (i: number) => String(i + 1).padStart(5, '0');
  return Array.from(
    { length: Math.min(Number(total), MAX_SHARDS) },
    (_, i) => `${prefix}${number(i)}-of-${total}.gguf`,
  );
}

async function defaultEntry(folder: SourceFolder): Promise<string> {
  for (const name of [SINGLE_FILE, INDEX_FILE]) {
    const source = await folder.open(name);
    await source?.close();
    if (source) return name;
  }
  throw new SamebitsError('FILE_UNREADABLE', {
    rule: `${folder.name} must hold a model`,
    expected: `${SINGLE_FILE} or ${INDEX_FILE}`,
    got: 'neither',
    fix: 'Name the folder of a Hugging Face model, its .safetensors file, or a .gguf file.',
  });
}

async function requireFile(folder: SourceFolder, fileName: string): Promise<RandomAccessSource> {
  const source = await folder.open(fileName);
  if (source) return source;
  throw new SamebitsError('FILE_UNREADABLE', {
    rule: `${folder.name} must hold every file of the model`,
    expected: `a file ${quoted(fileName)}`,
    got: 'none of that name',
    fix: 'Fetch the missing file.',
  });
}

async function openOwned<T extends TensorFile>(
  source: RandomAccessSource,
  reader: (source: RandomAccessSource) => Promise<T>,
): Promise<T> {
  try {
    return await reader(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}

type Listed = TensorFile & { readonly tensors: ReadonlyMap<string, Omit<ModelTensor, 'file'>> };

function tensorsOf(files: readonly Listed[]): Map<string, ModelTensor> {
  const tensors = new Map<string, ModelTensor>();
  for (const file of files) {
    for (const [name, { dtype, shape, sizeBytes }] of file.tensors) {
      const other = tensors.get(name);
      if (other) throw inTwoFiles(name, other.file.name, file.name);
      tensors.set(name, { name, dtype, shape, sizeBytes, file });
    }
  }
  return tensors;
}

function inTwoFiles(name: string, first: string, second: string): SamebitsError {
  return new SamebitsError('FILE_DUPLICATE_KEY', {
    rule: `tensor ${quoted(name)} must be in one file of the model`,
    expected: first,
    got: `${second} too`,
    fix: 'The files are of different models or versions; fetch them again.',
  });
}

async function openShards(
  folder: SourceFolder,
  indexName: string,
  open: (fileName: string) => Promise<SafetensorsFile>,
): Promise<ReadonlyMap<string, ModelTensor>> {
  const shardOf = parseIndex(await readJson(await requireFile(folder, indexName)), indexName);
  const shards = new Map<string, SafetensorsFile>();
  for (const fileName of [...new Set(shardOf.values())].sort()) shards.set(fileName, await open(fileName));
  for (const [name, fileName] of shardOf) shards.get(fileName)!.tensor(name);
  for (const [fileName, { tensors }] of shards) {
    for (const name of tensors.keys()) {
      if (shardOf.get(name) !== fileName) throw unlisted(name, fileName, shardOf.get(name), indexName);
    }
  }
  return tensorsOf([...shards.values()]);
}

function unlisted(name: string, fileName: string, listedIn: string | undefined, indexName: string): SamebitsError {
  return new SamebitsError('FILE_TENSOR_INVALID', {
    rule: `tensor ${quoted(name)} of ${fileName} must be listed there by ${indexName}`,
    expected: quoted(fileName),
    got: listedIn === undefined ? 'no entry' : quoted(listedIn),
    fix: 'The shards and the index are of different versions of the model; fetch them again.',
  });
}

/** tensor -> file, from an index. File names cannot lead out of the folder. */
function parseIndex(index: JsonObject, indexName: string): ReadonlyMap<string, string> {
  const refuse = (got: string) =>
    new SamebitsError('FILE_HEADER_INVALID', {
      rule: `weight_map of ${indexName} must map tensors to files beside it`,
      expected: 'an object of .safetensors file names without a path',
      got,
      fix: 'Fetch the index again.',
    });
  const map = index.get('weight_map');
  if (!isJsonObject(map)) throw refuse(describeJson(map));
  return new Map(
    [...map].map(([name, fileName]) => {
      const isPlainName = typeof fileName === 'string' && /^[^/\\:\0]+\.safetensors$/.test(fileName);
      if (!isPlainName) throw refuse(`${describeJson(fileName)} for tensor ${quoted(name)}`);
      return [name, fileName];
    }),
  );
}

async function readJson(source: RandomAccessSource): Promise<JsonObject> {
  try {
    if (source.sizeBytes > MAX_JSON_BYTES) {
      throw new SamebitsError('FILE_HEADER_TOO_LARGE', {
        rule: `${source.name} must not exceed ${MAX_JSON_BYTES} bytes`,
        expected: 'a JSON file',
        got: `${source.sizeBytes} bytes`,
        fix: 'Fetch the file again.',
      });
    }
    return parseStrictJsonObject(decodeUtf8(await source.read(0, source.sizeBytes), source.name), source.name);
  } finally {
    await source.close();
  }
}

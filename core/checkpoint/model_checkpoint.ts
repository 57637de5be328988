// A model as Hugging Face lays it out: one safetensors file or shards with an index, and the config beside them.

import { SamebitsError } from '../errors.js';
import type { TensorInfo } from './safetensors_header.js';
import { decodeUtf8, openSafetensors, type SafetensorsFile } from './safetensors_reader.js';
import type { RandomAccessSource, SourceFolder } from './source.js';
import { describeJson, isJsonObject, type JsonObject, parseStrictJsonObject } from './strict_json.js';
import { quoted } from './tensor_error.js';

const SINGLE_FILE = 'model.safetensors';
const INDEX_FILE = 'model.safetensors.index.json';
const MAX_JSON_BYTES = 100_000_000;

/** A tensor and the file that holds it. */
export interface ModelTensor extends TensorInfo {
  readonly file: SafetensorsFile;
}

/** An open model. Owns its files. */
export interface ModelCheckpoint {
  readonly name: string;
  /** By file, then in the order of their data. */
  readonly tensors: ReadonlyMap<string, ModelTensor>;
  readonly files: readonly SafetensorsFile[];
  /** config.json; empty when there is none. */
  readonly config: JsonObject;
  close(): Promise<void>;
}

/**
 * Opens the model in `folder`.
 * @param entry a .safetensors file or an index in the folder; by default model.safetensors, else its index
 * @throws SamebitsError FILE_UNREADABLE when there is no model; FILE_HEADER_INVALID, FILE_TENSOR_MISSING,
 * FILE_TENSOR_INVALID for an index that does not fit its shards; what openSafetensors throws
 */
export async function openModelCheckpoint(folder: SourceFolder, entry?: string): Promise<ModelCheckpoint> {
  const opened: SafetensorsFile[] = [];
  const open = async (fileName: string) => {
    const file = await openOwned(await requireFile(folder, fileName));
    opened.push(file);
    return file;
  };
  const close = async () => {
    await Promise.all(opened.map((file) => file.close()));
  };
  try {
    const first = entry ?? (await defaultEntry(folder));
    const tensors = first.endsWith('.json') ? await openShards(folder, first, open) : tensorsOf([await open(first)]);
    const configSource = await folder.open('config.json');
    const config = configSource ? await readJson(configSource) : new Map();
    return { name: folder.name, tensors, files: opened, config, close };
  } catch (error) {
    await close();
    throw error;
  }
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
    fix: 'Name the folder of a Hugging Face model, or its .safetensors file.',
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

async function openOwned(source: RandomAccessSource): Promise<SafetensorsFile> {
  try {
    return await openSafetensors(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}

function tensorsOf(files: readonly SafetensorsFile[]): Map<string, ModelTensor> {
  return new Map(files.flatMap((file) => [...file.tensors.values()].map((info) => [info.name, { ...info, file }])));
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

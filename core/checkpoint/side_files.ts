// The small files beside a model's weights that a converted file takes along, so that it is a whole model.

import { checkRange, type SourceFolder } from './source.js';
import type { ModelTensor, TensorFile } from './tensor_file.js';

const NAMES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
] as const;
const MAX_SIDE_FILE_BYTES = 100_000_000;

/** Without it a model is weights that nobody can write text with, and its config tells nothing that the tag does not. */
const TELLS_A_TEXT_MODEL = 'files/tokenizer.json';

/**
 * Each as a plain U8 tensor `files/<name>`, of a model that has a tokenizer; those that are empty or larger than any real one
 * stay behind.
 */
export async function readSideFiles(folder: SourceFolder): Promise<readonly ModelTensor[]> {
  const tensors: ModelTensor[] = [];
  for (const fileName of NAMES) {
    const source = await folder.open(fileName);
    if (!source) continue;
    try {
      const { sizeBytes } = source;
      if (sizeBytes === 0 || sizeBytes > MAX_SIDE_FILE_BYTES) continue;
      const file = inMemory(fileName, await source.read(0, sizeBytes));
      tensors.push({ name: `files/${fileName}`, dtype: 'U8', shape: [sizeBytes], sizeBytes, file });
    } finally {
      await source.close();
    }
  }
  return tensors.some(({ name }) => name === TELLS_A_TEXT_MODEL) ? tensors : [];
}

function inMemory(name: string, bytes: Uint8Array<ArrayBuffer>): TensorFile {
  return {
    name,
    sizeBytes: bytes.length,
    metadata: new Map(),
    read: async (_, start = 0, length = bytes.length - start) => {
      checkRange(name, bytes.length, start, length);
      return bytes.slice(start, start + length);
    },
    close: async () => {},
  };
}

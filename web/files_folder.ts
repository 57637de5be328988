// Files that were chosen or dropped, as the folder of a model.

import type { RandomAccessSource, SourceFolder } from '../core/index.js';
import { blobSource } from './blob_source.js';

/** A model's files by their names: what openModelCheckpoint takes. */
export function filesFolder(files: readonly File[]): SourceFolder {
  return {
    name: files.length === 1 ? files[0]!.name : `${files.length} files`,
    open: async (fileName): Promise<RandomAccessSource | undefined> => {
      const file = files.find(({ name }) => name === fileName);
      return file && blobSource(file, fileName);
    },
  };
}

// The recorded runs of the kernels as they are, read apart from the page. A record of older kernels says nothing of them;
// the parity suite fails when there is one.

import { readdirSync, readFileSync } from 'node:fs';
import { kernelSourcesSha256 } from '../../scripts/kernel-sources.mjs';
import type { CudaRecord } from '../../web/records.js';

const FOLDER = 'tests/data/records';

export const RECORDS: readonly CudaRecord[] = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.json'))
  .map((name): CudaRecord => JSON.parse(readFileSync(`${FOLDER}/${name}`, 'utf8')))
  .filter(({ cudaSourcesSha256 }) => cudaSourcesSha256 === kernelSourcesSha256('cuda'));

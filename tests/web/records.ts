// The recorded runs of the kernels as they are, read apart from the page. A record of older kernels says nothing of them;
// the parity suite fails when there is one.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type { DecoderRecord } from '../../node/decoder_record.js';
import { kernelSourcesSha256 } from '../../scripts/kernel-sources.mjs';
import type { CudaRecord } from '../../web/records.js';

interface OfKernels {
  readonly cudaSourcesSha256: string;
}

function recordsIn<T extends OfKernels>(folder: string): readonly T[] {
  return (existsSync(folder) ? readdirSync(folder) : [])
    .filter((name) => name.endsWith('.json'))
    .map((name): T => JSON.parse(readFileSync(`${folder}/${name}`, 'utf8')))
    .filter(({ cudaSourcesSha256 }) => cudaSourcesSha256 === kernelSourcesSha256('cuda'));
}

export const RECORDS = recordsIn<CudaRecord>('tests/data/records');
export const DECODER_RECORDS = recordsIn<DecoderRecord>('tests/data/decoder_records');

// Recorded runs: what a GPU computed, kept so that machines without one can be compared with it.

import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { ParityResult } from '../core/index.js';
import { writeFileWhole } from './file_sink.js';

/** One recorded run: a file of tests/data/records. */
export interface ParityRecord {
  readonly device: string;
  readonly driver: string;
  readonly recordedAt: string;
  /** The kernels that ran, as compiled into the addon and built into the package. */
  readonly cudaSourcesSha256: string;
  readonly shaderSourcesSha256: string;
  /** By name of the input: the digest of the output bits, and every backend that gave exactly these. */
  readonly cases: Readonly<Record<string, { readonly sha256: string; readonly backends: readonly string[] }>>;
}

/** Results as a record keeps them. Call it only when every outcome is equal. */
export function recordedCases(results: readonly ParityResult[]): ParityRecord['cases'] {
  return Object.fromEntries(
    results.map(({ name, sha256, outcomes }) => [
      name,
      { sha256, backends: ['cpu', ...outcomes.map(({ backend }) => backend).filter((backend) => backend !== 'cpu')] },
    ]),
  );
}

/** `NVIDIA H200` -> `tests/data/records/nvidia-h200.json` */
export function recordPath(device: string): string {
  const slug = device.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  return `tests/data/records/${slug}.json`;
}

/** Writes the record whole or not at all. */
export async function writeRecord(path: string, record: ParityRecord): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFileWhole(path, new TextEncoder().encode(`${JSON.stringify(record, null, 1)}\n`));
}

// Recorded texts: what a decoder wrote on a GPU, every logit by its digest, for machines without one to compare with.

import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { writeFileWhole } from './file_sink.js';

/** A file of tests/data/decoder_records. */
export interface DecoderRecord {
  readonly device: string;
  readonly driver: string;
  readonly recordedAt: string;
  readonly cudaSourcesSha256: string;
  readonly shaderSourcesSha256: string;
  readonly model: string;
  /** All of these gave exactly these bits. */
  readonly backends: readonly string[];
  /** By name of the run. */
  readonly texts: Readonly<Record<string, { readonly sha256: string; readonly tokens: readonly number[] }>>;
}

/** `NVIDIA H200` -> `tests/data/decoder_records/nvidia-h200.json` */
export function decoderRecordPath(device: string): string {
  const slug = device.toLowerCase().replace(/[^a-z0-9]+/g, '-');
  return `tests/data/decoder_records/${slug}.json`;
}

/** Writes the record whole or not at all; tokens of a text on one line. */
export async function writeDecoderRecord(path: string, record: DecoderRecord): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const json = JSON.stringify(record, null, 1).replace(/\[[\d,\s]+\]/g, (list) => list.replace(/\s+/g, ''));
  await writeFileWhole(path, new TextEncoder().encode(`${json}\n`));
}

// samebits verify --decode: whole texts on every backend, prompts in steps of four tokens and of one, two texts taking turns;
// every logit by its digest against the reference's, and recorded.

import { basename } from 'node:path';
import {
  type Backend,
  type DecodeResult,
  type DecodeRun,
  DRAWN_CONFIG,
  decodeRun,
  decodeRuns,
  decodeTogether,
  drawDecoderSource,
  SamebitsError,
} from '../../core/index.js';
import { CpuDecoder } from '../../core/model/cpu_decoder.js';
import type { DecoderSource } from '../../core/model/decoder_backend.js';
import { openFileDecoderSource } from '../../core/model/file_decoder_source.js';
import { provenance } from '../bench/provenance.js';
import { type DecoderRecord, decoderRecordPath, writeDecoderRecord } from '../decoder_record.js';
import { EXIT } from '../exit_codes.js';
import type { Available } from '../open_available.js';
import { withSamebitsFile } from '../packed_file.js';
import { terminalProgress } from '../progress.js';
import { formatTable } from '../table.js';

export interface VerifyDecodeOptions {
  /** Where to; true names the file after the device. */
  readonly record?: string | true;
  readonly json?: true;
}

/** What one backend gave, every text twice. */
interface BackendTexts {
  readonly backend: Backend;
  readonly results: readonly DecodeResult[];
}

const DRAWN_MODEL = 'drawn decoder';

/**
 * Of the model in a file, or without one of a decoder drawn from a seed.
 * @throws SamebitsError ARGUMENT_INVALID for several files; what is wrong with the file or its model
 */
export async function verifyDecode(
  files: readonly string[],
  available: Available,
  options: VerifyDecodeOptions,
): Promise<void> {
  const [path, another] = files;
  if (another !== undefined) throw severalFiles(files);
  if (path === undefined) return verifyTexts(DRAWN_MODEL, drawDecoderSource(DRAWN_CONFIG), available, options);
  await withSamebitsFile(path, async (file) =>
    verifyTexts(basename(path), await openFileDecoderSource(file), available, options),
  );
}

async function verifyTexts(
  model: string,
  source: DecoderSource,
  { backends, unavailable }: Available,
  options: VerifyDecodeOptions,
): Promise<void> {
  const runs = decodeRuns(source.config);
  const others = backends.filter(({ name }) => name !== 'cpu');
  const progress = terminalProgress();
  const texts: BackendTexts[] = [];
  let reference: readonly DecodeResult[];
  try {
    for (const backend of others) {
      texts.push({ backend, results: await textsOf(backend, source, runs, progress.update) });
    }
    reference = await referenceTexts(source, runs, progress.update);
  } finally {
    progress.clear();
  }
  const isEqual = texts.every(({ results }) => reference.every((expected) => areEqual(results, expected)));
  if (options.json) {
    const devices = texts.map(({ backend: { name, device }, results }) => ({ name, device, results }));
    process.stdout.write(`${JSON.stringify({ model, reference, devices, unavailable }, null, 1)}\n`);
  } else {
    process.stdout.write(formatTexts(runs, reference, texts));
    for (const { name, reason } of unavailable) process.stdout.write(`${name}: SKIPPED (${reason})\n`);
  }
  if (!isEqual) process.exitCode = EXIT.failure;
  else if (options.record !== undefined) await record(model, texts, reference, options.record);
}

async function textsOf(
  backend: Backend,
  source: DecoderSource,
  runs: readonly DecodeRun[],
  onProgress: (what: string) => void,
): Promise<readonly DecodeResult[]> {
  const decoder = await backend.loadDecoder(source);
  try {
    const results: DecodeResult[] = [];
    for (let i = 0; i < runs.length; i += 2) {
      onProgress(`${backend.name}: ${runs[i]!.name}, ${i} of ${runs.length}`);
      const two = runs.slice(i, i + 2);
      // The prompt of the first in steps of four beside the other's token by token, then the other way round.
      for (const turns of [two, two.toReversed()]) results.push(...(await decodeTogether(decoder, turns)));
    }
    return results;
  } finally {
    decoder.dispose();
  }
}

/** One text after the other, token by token. */
async function referenceTexts(
  source: DecoderSource,
  runs: readonly DecodeRun[],
  onProgress: (what: string) => void,
): Promise<readonly DecodeResult[]> {
  const decoder = await CpuDecoder.load(source);
  const results: DecodeResult[] = [];
  for (const run of runs) {
    onProgress(`cpu: ${run.name}, ${results.length} of ${runs.length}`);
    results.push(await decodeRun(decoder, run, 1));
  }
  return results;
}

/** Whether a text has the expected digest however it was run. */
function areEqual(results: readonly DecodeResult[], expected: DecodeResult): boolean {
  return results.filter(({ name }) => name === expected.name).every(({ sha256 }) => sha256 === expected.sha256);
}

function formatTexts(
  runs: readonly DecodeRun[],
  reference: readonly DecodeResult[],
  texts: readonly BackendTexts[],
): string {
  const table = formatTable(
    [
      { title: 'text' },
      { title: 'tokens', align: 'right' },
      { title: 'sha256' },
      ...texts.map(({ backend }) => ({ title: backend.name })),
    ],
    runs.map(({ name, prompt, greedyTokens, drawnTokens }, i) => [
      name,
      String(prompt.length + greedyTokens + drawnTokens),
      reference[i]!.sha256.slice(0, 12),
      ...texts.map(({ results }) => (areEqual(results, reference[i]!) ? 'equal' : 'DIFFERS')),
    ]),
  );
  const verdicts = texts.map(({ backend: { name, device }, results }) => {
    const equal = reference.filter((expected) => areEqual(results, expected)).length;
    const where = `${name} (${device.name}${device.isSoftware ? ', software' : ''})`;
    return `${where}: every logit of ${equal} of ${runs.length} texts equals the reference's, bit for bit.\n`;
  });
  return `${table}\n\n${verdicts.join('')}`;
}

async function record(
  model: string,
  texts: readonly BackendTexts[],
  reference: readonly DecodeResult[],
  path: string | true,
): Promise<void> {
  const { device } = (texts.find(({ backend }) => backend.name === 'cuda') ?? texts[0]!).backend;
  const { cudaSourcesSha256, shaderSourcesSha256, date } = provenance();
  const entry: DecoderRecord = {
    device: device.name,
    driver: device.details['driver'] ?? 'unknown',
    recordedAt: date,
    cudaSourcesSha256,
    shaderSourcesSha256,
    model,
    backends: ['cpu', ...texts.map(({ backend }) => backend.name)],
    texts: Object.fromEntries(reference.map(({ name, sha256, tokens }) => [name, { sha256, tokens }])),
  };
  const to = path === true ? decoderRecordPath(device.name) : path;
  await writeDecoderRecord(to, entry);
  process.stderr.write(`Recorded ${reference.length} texts in ${to}.\n`);
}

function severalFiles(files: readonly string[]): SamebitsError {
  return new SamebitsError('ARGUMENT_INVALID', {
    rule: '--decode verifies one model at a time',
    expected: 'one file, or none',
    got: `${files.length} files`,
    fix: 'Run one after the other.',
  });
}

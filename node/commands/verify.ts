// samebits verify: every output bit of every backend against the reference.

import { availableParallelism } from 'node:os';
import { basename } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import {
  type Backend,
  CASES,
  CoalescedInt4Tensor,
  drawActivations,
  drawFormWeight,
  drawWeight,
  FORM_CASES,
  fileInputs,
  formatDifference,
  type ParityCase,
  type ParityInput,
  type ParityResult,
  SamebitsError,
  VERIFY_ROWS,
  verifyWeight,
} from '../../core/index.js';
import { backendOption, selectedBackends } from '../backend_option.js';
import { CudaBackend } from '../cuda_backend.js';
import { EXIT } from '../exit_codes.js';
import { type Available, openAvailable } from '../open_available.js';
import { withSamebitsFile } from '../packed_file.js';
import { terminalProgress } from '../progress.js';
import { type ParityRecord, recordedCases, recordPath, writeRecord } from '../record.js';
import { formatSoak, soak } from '../soak.js';
import { soakOnThreads } from '../soak_threads.js';
import { formatTable } from '../table.js';
import { verifyDecode } from './verify_decode.js';

/** Between two signs of life of a soak. */
const PROGRESS_MS = 100;
/** Each has a device of its own. */
const MAX_THREADS = 64;

interface VerifyOptions {
  readonly decode?: true;
  readonly backend?: readonly string[];
  readonly rows?: readonly number[];
  readonly record?: string | true;
  readonly soak?: number;
  readonly seed: number;
  readonly threads?: number;
  readonly json?: true;
}

/** A weight to verify, loaded when its turn comes. */
interface Subject {
  readonly weight: string;
  load(): Promise<{ weight: CoalescedInt4Tensor; inputs: readonly ParityInput[] }>;
}

export function registerVerify(program: Command): void {
  program
    .command('verify')
    .description('compare every output bit of every available backend with the reference')
    .argument('[files...]', 'samebits checkpoints; without one, the built-in case tables')
    .addOption(backendOption())
    .option('--rows <list>', `rows of activations for the weights of a file (default ${VERIFY_ROWS})`, parseRows)
    .option('--record [path]', 'on a CUDA machine: verify the case tables and the files, and write the record')
    .option(
      '--decode',
      'instead: whole texts of the model in a file, without one of a drawn one, every logit against the reference',
    )
    .option('--soak <count>', 'instead: this many small cases of mean values, drawn from the seed', parseCount)
    .option('--seed <seed>', 'seed of the soak', parseSeed, 1)
    .option('--threads <count>', 'threads of the soak (default: the cores less two; 1 on software)', parseThreads)
    .option('--json', 'print the results as JSON')
    .action((files: readonly string[], options: VerifyOptions) => verify(files, options));
}

function parseRows(text: string): readonly number[] {
  const rows = text.split(',').map(Number);
  if (rows.every((m) => Number.isInteger(m) && m > 0)) return rows;
  throw new InvalidArgumentError('Expected positive integers, for example 1,2,3,4,7.');
}

function parseCount(text: string): number {
  const count = Number(text);
  if (Number.isSafeInteger(count) && count > 0) return count;
  throw new InvalidArgumentError('Expected a positive integer.');
}

function parseThreads(text: string): number {
  const threads = parseCount(text);
  if (threads <= MAX_THREADS) return threads;
  throw new InvalidArgumentError(`Expected 1 to ${MAX_THREADS}.`);
}

function parseSeed(text: string): number {
  const seed = Number(text);
  if (text !== '' && Number.isSafeInteger(seed) && seed >= 0) return seed;
  throw new InvalidArgumentError('Expected an integer, 0 or more.');
}

async function verify(files: readonly string[], options: VerifyOptions): Promise<void> {
  refuseSameNames(files);
  const available = await openAvailable(selectedBackends(options.backend), options.backend !== undefined);
  try {
    if (!available.backends.some(({ name }) => name !== 'cpu')) throw nothingToCompare(available);
    if (options.soak !== undefined) return await runSoak(files, options, options.soak, available);
    if (options.record !== undefined) requireCuda(available);
    if (options.decode) return await verifyDecode(files, available, options);
    const results: ParityResult[] = [];
    if (files.length === 0 || options.record !== undefined) {
      results.push(...(await verifySubjects(builtInSubjects(), available.backends)));
    }
    for (const file of files) {
      await withSamebitsFile(file, async (packed) => {
        const subjects = [...packed.weights.keys()].map((tensor) => {
          const name = files.length > 1 ? `${basename(file)}: ${tensor}` : tensor;
          return {
            weight: name,
            load: async () => {
              const weight = await packed.readWeight(tensor);
              return { weight, inputs: fileInputs(name, weight.k, options.rows) };
            },
          };
        });
        results.push(...(await verifySubjects(subjects, available.backends)));
      });
    }
    report(results, available, options.json === true);
    const isEqual = results.every(({ outcomes }) => outcomes.every(({ difference }) => difference === null));
    if (!isEqual) process.exitCode = EXIT.failure;
    else if (options.record !== undefined) await record(results, available, options.record);
  } finally {
    await Promise.all(available.backends.map((backend) => backend.dispose()));
  }
}

/** Of several files, the names tell their weights apart. */
function refuseSameNames(files: readonly string[]): void {
  const names = files.map((file) => basename(file));
  const again = names.find((name, i) => names.indexOf(name) < i);
  if (again === undefined) return;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'files that are verified together must differ in their names',
    expected: 'each name once',
    got: `${again} twice`,
    fix: 'Rename one, or run the two one after the other.',
  });
}

async function runSoak(files: readonly string[], options: VerifyOptions, count: number, available: Available) {
  if (files.length > 0 || options.record !== undefined) {
    throw new SamebitsError('ARGUMENT_INVALID', {
      rule: '--soak draws its own cases and is not recorded',
      expected: 'neither a file nor --record beside it',
      got: files[0] ?? '--record',
      fix: 'Run the two one after the other.',
    });
  }
  const backends = available.backends.filter(({ name }) => name !== 'cpu');
  const { seed, threads = defaultThreads(backends) } = options;
  const progress = terminalProgress();
  let shownAt = 0;
  const onProgress = (done: number) => {
    if (performance.now() - shownAt < PROGRESS_MS) return;
    shownAt = performance.now();
    progress.update(`${done}/${count} cases, seed ${seed}`);
  };
  const names = backends.map(({ name }) => name);
  const running =
    threads === 1
      ? soak(backends, { count, seed, onProgress })
      : soakOnThreads(names, threads, { count, seed, onProgress });
  const report = await running.finally(() => progress.clear());
  if (options.json) {
    const devices = backends.map(({ name, device }) => ({ name, device }));
    process.stdout.write(`${JSON.stringify({ devices, unavailable: available.unavailable, ...report }, null, 1)}\n`);
  } else {
    process.stdout.write(formatSoak(report, backends));
    for (const { name, reason } of available.unavailable) process.stdout.write(`${name}: SKIPPED (${reason})\n`);
  }
  if (report.mismatchCount > 0) process.exitCode = EXIT.failure;
}

/** A software device keeps every core busy by itself. */
function defaultThreads(backends: readonly Backend[]): number {
  if (backends.some(({ device }) => device.isSoftware)) return 1;
  return Math.min(Math.max(1, availableParallelism() - 2), MAX_THREADS);
}

/** The case tables of the form zero in bf16, and of all others. */
function builtInSubjects(): Subject[] {
  const subject = (of: Omit<ParityCase, 'weights'>, draw: () => CoalescedInt4Tensor): Subject => ({
    weight: of.name,
    load: async () => ({ weight: draw(), inputs: [{ name: of.name, m: of.m, x: drawActivations(of) }] }),
  });
  return [
    ...CASES.map((of) => subject(of, () => CoalescedInt4Tensor.fromInt4Tensor(drawWeight(of)))),
    ...FORM_CASES.map((of) => subject(of, () => drawFormWeight(of))),
  ];
}

async function verifySubjects(subjects: readonly Subject[], backends: readonly Backend[]): Promise<ParityResult[]> {
  const progress = terminalProgress();
  const results: ParityResult[] = [];
  try {
    for (const [index, subject] of subjects.entries()) {
      progress.update(`${index + 1}/${subjects.length} ${subject.weight}`);
      const { weight, inputs } = await subject.load();
      for await (const result of verifyWeight(weight, inputs, backends)) results.push(result);
    }
  } finally {
    progress.clear();
  }
  return results;
}

function report(results: readonly ParityResult[], { backends, unavailable }: Available, asJson: boolean): void {
  if (asJson) {
    const devices = backends.map(({ name, device }) => ({ name, device }));
    process.stdout.write(`${JSON.stringify({ devices, unavailable, results }, null, 1)}\n`);
    return;
  }
  const table = formatTable(
    [
      { title: 'input' },
      { title: 'N', align: 'right' },
      { title: 'K', align: 'right' },
      { title: 'group', align: 'right' },
      { title: 'M', align: 'right' },
      { title: 'sha256' },
      ...backends.map(({ name }) => ({ title: name })),
    ],
    results.map(({ name, n, k, groupSize, m, sha256, outcomes }) => [
      name,
      ...[n, k, groupSize, m].map(String),
      sha256.slice(0, 12),
      ...outcomes.map(({ difference }) => (difference === null ? 'equal' : 'DIFFERS')),
    ]),
  );
  process.stdout.write(`${table}\n\n${verdict(results, backends)}`);
  for (const { name, reason } of unavailable) process.stdout.write(`${name}: SKIPPED (${reason})\n`);
}

function verdict(results: readonly ParityResult[], backends: readonly Backend[]): string {
  return backends
    .map(({ name, device }, index) => {
      const outcomes = results.map((result) => ({ result, difference: result.outcomes[index]?.difference ?? null }));
      const equal = outcomes.filter(({ difference }) => difference === null).length;
      const where = `${name} (${device.name}${device.isSoftware && name !== 'cpu' ? ', software' : ''})`;
      const line = `${where}: ${equal} of ${results.length} results equal the reference's, bit for bit.\n`;
      const first = outcomes.find(({ difference }) => difference !== null);
      if (!first?.difference) return line;
      return `${line}  first difference: ${first.result.name}, ${first.difference.outputType} ${formatDifference(first.difference)}\n`;
    })
    .join('');
}

async function record(results: readonly ParityResult[], available: Available, path: string | true): Promise<void> {
  const { device, sourcesSha256 } = requireCuda(available);
  const entry: ParityRecord = {
    device: device.name,
    driver: device.details['driver'] ?? 'unknown',
    recordedAt: new Date().toISOString(),
    cudaSourcesSha256: sourcesSha256,
    shaderSourcesSha256: __SHADER_SOURCES_SHA256__,
    cases: recordedCases(results),
  };
  const to = path === true ? recordPath(device.name) : path;
  await writeRecord(to, entry);
  process.stderr.write(`Recorded ${results.length} results in ${to}.\n`);
}

function requireCuda({ backends, unavailable }: Available): CudaBackend {
  const cuda = backends.find((backend) => backend instanceof CudaBackend);
  if (cuda) return cuda;
  throw new SamebitsError('BACKEND_UNAVAILABLE', {
    rule: 'a record is made of a CUDA run',
    expected: 'the cuda backend',
    got: unavailable.find(({ name }) => name === 'cuda')?.reason ?? 'a run without it',
    fix: "Run 'samebits verify --record' on a machine with an NVIDIA GPU, without --backend.",
  });
}

function nothingToCompare({ unavailable }: Available): SamebitsError {
  return new SamebitsError('BACKEND_UNAVAILABLE', {
    rule: 'verify compares at least one backend with the reference',
    expected: 'cuda or webgpu',
    got: unavailable.map(({ name, reason }) => `${name}: ${reason}`).join('; ') || 'only the reference itself',
    fix: "Run 'samebits doctor' to see what is missing.",
  });
}

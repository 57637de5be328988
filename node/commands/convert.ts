// samebits convert: quantizes and packs a model's linears and writes the tagged file.

import cliProgress from 'cli-progress';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { printable } from '../../core/checkpoint/tensor_error.js';
import {
  type ConversionProgress,
  type ConversionReport,
  LAYOUTS,
  type Layout,
  SamebitsError,
} from '../../core/index.js';
import { formatAccuracy, reportAccuracy } from '../accuracy_report.js';
import { convertFile } from '../file_convert.js';
import { interruptible } from '../interruption.js';
import { isWatched } from '../progress.js';
import { formatTable } from '../table.js';

interface ConvertOptions {
  readonly groupSize: number;
  readonly symmetric?: true;
  readonly rounded?: true;
  readonly include?: readonly string[];
  readonly exclude?: readonly string[];
  readonly layout?: Layout;
  readonly assumeZeroOffset?: true;
  readonly threads?: number;
  readonly dryRun?: true;
  readonly report?: true;
  readonly force?: true;
  readonly json?: true;
}

/** Steps of a hundred at which a run without a terminal says how far it is. */
const LINE_STEP_PERCENT = 10;

export function registerConvert(program: Command): void {
  program
    .command('convert')
    .description("pack a model's 4-bit weights, or quantize its linears to 4 bits, and keep the rest")
    .argument(
      '<source>',
      "a model's folder, its .safetensors file, the index of its shards, a .gguf file, or the URL of one",
    )
    .argument('[out]', 'the samebits checkpoint to write; not needed with --dry-run or --report')
    .option(
      '--group-size <g>',
      'weights that share a scale, for weights that are quantized here: 16, or a power of two from 32',
      parseInteger,
      32,
    )
    .option('--symmetric', 'zero point 8 everywhere')
    .option('--rounded', 'of 4-bit weights round scales, and zero points or offsets, to bf16: one form for all')
    .option('--include <pattern...>', "pack only matrices that fit a pattern, for example '*.mlp.*'")
    .option('--exclude <pattern...>', 'keep tensors that fit a pattern as they are')
    .addOption(
      new Option('--layout <name>', 'what the file cannot say of itself; asked for where needed').choices(LAYOUTS),
    )
    .option('--assume-zero-offset', 'read zero points of asymmetric GPTQ v1 as stored + 1')
    .option('--threads <n>', 'how many cores to use; by default all that are worth it', parseInteger)
    .option('--dry-run', 'report without writing')
    .option('--report', 'measure the accuracy of 4 bits on this model, in dB, and write nothing')
    .option('--force', 'replace OUT if it exists')
    .option('--json', 'print the report as JSON')
    .action(convert);
}

function parseInteger(text: string): number {
  if (/^[1-9][0-9]*$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected a positive integer.');
}

async function convert(source: string, out: string | undefined, options: ConvertOptions): Promise<void> {
  if (options.report) return report(source, options);
  if (out !== undefined) return convertTo(source, out, options);
  if (options.dryRun) return convertTo(source, '(nothing)', options);
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: 'a conversion needs a file to write',
    expected: 'samebits convert SOURCE OUT',
    got: 'no OUT',
    fix: 'Name it, or pass --dry-run or --report, which write nothing.',
  });
}

async function report(source: string, options: ConvertOptions): Promise<void> {
  await interruptible(async (signal) => {
    const linears = await reportAccuracy(source, { ...options, signal });
    const text = options.json
      ? JSON.stringify({ source, linears }, null, 1)
      : `${formatAccuracy(linears)}\n\nSignal to noise in dB, weights / W4A8 product against f64, by group size; higher is better.`;
    process.stdout.write(`${text}\n`);
  });
}

async function convertTo(source: string, out: string, options: ConvertOptions): Promise<void> {
  const progress = new ProgressDisplay(process.stderr);
  const work = async (signal: AbortSignal) => {
    const start = performance.now();
    const report = await convertFile(source, out, {
      ...options,
      overwrite: options.force ?? false,
      onProgress: (state) => progress.show(state),
      signal,
    });
    progress.stop();
    print(report, { out, elapsedSeconds: (performance.now() - start) / 1000, options });
  };
  await interruptible(work, () => progress.stop());
}

/** A bar on a terminal, a line every ten percent elsewhere. */
class ProgressDisplay {
  readonly #bar: cliProgress.SingleBar | undefined;
  readonly #startMs = performance.now();
  #percent = 0;

  constructor(private readonly stream: NodeJS.WriteStream) {
    if (!isWatched(stream)) return;
    // The command handles signals itself, so that the bar and the partial file go in one place.
    this.#bar = new cliProgress.SingleBar({
      format: '{bar} {percentage}% | {rateMBps} MB/s | {eta_formatted} left | {tensor}',
      stream,
      gracefulExit: false,
      clearOnComplete: true,
      hideCursor: true,
    });
  }

  show({ doneBytes, totalBytes, tensor }: ConversionProgress): void {
    const rateMBps = (doneBytes / 1e3 / Math.max(1, performance.now() - this.#startMs)).toFixed(0);
    if (this.#bar) {
      if (!this.#bar.isActive) this.#bar.start(totalBytes, 0, { tensor: printable(tensor), rateMBps });
      this.#bar.update(doneBytes, { tensor: printable(tensor), rateMBps });
      return;
    }
    const percent = Math.floor((100 * doneBytes) / totalBytes);
    if (percent < this.#percent + LINE_STEP_PERCENT) return;
    this.#percent = percent - (percent % LINE_STEP_PERCENT);
    this.stream.write(`${this.#percent}% of ${megabytes(totalBytes)}, ${rateMBps} MB/s\n`);
  }

  /** Takes the bar off the terminal. */
  stop(): void {
    if (this.#bar?.isActive) this.#bar.stop();
  }
}

interface Run {
  readonly out: string;
  readonly elapsedSeconds: number;
  readonly options: ConvertOptions;
}

function print(report: ConversionReport, { out, elapsedSeconds, options }: Run): void {
  const rateGBps = report.sourceBytes / 1e9 / elapsedSeconds;
  if (options.json) {
    const json = { out, dryRun: options.dryRun ?? false, ...report, elapsedSeconds, rateGBps };
    process.stdout.write(`${JSON.stringify(json, null, 1)}\n`);
    return;
  }
  const table = formatTable(
    [
      { title: 'tensor' },
      { title: 'dtype' },
      { title: 'shape, N x K', align: 'right' },
      { title: 'group', align: 'right' },
      { title: 'result' },
      { title: 'relative RMS change', align: 'right' },
      { title: 'largest change', align: 'right' },
      { title: 'ms', align: 'right' },
      { title: 'GB/s', align: 'right' },
    ],
    report.tensors.map(({ name, dtype, shape, packed, keptPlain, reason, change, sourceBytes, elapsedMs }) => [
      printable(name),
      dtype,
      shape.join(' x '),
      packed ? String(packed.groupSize) : '',
      `${packed ? (keptPlain ? 'packed and kept' : 'packed') : keptPlain ? 'kept' : 'left out'}: ${reason}`,
      change ? (change.isLossless ? 'lossless' : `${(100 * change.relativeRms).toFixed(2)} %`) : '',
      change ? change.largest.toPrecision(3) : '',
      elapsedMs.toFixed(1),
      (sourceBytes / 1e6 / elapsedMs).toFixed(2),
    ]),
  );
  const lossy = report.tensors.filter(({ change }) => change && !change.isLossless);
  const largestRms = Math.max(0, ...lossy.map(({ change }) => change?.relativeRms ?? 0));
  const loss =
    lossy.length === 0
      ? 'lossless'
      : `${report.packedCount - lossy.length} lossless, ${lossy.length} changed by up to ${(100 * largestRms).toFixed(2)} % RMS`;
  const verb = options.dryRun ? 'would write' : 'wrote';
  process.stdout.write(
    `${table}\n\n${verb} ${out}: ${report.packedCount} packed weights (${loss}), ${report.tensors.length} entries, ` +
      `${megabytes(report.sourceBytes)} to ${megabytes(report.outputBytes)} in ${elapsedSeconds.toFixed(1)} s ` +
      `(${rateGBps.toFixed(3)} GB/s)\n`,
  );
}

function megabytes(sizeBytes: number): string {
  return `${(sizeBytes / 1e6).toFixed(1)} MB`;
}

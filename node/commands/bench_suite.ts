// samebits bench --suite: a whole decode step, or every large linear, all kernels of every backend in one run.

import { describeForm, type WeightForm } from '../../core/forms.js';
import { type Backend, SamebitsError } from '../../core/index.js';
import { DECODE_LAYERS, DECODE_SUITE, decodeLinears, MINIATURE } from '../bench/decode_step.js';
import { measureDecodeStep } from '../bench/decode_step_measure.js';
import { type DecodeStepReport, formatDecodeStep, reportDecodeStep } from '../bench/decode_step_report.js';
import { provenance } from '../bench/provenance.js';
import { readRoof, warmUp } from '../bench/roof.js';
import { formatShapes, runShapes, SHAPES_SUITE, type ShapesReport } from '../bench/shapes.js';
import { EXIT } from '../exit_codes.js';
import type { Available } from '../open_available.js';
import { type Progress, terminalProgress } from '../progress.js';
import { formField } from './bench_form.js';

export const SUITES = [DECODE_SUITE, SHAPES_SUITE] as const;
export type Suite = (typeof SUITES)[number];

export interface SuiteOptions {
  readonly suite: Suite;
  /** Of the decode step. */
  readonly layers?: number;
  readonly replays?: number;
  readonly json?: true;
}

const REPLAYS = { hardware: 80, software: 4 };

/**
 * Runs a suite on each backend in turn, CUDA first, and prints it.
 * @param form of the weights, where it is not the default one
 * @throws SamebitsError DEVICE_OUT_OF_MEMORY with the layers that would fit
 */
export async function benchSuite(
  { backends, unavailable }: Available,
  options: SuiteOptions,
  form?: WeightForm,
): Promise<void> {
  const { suite } = options;
  if (!options.json) {
    const rows = suite === SHAPES_SUITE ? '1, 2, 3, 4' : '1';
    const named = form ? `, ${describeForm(form)}` : '';
    process.stdout.write(`suite ${suite}, M = ${rows}, group size 32${named}\n\n`);
  }
  const progress = terminalProgress();
  const results: SuiteResult[] = [];
  const { date, ...from } = provenance();
  try {
    for (const backend of backends) {
      const replays = options.replays ?? REPLAYS[backend.device.isSoftware ? 'software' : 'hardware'];
      const before = results.map(({ report }) => report);
      const result =
        suite === SHAPES_SUITE
          ? await shapesOf(backend, form, replays, progress)
          : await decodeStepOf(backend, form, options.layers, replays, before, progress);
      progress.clear();
      results.push(result);
      if (!options.json) process.stdout.write(`${result.text}\n`);
    }
  } finally {
    progress.clear();
  }
  if (options.json) {
    const reports = results.map(({ report }) => report);
    process.stdout.write(
      `${JSON.stringify({ suite, ...formField(form), ...from, date, reports, unavailable }, null, 1)}\n`,
    );
  } else {
    for (const { name, reason } of unavailable) process.stdout.write(`${name}: SKIPPED (${reason})\n`);
  }
  if (results.some(({ isWrong }) => isWrong)) process.exitCode = EXIT.failure;
}

/** What a suite showed on one backend. */
interface SuiteResult {
  readonly report: DecodeStepReport | ShapesReport;
  readonly text: string;
  /** Whether a bit was. */
  readonly isWrong: boolean;
}

async function shapesOf(
  backend: Backend,
  form: WeightForm | undefined,
  replays: number,
  progress: Progress,
): Promise<SuiteResult> {
  const report = await runShapes(backend, replays, progress.update, undefined, form);
  const isWrong = report.measurements.some(({ difference }) => difference !== null);
  return { report, text: formatShapes(report), isWrong };
}

/** @param before what the backends before this one showed */
async function decodeStepOf(
  backend: Backend,
  form: WeightForm | undefined,
  layers: number | undefined,
  replays: number,
  before: readonly SuiteResult['report'][],
  progress: Progress,
): Promise<SuiteResult> {
  const { isSoftware } = backend.device;
  const divisor = isSoftware ? MINIATURE.divisor : 1;
  const linears = decodeLinears(layers ?? (isSoftware ? MINIATURE.layers : DECODE_LAYERS), divisor, form);
  progress.update(`${backend.name}: reading memory`);
  const clocks = await warmUp(backend);
  const firstGBps = await readRoof(backend);
  const measurement = await measureDecodeStep(backend, { linears, replays, onProgress: progress.update });
  progress.update(`${backend.name}: reading memory`);
  await warmUp(backend);
  const readingsGBps = [firstGBps, await readRoof(backend)];
  const [cuda = null] = before.flatMap((report) => ('kernels' in report && report.backend === 'cuda' ? [report] : []));
  const report = reportDecodeStep({ backend, clocks, linears, divisor, readingsGBps, measurement }, cuda);
  return { report, text: formatDecodeStep(report), isWrong: report.difference !== null };
}

/** What a suite fixes itself. @throws SamebitsError ARGUMENT_INVALID for an option beside --suite that it would ignore */
export function refuseBesideSuite(suite: Suite, given: readonly string[]): void {
  const ignored = given.filter((option) => option !== '--layers' || suite !== DECODE_SUITE);
  if (ignored.length === 0) return;
  throw new SamebitsError('ARGUMENT_INVALID', {
    rule: `--suite ${suite} fixes its own shapes, rows and group size`,
    expected:
      suite === DECODE_SUITE
        ? 'at most --layers, --form, --dtype, --replays, --backend and --json beside it'
        : 'at most --form, --dtype, --replays, --backend and --json beside it',
    got: ignored.join(', '),
    fix: `Leave out ${ignored.join(' and ')}, or --suite.`,
  });
}

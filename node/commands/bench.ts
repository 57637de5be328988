// samebits bench: right bits first, then the old layout and the new one, timed against a measured read roof.

import { type Command, InvalidArgumentError, Option } from 'commander';
import { type Backend, formatDifference, type PassedOver, SamebitsError } from '../../core/index.js';
import { version } from '../../package.json';
import { backendOption, selectedBackends } from '../backend_option.js';
import { contendersOf, inBoth } from '../bench/contenders.js';
import { DECODE_LAYERS, DECODE_SUITE } from '../bench/decode_step.js';
import { type Measurement, measureShape } from '../bench/measure.js';
import { HARDWARE_SHAPES, SOFTWARE_SHAPES } from '../bench/shapes.js';
import { syntheticWeight } from '../bench/synthetic_weight.js';
import { EXIT } from '../exit_codes.js';
import { openAvailable } from '../open_available.js';
import { terminalProgress } from '../progress.js';
import { formatTable } from '../table.js';
import { benchDecoder } from './bench_decoder.js';
import { addFormOptions, type FormOptions, formOf } from './bench_form.js';
import { benchSuite, refuseBesideSuite, SUITES, type Suite } from './bench_suite.js';

interface BenchOptions extends FormOptions {
  readonly backend?: readonly string[];
  readonly shapes?: readonly (readonly [n: number, k: number])[];
  readonly groupSize: number;
  readonly rows: readonly number[];
  readonly replays?: number;
  readonly suite?: Suite;
  readonly layers?: number;
  readonly decode?: true;
  readonly json?: true;
}

/** What one backend showed. */
interface BackendReport {
  readonly backend: string;
  readonly device: Backend['device'];
  readonly roofGBps: number;
  readonly measurements: readonly Measurement[];
}

const ROOF_BYTES = { hardware: 4e9, software: 64e6 };
const REPLAYS = { hardware: 40, software: 8 };

export function registerBench(program: Command): void {
  addFormOptions(program.command('bench'))
    .description('verify, then time both layouts on every available backend against a measured read roof')
    .addOption(backendOption())
    .option('--shapes <NxK,...>', 'shapes instead of the built-in ones', parseShapes)
    .option('--group-size <g>', 'weights per scale', parsePositive, 32)
    .option('--rows <list>', 'rows of activations', parseList, [1])
    .option('--replays <count>', 'timed replays per shape and layout', parsePositive)
    .addOption(
      new Option('--suite <name>', 'instead: a whole decode step, or every large linear for M = 1 to 4').choices(
        SUITES,
      ),
    )
    .option(
      '--layers <n>',
      `layers of --suite ${DECODE_SUITE} (default ${DECODE_LAYERS}; 0 leaves the head)`,
      parseLayers,
    )
    .option('--decode', `with --suite ${DECODE_SUITE}: from token to token, attention and norms included`)
    .option('--json', 'print the results as JSON')
    .action((options: BenchOptions, command: Command) => {
      const given = (name: string) => command.getOptionValueSource(name) === 'cli';
      const flags = { shapes: '--shapes', groupSize: '--group-size', rows: '--rows', layers: '--layers' };
      return bench(
        options,
        Object.entries(flags).flatMap(([name, flag]) => (given(name) ? [flag] : [])),
      );
    });
}

function parsePositive(text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value > 0) return value;
  throw new InvalidArgumentError('Expected a positive integer.');
}

function parseLayers(text: string): number {
  const value = Number(text);
  if (text !== '' && Number.isInteger(value) && value >= 0 && value <= DECODE_LAYERS) return value;
  throw new InvalidArgumentError(`Expected an integer from 0 to ${DECODE_LAYERS}.`);
}

function parseList(text: string): readonly number[] {
  return text.split(',').map(parsePositive);
}

function parseShapes(text: string): readonly (readonly [number, number])[] {
  return text.split(',').map((shape) => {
    const [n, k, ...rest] = shape.split('x').map(Number);
    if (n !== undefined && k !== undefined && n > 0 && k > 0 && rest.length === 0) return [n, k] as const;
    throw new InvalidArgumentError('Expected N x K, for example 21504x5376,5376x21504.');
  });
}

/** @param given options of the command line that not every suite takes */
async function bench(options: BenchOptions, given: readonly string[]): Promise<void> {
  const { suite, backend: named } = options;
  if (suite) refuseBesideSuite(suite, given);
  else if (options.layers !== undefined) throw withoutSuite('--layers');
  else if (options.form !== undefined || options.dtype !== undefined) throw formWithoutSuite();
  const form = formOf(options);
  if (options.decode && suite !== DECODE_SUITE) throw withoutSuite('--decode');
  if (options.decode && options.layers === 0) throw withoutLayers();
  // The reference is no contender, and would take days for what a suite holds.
  const names = selectedBackends(named).filter((name) => named !== undefined || !suite || name !== 'cpu');
  const { backends, unavailable } = await openAvailable(names, named !== undefined);
  try {
    if (suite) {
      if (backends.length === 0) throw nothingToTime(unavailable);
      if (options.decode) return await benchDecoder({ backends, unavailable }, options, form);
      return await benchSuite({ backends, unavailable }, { ...options, suite }, form);
    }
    const reports: BackendReport[] = [];
    for (const backend of backends) {
      const report = await benchBackend(backend, options);
      reports.push(report);
      if (!options.json) process.stdout.write(formatReport(report));
    }
    if (options.json) {
      const date = new Date().toISOString();
      process.stdout.write(`${JSON.stringify({ samebits: version, date, reports, unavailable }, null, 1)}\n`);
    } else {
      for (const { name, reason } of unavailable) process.stdout.write(`${name}: SKIPPED (${reason})\n`);
    }
    if (reports.some(({ measurements }) => measurements.some(({ difference }) => difference !== null))) {
      process.exitCode = EXIT.failure;
    }
  } finally {
    await Promise.all(backends.map((backend) => backend.dispose()));
  }
}

async function benchBackend(backend: Backend, options: BenchOptions): Promise<BackendReport> {
  const kind = backend.device.isSoftware ? 'software' : 'hardware';
  const defaults = kind === 'software' ? SOFTWARE_SHAPES : HARDWARE_SHAPES;
  const shapes = options.shapes?.map(([n, k]) => ['', n, k] as const) ?? defaults;
  const replays = options.replays ?? REPLAYS[kind];
  const progress = terminalProgress();
  try {
    progress.update(`${backend.name}: reading memory`);
    const roofGBps = await backend.benchmark.readBandwidthGBps(ROOF_BYTES[kind], replays);
    const measurements: Measurement[] = [];
    const contenders = contendersOf(backend).filter(({ kernel }) => kernel !== 'plain');
    for (const [label, n, k] of shapes) {
      const weight = inBoth(syntheticWeight(n, k, options.groupSize));
      const onProgress = (m: number) => progress.update(`${backend.name}: ${n}x${k}, M = ${m}`);
      const { rows, groupSize } = options;
      const shape = { label, n, k, groupSize };
      const how = { contenders, rows, roofGBps, replays, onProgress };
      measurements.push(...(await measureShape(backend, shape, weight, how)));
    }
    return { backend: backend.name, device: backend.device, roofGBps, measurements };
  } finally {
    progress.clear();
  }
}

function formatReport({ backend, device, roofGBps, measurements }: BackendReport): string {
  const where = device.isSoftware
    ? `${device.name}: software, on the CPU. These timings say nothing about a GPU.`
    : device.name;
  const rows = measurements.flatMap((measurement) => {
    const { label, n, k, m, timings } = measurement;
    const native = timings.find(({ layout }) => layout === 'native');
    return timings.map((timing) => [
      `${n}x${k} ${label}`.trim(),
      String(m),
      timing.layout === 'native' ? '[nGroups, N]' : '[N, nGroups]',
      timing.medianUs.toFixed(1),
      timing.minUs.toFixed(1),
      timing.maxUs.toFixed(1),
      timing.bandwidthGBps.toPrecision(4),
      timing.percentOfRoof.toFixed(1),
      timing.layout === 'coalesced' && native ? `${(native.medianUs / timing.medianUs).toFixed(2)}x` : '',
    ]);
  });
  const table = formatTable(
    [
      { title: 'N x K' },
      { title: 'M', align: 'right' },
      { title: 'scales in' },
      ...['µs', 'min', 'max', 'GB/s', '% of roof', 'old/new'].map((title) => ({ title, align: 'right' as const })),
    ],
    rows,
  );
  const refused = measurements
    .filter(({ difference }) => difference !== null)
    .map(({ n, k, m, difference }) => {
      const where = difference ? formatDifference(difference) : '';
      return `${n}x${k}, M = ${m}: NOT TIMED, the bits are wrong: ${where}\n`;
    })
    .join('');
  return [
    `${backend} on ${where}`,
    `read roof, measured in this run: ${roofGBps.toPrecision(4)} GB/s`,
    'before timing, the reference checked rows of every weight and the layouts each other, bit for bit',
    `${table}\n${refused}\n`,
  ].join('\n');
}

function withoutSuite(option: string): SamebitsError {
  return new SamebitsError('ARGUMENT_INVALID', {
    rule: `${option} belongs to the decode step`,
    expected: `--suite ${DECODE_SUITE} beside it`,
    got: `${option} without it`,
    fix: `Add '--suite ${DECODE_SUITE}'.`,
  });
}

function formWithoutSuite(): SamebitsError {
  return new SamebitsError('ARGUMENT_INVALID', {
    rule: '--form and --dtype belong to a suite',
    expected: `--suite ${SUITES.join(' or ')} beside them`,
    got: 'neither',
    fix: `Add '--suite ${DECODE_SUITE}'.`,
  });
}

function withoutLayers(): SamebitsError {
  return new SamebitsError('ARGUMENT_INVALID', {
    rule: 'a decoder has layers',
    expected: '--layers of at least 1',
    got: '--layers 0',
    fix: 'Leave out --decode to time the head alone.',
  });
}

function nothingToTime(unavailable: readonly PassedOver[]): SamebitsError {
  return new SamebitsError('BACKEND_UNAVAILABLE', {
    rule: 'a suite times cuda, webgpu or both',
    expected: 'one of them',
    got: unavailable.map(({ name, reason }) => `${name}: ${reason}`).join('; '),
    fix: "Run 'samebits doctor' to see what is missing; '--backend cpu' times the reference.",
  });
}

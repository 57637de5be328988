// Recorded benchmarks that ship with the page: what `samebits bench --json` printed on a named device.

/** One layout's figures for one shape. */
export interface BenchTiming {
  /** Absent in files of before there were several kernels a layout. */
  readonly kernel?: string;
  readonly layout: string;
  readonly medianUs: number;
  readonly minUs: number;
  readonly maxUs: number;
  readonly bandwidthGBps: number;
  readonly percentOfRoof: number;
}

export interface BenchMeasurement {
  readonly label: string;
  readonly n: number;
  readonly k: number;
  readonly groupSize: number;
  readonly m: number;
  readonly timings: readonly BenchTiming[];
}

export interface BenchReport {
  readonly backend: string;
  readonly device: { readonly name: string; readonly details: Readonly<Record<string, string>> };
  readonly roofGBps: number;
  readonly measurements: readonly BenchMeasurement[];
}

/** A file of benchmarks/. */
export interface Benchmark {
  readonly samebits: string;
  readonly date: string;
  /** What printed it, and of which kernels; absent in files of before these were recorded. */
  readonly command?: string;
  readonly cudaSourcesSha256?: string;
  readonly shaderSourcesSha256?: string;
  readonly reports: readonly BenchReport[];
}

/** Recorded abuse, decode steps and decoders lie beside them: the page has no place for those. */
const FILES = import.meta.glob<Benchmark>(['../benchmarks/*.json', '!../benchmarks/{abuse,decode,gemma4-31b}-*.json'], {
  import: 'default',
});

/**
 * Every recorded benchmark of single shapes with the name of its file; fetched when it is asked for. The page shows the
 * two layouts: the plain kernel between the two is left out.
 */
export async function loadBenchmarks(): Promise<readonly (Benchmark & { readonly file: string })[]> {
  const recorded = await Promise.all(
    Object.entries(FILES).map(async ([path, load]) => ({ ...(await load()), file: path.replace('../', '') })),
  );
  return recorded.map((benchmark) => ({
    ...benchmark,
    reports: benchmark.reports.map((report) => ({
      ...report,
      measurements: report.measurements.map((measurement) => ({
        ...measurement,
        timings: measurement.timings.filter(({ kernel }) => kernel !== 'plain'),
      })),
    })),
  }));
}

/** The recorded CUDA figures of a shape at M = 1, with the device's name; undefined when there are none. */
export function recordedTimings(
  benchmarks: readonly Benchmark[],
  { n, k, groupSize }: Pick<BenchMeasurement, 'n' | 'k' | 'groupSize'>,
): { readonly device: string; readonly timings: readonly BenchTiming[] } | undefined {
  for (const { backend, device, measurements } of benchmarks.flatMap(({ reports }) => reports)) {
    if (backend !== 'cuda') continue;
    const found = measurements.find((at) => at.n === n && at.k === k && at.groupSize === groupSize && at.m === 1);
    if (found && found.timings.length > 0) return { device: device.name, timings: found.timings };
  }
  return undefined;
}

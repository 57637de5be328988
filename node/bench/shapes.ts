// The shapes that are timed one by one, and the suite that takes each of them with every kernel and M = 1, 2, 3, 4.

import type { WeightForm } from '../../core/forms.js';
import { type Backend, type BackendName, type DeviceInfo, formatDifference } from '../../core/index.js';
import { formatTable } from '../table.js';
import { contendersOf, inBoth, KERNEL_TITLES } from './contenders.js';
import { formWeight } from './form_weight.js';
import type { GpuState } from './gpu_state.js';
import { LLAMA_CPP_FORMATS, llamaCppMediansUs } from './llama_cpp.js';
import { type Measurement, measureShape } from './measure.js';
import { readRoof, warmUp } from './roof.js';
import { syntheticWeight } from './synthetic_weight.js';

type NamedShape = readonly [label: string, n: number, k: number];

/** The linears of one Gemma 4 31B layer and its head; q, k, v and gate, up are packed together. */
export const HARDWARE_SHAPES: readonly NamedShape[] = [
  ['gate+up', 43_008, 5376],
  ['down', 5376, 21_504],
  ['q+k+v', 16_384, 5376],
  ['o', 5376, 8192],
  ['head', 262_144, 5376],
];
/** Small enough for a CPU that plays GPU. */
export const SOFTWARE_SHAPES: readonly NamedShape[] = [
  ['small', 1024, 1024],
  ['wide', 512, 4096],
];
export const SHAPES_SUITE = 'shapes';
const ROWS = [1, 2, 3, 4];
const GROUP_SIZE = 32;

export interface ShapesReport {
  readonly backend: BackendName;
  readonly device: DeviceInfo;
  readonly driver: string | null;
  /** Of every GPU of this machine while this one read memory; null where nvidia-smi cannot tell. */
  readonly clocks: readonly GpuState[] | null;
  readonly roofGBps: number;
  readonly measurements: readonly Measurement[];
}

/**
 * @param shapes other ones than the five large linears, or the two small ones of a software device
 * @param form of the weights, where it is not the default one
 */
export async function runShapes(
  backend: Backend,
  replays: number,
  onProgress: (what: string) => void = () => {},
  shapes: readonly NamedShape[] = backend.device.isSoftware ? SOFTWARE_SHAPES : HARDWARE_SHAPES,
  form?: WeightForm,
): Promise<ShapesReport> {
  const { name, device } = backend;
  onProgress(`${name}: reading memory`);
  const clocks = await warmUp(backend);
  const roofGBps = await readRoof(backend);
  const measurements: Measurement[] = [];
  for (const [label, n, k] of shapes) {
    onProgress(`${name}: ${n}x${k}`);
    const weight = form
      ? { native: null, coalesced: formWeight(form, n, k, GROUP_SIZE) }
      : inBoth(syntheticWeight(n, k, GROUP_SIZE));
    const shape = { label, n, k, groupSize: GROUP_SIZE };
    const report = (m: number) => onProgress(`${name}: ${n}x${k}, M = ${m}`);
    const options = { contenders: contendersOf(backend, form), rows: ROWS, roofGBps, replays, onProgress: report };
    measurements.push(...(await measureShape(backend, shape, weight, options)));
  }
  return { backend: name, device, driver: device.details['driver'] ?? null, clocks, roofGBps, measurements };
}

/** For people. */
export function formatShapes({ backend, device, roofGBps, measurements }: ShapesReport): string {
  const right = (title: string) => ({ title, align: 'right' as const });
  const columns = [
    { title: 'N x K' },
    { title: 'kernel' },
    ...['M', 'µs', 'min', 'max', 'GB/s', '% of roof', 'to (c)', 'to M = 1'].map(right),
  ];
  const llamaCpp = measurements.map(({ n, k, m }) => (m === 1 ? llamaCppMediansUs(device.name, n, k) : []));
  const isCompared = llamaCpp.some((medians) => medians.length > 0);
  if (isCompared) columns.push(...LLAMA_CPP_FORMATS.map((format) => right(`llama.cpp ${format}`)));
  const rows = measurements.flatMap((measurement, at) => {
    const { label, n, k, m, timings } = measurement;
    const alone = measurements.find((other) => other.n === n && other.k === k && other.m === 1);
    const samebits = timings.find(({ kernel }) => kernel === 'samebits');
    return timings.map(({ kernel, medianUs, minUs, maxUs, bandwidthGBps, percentOfRoof }) => {
      const single = m > 1 ? alone?.timings.find((other) => other.kernel === kernel) : undefined;
      return [
        `${n}x${k} ${label}`.trim(),
        KERNEL_TITLES[kernel],
        String(m),
        ...[medianUs, minUs, maxUs].map((us) => us.toFixed(1)),
        bandwidthGBps.toPrecision(4),
        percentOfRoof.toFixed(1),
        samebits && kernel !== 'samebits' ? `${(medianUs / samebits.medianUs).toFixed(2)}x` : '',
        single ? `${(medianUs / single.medianUs).toFixed(2)}x` : '',
        ...(kernel === 'samebits'
          ? llamaCpp[at]!.map((us) => `${us.toFixed(1)} = ${(us / medianUs).toFixed(2)}x`)
          : []),
      ];
    });
  });
  const software = device.isSoftware ? ': software, on the CPU. These timings say nothing about a GPU.' : '';
  return [
    `${backend} on ${device.name}${software}`,
    `read roof, measured in this run: ${roofGBps.toPrecision(4)} GB/s; copies rotated so that no cache serves them`,
    'before timing, the reference checked rows of every weight and the kernels each other, bit for bit',
    ...(isCompared ? [`llama.cpp: published µs on another ${device.name}, and how many times ours that is`] : []),
    formatTable(columns, rows),
    ...measurements.flatMap(({ n, k, m, difference }) =>
      difference ? [`${n}x${k}, M = ${m}: NOT TIMED, the bits are wrong: ${formatDifference(difference)}`] : [],
    ),
    '',
  ].join('\n');
}

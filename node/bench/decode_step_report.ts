// What a decode step showed on one backend: rates against the roof, and each kernel against the one in use.

import { type Backend, type BackendName, type DeviceInfo, formatDifference } from '../../core/index.js';
import { formatTable } from '../table.js';
import { KERNEL_TITLES, type KernelName } from './contenders.js';
import { type DecodeLinear, decodeWeightBytes } from './decode_step.js';
import type { DecodeStepMeasurement, KernelTiming } from './decode_step_measure.js';
import { weightBytesOf } from './decode_step_resident.js';
import { type GpuState, isNvidia } from './gpu_state.js';
import type { Spread } from './spread.js';

/** A time, and the rate at which it reads the weights. */
export interface Rated extends Spread {
  /** Bytes of weights over the median. */
  readonly bandwidthGBps: number;
  readonly percentOfRoof: number;
}

export interface KernelReport {
  readonly kernel: KernelName;
  readonly step: Rated & { readonly stepsPerSecond: number };
  readonly wall: Spread;
  readonly latency: Spread;
  readonly head: Rated;
}

/** How many times longer a baseline takes than the kernel in use; null when it did not run. */
export interface Ratios {
  readonly nativeToSamebits: number | null;
  readonly plainToSamebits: number | null;
}

export interface DecodeStepReport {
  readonly backend: BackendName;
  readonly device: DeviceInfo;
  readonly driver: string | null;
  /** Of every GPU of this machine while this one read memory; null where nvidia-smi cannot tell. */
  readonly clocks: readonly GpuState[] | null;
  readonly layers: number;
  /** 1, or by how much every dimension was divided for a software device. */
  readonly divisor: number;
  readonly linears: number;
  readonly weightBytes: number;
  /** The largest of `readingsGBps`, or of those of the backend that is named. */
  readonly roof: { readonly bandwidthGBps: number; readonly measuredOn: BackendName };
  /** Before and after. */
  readonly readingsGBps: readonly number[];
  readonly verifiedOutputs: number;
  /** Empty when a bit was wrong. */
  readonly kernels: readonly KernelReport[];
  readonly ratios: { readonly step: Ratios; readonly head: Ratios };
  /** How many times longer than on CUDA in the same run the kernel in use takes; null on CUDA and without it. */
  readonly toCuda: { readonly step: number; readonly wall: number; readonly head: number } | null;
  readonly skipped: DecodeStepMeasurement['skipped'];
  readonly difference: DecodeStepMeasurement['difference'];
}

/** What was run and found, before it is compared with anything. */
export interface DecodeStepRun {
  readonly backend: Pick<Backend, 'name' | 'device'>;
  readonly clocks: readonly GpuState[] | null;
  readonly linears: readonly DecodeLinear[];
  readonly divisor: number;
  readonly readingsGBps: readonly number[];
  readonly measurement: DecodeStepMeasurement;
}

/** @param cuda what CUDA showed in the same run, if it was in it: the reference for other APIs on an NVIDIA GPU */
export function reportDecodeStep(run: DecodeStepRun, cuda: DecodeStepReport | null): DecodeStepReport {
  const { backend, clocks, linears, divisor, readingsGBps, measurement } = run;
  const { device, name } = backend;
  const reference = cuda && name !== 'cuda' && isNvidia(device) ? cuda : null;
  const roof = reference?.roof ?? { bandwidthGBps: Math.max(...readingsGBps), measuredOn: name };
  const weightBytes = weightBytesOf(linears);
  const headBytes = decodeWeightBytes(linears.at(-1)!);
  const kernels = measurement.timings.map(({ kernel, step, wall, latency, head }) => ({
    kernel,
    step: { ...rated(step, weightBytes, roof.bandwidthGBps), stepsPerSecond: 1e6 / step.medianUs },
    wall,
    latency,
    head: rated(head, headBytes, roof.bandwidthGBps),
  }));
  return {
    backend: name,
    device,
    driver: device.details['driver'] ?? null,
    clocks,
    layers: new Set(linears.flatMap(({ layer }) => layer ?? [])).size,
    divisor,
    linears: linears.length,
    weightBytes,
    roof,
    readingsGBps,
    verifiedOutputs: measurement.verifiedOutputs,
    kernels,
    ratios: { step: ratios(measurement.timings, 'step'), head: ratios(measurement.timings, 'head') },
    toCuda: reference && toCuda(kernels, reference),
    skipped: measurement.skipped,
    difference: measurement.difference,
  };
}

function rated(spread: Spread, sizeBytes: number, roofGBps: number): Rated {
  const bandwidthGBps = sizeBytes / spread.medianUs / 1000;
  return { ...spread, bandwidthGBps, percentOfRoof: (100 * bandwidthGBps) / roofGBps };
}

function ratios(timings: readonly KernelTiming[], of: 'step' | 'head'): Ratios {
  const medianOf = (name: KernelName) => timings.find(({ kernel }) => kernel === name)?.[of].medianUs;
  const ratio = (name: KernelName) => {
    const [baseline, samebits] = [medianOf(name), medianOf('samebits')];
    return baseline === undefined || samebits === undefined ? null : baseline / samebits;
  };
  return { nativeToSamebits: ratio('native'), plainToSamebits: ratio('plain') };
}

function toCuda(kernels: readonly KernelReport[], cuda: DecodeStepReport): DecodeStepReport['toCuda'] {
  const [here, there] = [kernels, cuda.kernels].map((all) => all.find(({ kernel }) => kernel === 'samebits'));
  if (!here || !there) return null;
  const ratio = (of: 'step' | 'wall' | 'head') => here[of].medianUs / there[of].medianUs;
  return { step: ratio('step'), wall: ratio('wall'), head: ratio('head') };
}

/** For people. */
export function formatDecodeStep(report: DecodeStepReport): string {
  const { backend, device, layers, divisor, roof, verifiedOutputs, kernels, skipped, difference } = report;
  const lines = [
    `${backend} on ${device.name}${device.isSoftware ? ': software, on the CPU. These timings say nothing about a GPU.' : ''}`,
    `${layers} ${layers === 1 ? 'layer' : 'layers'} and the head${divisor === 1 ? '' : `, every dimension divided by ${divisor}`}: ` +
      `${report.linears} linears, ${inGigabytes(report.weightBytes)} of weights, resident for each kernel`,
    `read roof, measured in this run${roof.measuredOn === backend ? '' : ` on ${roof.measuredOn}`}: ${inRate(roof.bandwidthGBps)} GB/s` +
      ` (${backend} read ${report.readingsGBps.map(inRate).join(', ')})`,
  ];
  if (difference) {
    const { kernel, linear } = difference;
    lines.push(`NOT TIMED, the bits of ${KERNEL_TITLES[kernel]} are wrong: ${linear}: ${formatDifference(difference)}`);
    return `${lines.join('\n')}\n`;
  }
  const compared = kernels.length > 1 ? ', and all outputs of the kernels with each other,' : '';
  lines.push(
    `before timing, ${verifiedOutputs} outputs, of every linear, were compared with the reference${compared} bit for bit`,
    '',
    ...formatTimings(report),
    '',
  );
  if (report.toCuda) {
    const { step, wall, head } = report.toCuda;
    lines.push(
      `to CUDA in this run: ${inTimes(step)} by the device's clock, ${inTimes(wall)} by the wall clock; the head ${inTimes(head)}`,
    );
  }
  for (const { kernel, reason } of skipped) lines.push(`${KERNEL_TITLES[kernel]}: SKIPPED (${reason})`);
  return `${lines.join('\n').trimEnd()}\n`;
}

function formatTimings({ kernels, ratios }: DecodeStepReport): string[] {
  const right = (title: string) => ({ title, align: 'right' as const });
  const ratioOf = (kernel: KernelName, { nativeToSamebits, plainToSamebits }: Ratios) => {
    const ratio = { native: nativeToSamebits, plain: plainToSamebits, samebits: null }[kernel];
    return ratio === null ? '' : inTimes(ratio);
  };
  const row = (kernel: KernelName, rated: Rated, of: Ratios) => [
    KERNEL_TITLES[kernel],
    ...[rated.medianUs, rated.minUs, rated.maxUs].map(inMs),
    inRate(rated.bandwidthGBps),
    rated.percentOfRoof.toFixed(1),
    ratioOf(kernel, of),
  ];
  const columns = [...['ms', 'min', 'max', 'GB/s', '% of roof', 'to (c)'].map(right)];
  const steps = formatTable(
    [{ title: 'decode step' }, ...columns, right('steps/s'), right('wall ms'), right('latency ms')],
    kernels.map(({ kernel, step, wall, latency }) => [
      ...row(kernel, step, ratios.step),
      step.stepsPerSecond.toPrecision(4),
      inMs(wall.medianUs),
      inMs(latency.medianUs),
    ]),
  );
  const heads = formatTable(
    [{ title: 'head alone' }, ...columns],
    kernels.map(({ kernel, head }) => row(kernel, head, ratios.head)),
  );
  return [steps, '', heads];
}

const inMs = (us: number) => (us / 1000).toFixed(3);
const inRate = (bandwidthGBps: number) => bandwidthGBps.toPrecision(4);
const inTimes = (ratio: number) => `${ratio.toFixed(2)}x`;
const inGigabytes = (sizeBytes: number) => `${(sizeBytes / 1e9).toPrecision(4)} GB`;

// The soak: as many mean cases as one has patience for, several in flight at a time, every output bit compared.

import {
  type Backend,
  type BackendName,
  type BitDifference,
  bf16FromF32Array,
  firstDifference,
  formatDifference,
  int4PlainMM,
  type OutputType,
} from '../core/index.js';
import { drawSoakActivations, drawSoakWeight, type SoakCase, soakCase } from '../core/parity/soak_cases.js';

export interface SoakOptions {
  /** Cases, numbered from 0. */
  readonly count: number;
  /** With a case's number, all that its values are drawn from. */
  readonly seed: number;
  /** Of these cases, every `step`th from `first` on; all of them by default. */
  readonly first?: number;
  readonly step?: number;
  readonly onProgress?: (doneCases: number) => void;
  /** Asked before each case; true ends the soak with what is done by then. */
  readonly isStopped?: () => boolean;
}

/** A wrong result, with everything that draws it again: `soakCase(seed, index)`. */
export interface SoakMismatch extends SoakCase {
  readonly index: number;
  readonly backend: BackendName;
  readonly outputType: OutputType;
  readonly difference: BitDifference;
}

export interface SoakReport {
  readonly seed: number;
  readonly cases: number;
  /** Output elements compared, of all backends and both types. */
  readonly outputs: number;
  readonly mismatchCount: number;
  /** Those of the lowest numbers. */
  readonly mismatches: readonly SoakMismatch[];
  readonly elapsedSeconds: number;
}

/** Keeps the device, its pool of scratch memory and the order of its calls under load. */
const IN_FLIGHT = 16;
const KEPT_MISMATCHES = 10;

/** Runs cases on every backend, in both output types at the same time. */
export async function soak(backends: readonly Backend[], options: SoakOptions): Promise<SoakReport> {
  const { count, seed, first = 0, step = 1, onProgress = () => {}, isStopped = () => false } = options;
  const start = performance.now();
  let mismatches: readonly SoakMismatch[] = [];
  let mismatchCount = 0;
  let outputs = 0;
  let next = first;
  let done = 0;
  const work = async () => {
    while (next < count && !isStopped()) {
      const index = next;
      next += step;
      const of = soakCase(seed, index);
      const found = (await Promise.all(backends.map((backend) => runCase(backend, of, index)))).flat();
      mismatchCount += found.length;
      if (found.length > 0) mismatches = lowest([...mismatches, ...found]);
      outputs += 2 * of.m * of.n * backends.length;
      onProgress(++done);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  return { seed, cases: done, outputs, mismatchCount, mismatches, elapsedSeconds: (performance.now() - start) / 1000 };
}

/** The report of several shares of one soak as if one thread had done them all, in the time of the longest. */
export function mergedReport(shares: readonly SoakReport[]): SoakReport {
  const sum = (value: (share: SoakReport) => number) => shares.reduce((total, share) => total + value(share), 0);
  return {
    seed: shares[0]!.seed,
    cases: sum(({ cases }) => cases),
    outputs: sum(({ outputs }) => outputs),
    mismatchCount: sum(({ mismatchCount }) => mismatchCount),
    mismatches: lowest(shares.flatMap(({ mismatches }) => mismatches)),
    elapsedSeconds: Math.max(...shares.map(({ elapsedSeconds }) => elapsedSeconds)),
  };
}

/** Whatever the order in which they were found. */
function lowest(mismatches: readonly SoakMismatch[]): readonly SoakMismatch[] {
  return [...mismatches].sort((a, b) => a.index - b.index).slice(0, KEPT_MISMATCHES);
}

async function runCase(backend: Backend, of: SoakCase, index: number): Promise<SoakMismatch[]> {
  const weight = drawSoakWeight(of);
  const x = drawSoakActivations(of);
  const handle = await backend.upload(weight);
  try {
    const results = Promise.all([backend.linear(x, handle), backend.linear(x, handle, { outputType: 'bf16' })]);
    const expected = int4PlainMM(x, weight);
    const [f32, bf16] = await results;
    const compared = [
      { outputType: 'f32', difference: firstDifference(expected, f32, of.n) },
      { outputType: 'bf16', difference: firstDifference(bf16FromF32Array(expected), bf16, of.n) },
    ] as const;
    return compared.flatMap(({ outputType, difference }) =>
      difference ? [{ ...of, index, backend: backend.name, outputType, difference }] : [],
    );
  } finally {
    handle.dispose();
  }
}

/** The verdict, and how to draw the first wrong cases again. */
export function formatSoak(report: SoakReport, backends: readonly Backend[]): string {
  const { seed, cases, outputs, mismatchCount, mismatches, elapsedSeconds } = report;
  const where = backends.map(({ name, device }) => `${name} (${device.name})`).join(', ');
  const verdict = mismatchCount === 0 ? 'every bit equals the reference' : `${mismatchCount} results DIFFER`;
  const found = mismatches.map(
    ({ name, backend, outputType, n, k, groupSize, m, weights, activations, difference }) =>
      `  ${name} on ${backend}: ${outputType}, N = ${n}, K = ${k}, group ${groupSize}, M = ${m}, ${weights} weights, ` +
      `${activations} activations: ${formatDifference(difference)}\n`,
  );
  return (
    `soak on ${where}: ${cases} cases, seed ${seed}, ${outputs} outputs in ${elapsedSeconds.toFixed(1)} s: ${verdict}.\n` +
    found.join('')
  );
}

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
  readonly onProgress?: (doneCases: number) => void;
}

/** A wrong result, with everything that draws it again: `soakCase(seed, index)`. */
export interface SoakMismatch extends SoakCase {
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
  /** The first of them. */
  readonly mismatches: readonly SoakMismatch[];
  readonly elapsedSeconds: number;
}

/** Keeps the device, its pool of scratch memory and the order of its calls under load. */
const IN_FLIGHT = 16;
const KEPT_MISMATCHES = 10;

/** Runs every case on every backend, in both output types at the same time. */
export async function soak(backends: readonly Backend[], options: SoakOptions): Promise<SoakReport> {
  const { count, seed, onProgress = () => {} } = options;
  const start = performance.now();
  const mismatches: SoakMismatch[] = [];
  let mismatchCount = 0;
  let outputs = 0;
  let next = 0;
  let done = 0;
  const work = async () => {
    while (next < count) {
      const of = soakCase(seed, next++);
      const found = await Promise.all(backends.map((backend) => runCase(backend, of)));
      for (const mismatch of found.flat()) {
        mismatchCount++;
        if (mismatches.length < KEPT_MISMATCHES) mismatches.push(mismatch);
      }
      outputs += 2 * of.m * of.n * backends.length;
      onProgress(++done);
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, work));
  return { seed, cases: done, outputs, mismatchCount, mismatches, elapsedSeconds: (performance.now() - start) / 1000 };
}

async function runCase(backend: Backend, of: SoakCase): Promise<SoakMismatch[]> {
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
      difference ? [{ ...of, backend: backend.name, outputType, difference }] : [],
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

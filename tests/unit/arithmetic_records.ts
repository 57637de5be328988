// Records through the arithmetic of the CUDA kernels, compiled for the host, and what of the results differs.

import { spawnSync } from 'node:child_process';
import { expect, type TestContext } from 'vitest';
import { skipWithout } from '../backend_report.js';
import { buildProgramOnHost } from '../native/build_on_host.js';

/** Sends records through the program and gives its results, of which there must be one for each record. */
export async function filterRecords(
  context: TestContext,
  mode: string,
  records: DataView,
  count: number,
  resultBytes: number,
): Promise<DataView> {
  const build = await buildProgramOnHost('kernel_arithmetic.cc');
  if ('missing' in build) skipWithout(context, 'cuda (its sources on the host)', build.missing);
  const { status, stdout, stderr } = spawnSync(build.path, [mode], {
    input: new Uint8Array(records.buffer),
    maxBuffer: 2 ** 30,
  });
  expect(stderr.toString()).toBe('');
  expect(status).toBe(0);
  expect(stdout.byteLength).toBe(count * resultBytes);
  return new DataView(stdout.buffer, stdout.byteOffset, stdout.byteLength);
}

/** Mismatches are counted, and the first is named: an assertion for each of millions of values would take minutes. */
export class Mismatches {
  count = 0;
  first = '';

  check(isEqual: boolean, tell: () => string): void {
    if (isEqual) return;
    if (this.count === 0) this.first = tell();
    this.count++;
  }
}

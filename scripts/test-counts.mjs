// What the test runners report, as counts. A runner that crashed or ran nothing counts as a failure.

import { readFileSync, rmSync } from 'node:fs';

/**
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 * @typedef {{ counts: Counts, lines: string[] }} Report lines: what tests noted of the backends that they ran on
 */

/**
 * Removes the report of an earlier run, so that a runner that dies leaves none.
 * @param {string} path
 */
export function clearReport(path) {
  rmSync(path, { force: true });
}

/**
 * @param {string} path of Vitest's JSON report
 * @param {number} exitCode
 * @returns {Report}
 */
export function readVitestReport(path, exitCode) {
  const report = readJson(path);
  /** @type {{ status: string, assertionResults: { status: string, meta?: import('vitest').TaskMeta }[] }[]} */
  const files = report?.testResults ?? [];
  // A file that could not be loaded, or failed outside its tests, has no failed test to be counted by.
  const brokenFiles = files.filter(
    ({ status, assertionResults }) =>
      status === 'failed' && assertionResults.every((result) => result.status !== 'failed'),
  );
  const counts = {
    passed: report?.numPassedTests ?? 0,
    failed: (report?.numFailedTests ?? 0) + brokenFiles.length,
    skipped: (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0),
  };
  const lines = files
    .flatMap(({ assertionResults }) => assertionResults.flatMap(({ meta }) => meta?.backend ?? []))
    .map(({ backend, state, detail }) =>
      state === 'ran' ? `${backend}: ran on ${detail}` : `${backend}: SKIPPED (${detail})`,
    );
  return { counts: withCrash(counts, exitCode), lines };
}

/**
 * @param {string} path of Playwright's JSON report
 * @param {number} exitCode
 * @returns {Report}
 */
export function readPlaywrightReport(path, exitCode) {
  const report = readJson(path);
  const { expected = 0, unexpected = 0, flaky = 0, skipped = 0 } = report?.stats ?? {};
  const counts = { passed: expected, failed: unexpected + flaky, skipped };
  return { counts: withCrash(counts, exitCode), lines: annotationsOf(report?.suites ?? []) };
}

/**
 * @typedef {{
 *   suites?: PlaywrightSuite[];
 *   specs?: { tests: { annotations: { type: string, description?: string }[] }[] }[];
 * }} PlaywrightSuite
 * @param {PlaywrightSuite[]} suites
 * @returns {string[]}
 */
function annotationsOf(suites) {
  return suites.flatMap(({ suites: inner = [], specs = [] }) => [
    ...annotationsOf(inner),
    ...specs
      .flatMap(({ tests }) => tests.flatMap(({ annotations }) => annotations))
      .flatMap(({ type, description }) => (type === 'backend' && description ? [description] : [])),
  ]);
}

/**
 * @param {Counts} counts
 * @param {number} exitCode
 * @returns {Counts}
 */
function withCrash(counts, exitCode) {
  const isSilentFailure = counts.failed === 0 && (exitCode !== 0 || counts.passed + counts.skipped === 0);
  return isSilentFailure ? { ...counts, failed: 1 } : counts;
}

/** @param {string} path */
function readJson(path) {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return null;
  }
}

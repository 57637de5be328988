// What the test runners report, as counts. A runner that crashed or ran nothing counts as a failure.

import { readFileSync, rmSync } from 'node:fs';

/**
 * @typedef {{ passed: number, failed: number, skipped: number }} Counts
 * @typedef {{ backend: string, state: 'ran' | 'skipped', detail: string }} BackendLine what a test noted in its meta
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
 * @returns {{ counts: Counts, lines: BackendLine[] }}
 */
export function readVitestReport(path, exitCode) {
  const report = readJson(path);
  const tests = (report?.testResults ?? []).flatMap(
    (/** @type {{ assertionResults: unknown[] }} */ file) => file.assertionResults,
  );
  const counts = {
    passed: report?.numPassedTests ?? 0,
    failed: report?.numFailedTests ?? 0,
    skipped: (report?.numPendingTests ?? 0) + (report?.numTodoTests ?? 0),
  };
  const lines = tests.flatMap((/** @type {{ meta?: { backend?: BackendLine } }} */ test) => test.meta?.backend ?? []);
  return { counts: withCrash(counts, exitCode), lines };
}

/**
 * @param {string} path of Playwright's JSON report
 * @param {number} exitCode
 * @returns {Counts}
 */
export function readPlaywrightReport(path, exitCode) {
  const { expected = 0, unexpected = 0, flaky = 0, skipped = 0 } = readJson(path)?.stats ?? {};
  return withCrash({ passed: expected, failed: unexpected + flaky, skipped }, exitCode);
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

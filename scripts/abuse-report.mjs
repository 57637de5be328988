// The section of RELIABILITY.md about the run on a GPU, made of what abuse-cuda.mjs wrote: node scripts/abuse-report.mjs

import './node-version.mjs';
import { existsSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { kernelSourcesSha256 } from './kernel-sources.mjs';
import { root } from './processes.mjs';

/** Where the run that the section is about lies, from the root. */
export const RECORD = 'benchmarks/abuse-nvidia-h200.json';
const DOCUMENT = join(root, 'RELIABILITY.md');
const BEGIN = `<!-- the recorded run: made by scripts/abuse-report.mjs from ${RECORD} -->\n\n`;
const END = '\n<!-- end of the recorded run -->';

/**
 * @typedef {{
 *   name: string, outcome: string, elapsedSeconds: number, detail?: string, figures?: Record<string, unknown>
 * }} Part
 * @typedef {{ date: string, cudaSourcesSha256: string, threads: number, parts: readonly Part[] }} Run
 */

/** @returns {Run | null} */
export function readRun() {
  const path = join(root, RECORD);
  return existsSync(path) ? JSON.parse(readFileSync(path, 'utf8')) : null;
}

/** What stands in RELIABILITY.md between the marks. */
export function recordedSection() {
  const text = readFileSync(DOCUMENT, 'utf8');
  const [from, to] = marks(text);
  return text.slice(from, to);
}

/**
 * The section in Markdown.
 * @param {Run | null} run
 * @param {string} [current] hash of the CUDA sources as they are
 */
export function formatRun(run, current = kernelSourcesSha256('cuda')) {
  if (run === null) return 'No run is recorded yet.\n';
  const { date, cudaSourcesSha256, threads, parts } = run;
  const isCurrent = cudaSourcesSha256 === current;
  const device =
    parts.map(({ figures }) => figures?.['device']).find((name) => typeof name === 'string') ?? 'no device';
  const soaks = parts.flatMap(({ outcome, figures }) => (outcome === 'passed' && figures?.['seed'] ? [figures] : []));
  const sum = (/** @type {string} */ key) => soaks.reduce((total, figures) => total + Number(figures[key]), 0);
  const seeds = soaks.map((figures) => figures['seed']);
  return [
    `${device}, ${date.slice(0, 10)}, CUDA sources ${cudaSourcesSha256.slice(0, 12)}${isCurrent ? '' : ', **which have changed since**'}. Soak: **${grouped(sum('cases'))} cases**, ` +
      `${grouped(sum('outputs'))} outputs, ${sum('mismatchCount')} wrong bits, ${threads} threads, ` +
      `${sum('elapsedSeconds').toFixed(0)} s (seeds ${seeds.join(', ') || 'none'}).`,
    '',
    '| part | outcome | seconds | figures |',
    '|---|---|---|---|',
    ...parts.map(
      ({ name, outcome, elapsedSeconds, detail, figures }) =>
        `| ${name} | ${outcome} | ${elapsedSeconds} | ${cell(detail ?? words(figures ?? {}))} |`,
    ),
    '',
  ].join('\n');
}

/** `before: freeMiB 64, rssMB 67` @param {object} figures @returns {string} */
function words(figures) {
  return Object.entries(figures)
    .filter(([name]) => name !== 'device')
    .map(([name, value]) =>
      typeof value === 'object' && value !== null ? `${name} (${words(value)})` : `${name} ${grouped(value)}`,
    )
    .join(', ');
}

/** 1000000 -> 1 000 000 @param {unknown} value */
function grouped(value) {
  if (typeof value !== 'number') return String(value);
  const [whole = '', fraction] = String(Number.isInteger(value) ? value : value.toFixed(1)).split('.');
  const spaced = whole.replace(/\B(?=(\d{3})+$)/g, ' ');
  return fraction === undefined ? spaced : `${spaced}.${fraction}`;
}

/** On one line of a table. @param {string} text */
function cell(text) {
  return text.replaceAll('|', '\\|').replaceAll('\n', ' ').slice(0, 300);
}

/** @param {string} text @returns {[from: number, to: number]} */
function marks(text) {
  const from = text.indexOf(BEGIN);
  const to = text.indexOf(END);
  if (from < 0 || to < from) throw new Error(`${DOCUMENT} has lost the marks of the recorded run`);
  return [from + BEGIN.length, to];
}

if (realpathSync(process.argv[1] ?? '') === import.meta.filename) {
  const text = readFileSync(DOCUMENT, 'utf8');
  const [from, to] = marks(text);
  writeFileSync(DOCUMENT, `${text.slice(0, from)}${formatRun(readRun())}${text.slice(to)}`);
}

// Abuse of a real CUDA device, for machines that have one:
//   npm run abuse:cuda -- [--cases N] [--seed S] [--threads P] [--minutes M] [--out FILE]
// Needs dist/ (npm run build). Prints a line for each part as it ends, and then writes all figures so far as JSON, so that
// an interrupted run leaves what it has found. Every part has a time limit, and so has the whole. Exits 1 when a part
// failed. What the machine lacks (compute-sanitizer), or has no time for, is said, and counts as not done, not as passed.

import './node-version.mjs';
import { existsSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { kernelSourcesSha256 } from './kernel-sources.mjs';
import { root, run } from './processes.mjs';

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '1' },
    threads: { type: 'string', default: String(Math.max(1, availableParallelism() - 2)) },
    minutes: { type: 'string', default: '8' },
    out: { type: 'string', default: 'abuse-cuda.json' },
  },
});
const cases = Number(values.cases);
const seed = Number(values.seed);
const threads = Number(values.threads);
const deadline = performance.now() + Number(values.minutes) * 60_000;

const cli = join(root, 'dist/node/cli.js');
const addon = process.env['SAMEBITS_CUDA_ADDON'] ?? join(root, 'dist/cuda/samebits_cuda.node');
const TOOLS = ['memcheck', 'racecheck', 'initcheck', 'synccheck'];
const SANITIZER_FAILED = 86;
const TIMED_OUT = 124;
/** Cases of one soak; there are as many soaks as it takes, of one seed after the other, each a part with its figures. */
const CASES_A_SOAK = 250_000;
/** What a part must have left to be begun. */
const SHORTEST_SECONDS = 5;

/**
 * What came of a part: figures when it has some, or else words.
 * @typedef {{ outcome: 'passed' | 'FAILED' | 'not done', detail?: string, figures?: Record<string, unknown> }} Outcome
 * @typedef {Outcome & { name: string, elapsedSeconds: number }} Part
 * @type {Part[]}
 */
const parts = [];

/**
 * @param {string} name
 * @param {number} limitSeconds
 * @param {(timeoutMs: number) => Promise<Outcome>} work must end its processes within the time given
 */
async function part(name, limitSeconds, work) {
  const start = performance.now();
  const seconds = Math.min(limitSeconds, (deadline - start) / 1000);
  const result = await outcomeOf(seconds, work);
  const elapsedSeconds = Math.round((performance.now() - start) / 100) / 10;
  parts.push({ name, elapsedSeconds, ...result });
  const said = result.detail ?? JSON.stringify(result.figures);
  process.stdout.write(`${name.padEnd(28)} ${result.outcome.padEnd(8)} ${elapsedSeconds} s  ${said}\n`);
  const run = { date: new Date().toISOString(), cudaSourcesSha256: kernelSourcesSha256('cuda'), threads };
  writeFileSync(values.out, `${JSON.stringify({ ...run, parts }, null, 1)}\n`);
}

/**
 * @param {number} seconds
 * @param {(timeoutMs: number) => Promise<Outcome>} work
 * @returns {Promise<Outcome>}
 */
async function outcomeOf(seconds, work) {
  if (seconds < SHORTEST_SECONDS) return { outcome: 'not done', detail: `no time left of ${values.minutes} minutes` };
  try {
    return await work(Math.ceil(seconds * 1000));
  } catch (error) {
    return { outcome: 'FAILED', detail: error instanceof Error ? (error.stack ?? error.message) : String(error) };
  }
}

/** @param {{ code: number, output: string }} ended @param {number} timeoutMs */
function failure({ code, output }, timeoutMs) {
  const end = code === TIMED_OUT ? `ended after ${timeoutMs / 1000} s without a result` : `exit ${code}`;
  return `${end}: ${output.slice(0, 1000)}${output.length > 1600 ? ' ... ' : ''}${output.slice(1000).slice(-600)}`;
}

/** @param {string} output */
const lastLine = (output) => output.trim().split('\n').at(-1) ?? '';

/**
 * A command that must end with 0 and print JSON.
 * @param {readonly string[]} args of node
 * @param {number} timeoutMs
 * @returns {Promise<Outcome>}
 */
async function command(args, timeoutMs) {
  const ended = await run(process.execPath, args, { output: 'capture', timeoutMs });
  const json = /^\{.*\}$/ms.exec(ended.output)?.[0];
  if (ended.code !== 0 || json === undefined) return { outcome: 'FAILED', detail: failure(ended, timeoutMs) };
  return { outcome: 'passed', figures: JSON.parse(json) };
}

/** @param {string} name @param {readonly string[]} more @param {number} timeoutMs */
const abuse = (name, more, timeoutMs) =>
  command(['--expose-gc', join(root, 'tests/native/abuse_cuda.mjs'), addon, name, ...more], timeoutMs);

/** @param {number} timeoutMs @returns {Promise<Outcome>} */
async function withoutDevice(timeoutMs) {
  const env = { CUDA_VISIBLE_DEVICES: '' };
  const args = [cli, 'verify', '--backend', 'cuda'];
  const ended = await run(process.execPath, args, { output: 'capture', timeoutMs, env });
  const isSaid = /no NVIDIA device is visible \(cudaErrorNoDevice\).*CUDA_VISIBLE_DEVICES/s.test(ended.output);
  if (ended.code !== 3 || !isSaid) return { outcome: 'FAILED', detail: failure(ended, timeoutMs) };
  return { outcome: 'passed', detail: lastLine(ended.output) };
}

const WAYS_TO_LEAVE = { end: 0, exit: 7, terminate: 3 };

/** @param {number} timeoutMs @returns {Promise<Outcome>} */
async function leaveInFlight(timeoutMs) {
  const wrong = await Promise.all(
    Object.entries(WAYS_TO_LEAVE).map(async ([way, expected]) => {
      const args = [join(root, 'tests/native/leave_in_flight.mjs'), addon, way];
      const ended = await run(process.execPath, args, { output: 'capture', timeoutMs });
      return ended.code === expected && ended.output === '' ? [] : [`${way}: ${failure(ended, timeoutMs)}`];
    }),
  );
  if (wrong.flat().length > 0) return { outcome: 'FAILED', detail: wrong.flat().join('; ') };
  return { outcome: 'passed', detail: Object.keys(WAYS_TO_LEAVE).join(', ') };
}

/** @param {string} tool @param {number} timeoutMs @returns {Promise<Outcome>} */
async function sanitize(tool, timeoutMs) {
  const program = process.env['COMPUTE_SANITIZER'] ?? 'compute-sanitizer';
  const args = ['--tool', tool, '--error-exitcode', String(SANITIZER_FAILED), process.execPath, cli];
  const verify = ['verify', '--backend', 'cuda'];
  const ended = await run(program, [...args, ...verify], { output: 'capture', timeoutMs });
  const { code, output } = ended;
  if (code === 127 || /Device not supported/.test(output)) {
    return { outcome: 'not done', detail: lastLine(output).slice(0, 200) };
  }
  const summary = /=+ (?:ERROR|RACECHECK) SUMMARY.*/.exec(output)?.[0] ?? 'no summary';
  const verdict = /cuda \(.*equal the reference.*/.exec(output)?.[0] ?? 'no verdict';
  const isClean = code === 0 && /: (?:0 errors|0 hazards)/.test(summary) && /(\d+) of \1 results/.test(verdict);
  if (isClean) return { outcome: 'passed', detail: `${summary}; ${verdict}` };
  return { outcome: 'FAILED', detail: `${summary}; ${verdict}; ${failure(ended, timeoutMs)}` };
}

/** @param {number} ofSeed @param {number} count @param {number} timeoutMs @returns {Promise<Outcome>} */
async function soak(ofSeed, count, timeoutMs) {
  const of = ['--soak', String(count), '--seed', String(ofSeed), '--threads', String(threads)];
  const ended = await command([cli, 'verify', '--backend', 'cuda', '--json', ...of], timeoutMs);
  if (ended.outcome !== 'passed') return ended;
  const { cases, outputs, mismatchCount, elapsedSeconds } = ended.figures ?? {};
  const figures = { seed: ofSeed, cases, outputs, mismatchCount, elapsedSeconds };
  const isWhole = cases === count && mismatchCount === 0;
  return { outcome: isWhole ? 'passed' : 'FAILED', figures };
}

if (![cli, addon].every((path) => existsSync(path))) {
  process.stderr.write(`abuse-cuda: ${cli} or ${addon} is not there; run 'npm run build'.\n`);
  process.exit(2);
}
await part('no visible device', 20, withoutDevice);
await part('left with calls in flight', 30, leaveInFlight);
await part('out of memory', 60, (timeoutMs) => abuse('out-of-memory', ['20'], timeoutMs));
await part('200 calls from 8 threads', 60, (timeoutMs) => abuse('concurrent', [], timeoutMs));
await part('10 000 uploads, disposed', 90, (timeoutMs) => abuse('cycles', ['10000'], timeoutMs));
await Promise.all(
  TOOLS.map((tool) => part(`compute-sanitizer ${tool}`, 180, (timeoutMs) => sanitize(tool, timeoutMs))),
);
for (let done = 0, ofSeed = seed; done < cases; done += CASES_A_SOAK, ofSeed++) {
  const count = Math.min(CASES_A_SOAK, cases - done);
  await part(`soak of seed ${ofSeed}`, 240, (timeoutMs) => soak(ofSeed, count, timeoutMs));
}

const failed = parts.filter(({ outcome }) => outcome === 'FAILED').length;
const undone = parts.filter(({ outcome }) => outcome === 'not done').length;
process.stdout.write(`${parts.length - failed - undone} passed, ${failed} failed, ${undone} not done\n`);
process.exitCode = failed > 0 ? 1 : 0;

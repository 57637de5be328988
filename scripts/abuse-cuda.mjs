// Abuse of a real CUDA device, for machines that have one: node scripts/abuse-cuda.mjs [--cases N] [--seed S] [--jobs P]
//   [--out FILE]. Needs dist/ (npm run build). Prints a line for each part, writes all figures as JSON, exits 1 when a
// part failed. What the machine lacks (compute-sanitizer) is said, and counts as not done rather than as passed.

import './node-version.mjs';
import { existsSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root, run } from './processes.mjs';

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: '1' },
    jobs: { type: 'string', default: String(Math.max(1, availableParallelism() - 2)) },
    out: { type: 'string', default: 'abuse-cuda.json' },
  },
});
const seed = Number(values.seed);
const jobs = Number(values.jobs);
const casesPerJob = Math.ceil(Number(values.cases) / jobs);

const cli = join(root, 'dist/node/cli.js');
const addon = process.env['SAMEBITS_CUDA_ADDON'] ?? join(root, 'dist/cuda/samebits_cuda.node');
const TOOLS = ['memcheck', 'racecheck', 'initcheck', 'synccheck'];
const SANITIZER_FAILED = 86;

/**
 * @typedef {{ name: string, outcome: 'passed' | 'FAILED' | 'not done', detail: string, elapsedSeconds: number, figures?: unknown }} Part
 * @type {Part[]}
 */
const parts = [];

/**
 * @param {string} name
 * @param {() => Promise<Omit<Part, 'name' | 'elapsedSeconds'>>} work
 */
async function part(name, work) {
  const start = performance.now();
  const result = await work();
  const elapsedSeconds = Math.round((performance.now() - start) / 100) / 10;
  parts.push({ name, elapsedSeconds, ...result });
  process.stdout.write(`${name.padEnd(28)} ${result.outcome.padEnd(8)} ${elapsedSeconds} s  ${result.detail}\n`);
}

/** @param {string} output */
const lastLine = (output) => output.trim().split('\n').at(-1) ?? '';

/**
 * A command that must end with `expected` and, when that is 0, print JSON.
 * @param {readonly string[]} args of node
 * @param {{ seconds: number, expected?: number, says?: RegExp, env?: Record<string, string> }} options
 * @returns {Promise<Omit<Part, 'name' | 'elapsedSeconds'>>}
 */
async function command(args, { seconds, expected = 0, says = /./s, env = {} }) {
  const { code, output } = await run(process.execPath, args, { output: 'capture', timeoutMs: seconds * 1000, env });
  const isRight = code === expected && says.test(output);
  const figures =
    isRight && expected === 0 && lastLine(output).startsWith('{') ? JSON.parse(lastLine(output)) : undefined;
  const detail = isRight
    ? figures
      ? JSON.stringify(figures)
      : lastLine(output)
    : `exit ${code}: ${output.slice(-600)}`;
  return { outcome: isRight ? 'passed' : 'FAILED', detail, figures };
}

/** @param {string} name @param {readonly string[]} more @param {number} seconds */
const abuse = (name, more, seconds) =>
  command(['--expose-gc', join(root, 'tests/native/abuse_cuda.mjs'), addon, name, ...more], { seconds, says: /^\{/ });

/** @param {string} way @param {number} expected */
async function leave(way, expected) {
  const args = [join(root, 'tests/native/leave_in_flight.mjs'), addon, way];
  const { code, output } = await run(process.execPath, args, { output: 'capture', timeoutMs: 30_000 });
  return code === expected && output === '' ? [] : [`${way}: exit ${code}, ${output.slice(-300)}`];
}

/** @param {string} tool */
async function sanitize(tool) {
  const program = process.env['COMPUTE_SANITIZER'] ?? 'compute-sanitizer';
  const args = ['--tool', tool, '--error-exitcode', String(SANITIZER_FAILED), process.execPath, cli];
  const verify = ['verify', '--backend', 'cuda'];
  const { code, output } = await run(program, [...args, ...verify], { output: 'capture', timeoutMs: 100_000 });
  const summary = /=+ (?:ERROR|RACECHECK) SUMMARY.*/.exec(output)?.[0] ?? 'no summary';
  const verdict = /cuda \(.*equal the reference.*/.exec(output)?.[0] ?? 'no verdict';
  const missing = code === 127 || /Device not supported/.test(output);
  const isClean = code === 0 && /: (?:0 errors|0 hazards)/.test(summary) && /(\d+) of \1 results/.test(verdict);
  /** @type {Part['outcome']} */
  const outcome = isClean ? 'passed' : missing ? 'not done' : 'FAILED';
  const why = outcome === 'FAILED' ? `exit ${code}: ${output.slice(0, 1500)} ... ${output.slice(-400)}` : '';
  return { outcome, detail: missing ? lastLine(output).slice(0, 200) : `${summary}; ${verdict}${why}` };
}

/** @returns {Promise<Omit<Part, 'name' | 'elapsedSeconds'>>} */
async function soak() {
  const runs = Array.from({ length: jobs }, async (_, job) => {
    const args = ['verify', '--backend', 'cuda', '--json', '--soak', String(casesPerJob), '--seed', String(seed + job)];
    const { code, output } = await run(process.execPath, [cli, ...args], { output: 'capture', timeoutMs: 240_000 });
    if (code !== 0) return { cases: 0, outputs: 0, elapsedSeconds: 0, failure: `exit ${code}: ${output.slice(-1200)}` };
    return { failure: '', ...JSON.parse(output) };
  });
  const reports = await Promise.all(runs);
  const sum = (/** @type {'cases' | 'outputs'} */ key) => reports.reduce((total, report) => total + report[key], 0);
  const failures = reports.map(({ failure }) => failure).filter((failure) => failure !== '');
  const figures = { jobs, seeds: `${seed}..${seed + jobs - 1}`, cases: sum('cases'), outputs: sum('outputs') };
  const verdict = failures.length === 0 ? 'every bit equals the reference' : failures.join('\n');
  const detail = `${figures.cases} cases, seeds ${figures.seeds}, ${figures.outputs} outputs: ${verdict}`;
  return { outcome: failures.length === 0 ? 'passed' : 'FAILED', detail, figures };
}

if (![cli, addon].every((path) => existsSync(path))) {
  process.stderr.write(`abuse-cuda: ${cli} or ${addon} is not there; run 'npm run build'.\n`);
  process.exit(2);
}
await part('no visible device', () =>
  command([cli, 'verify', '--backend', 'cuda'], {
    ...{ seconds: 20, expected: 3, says: /no NVIDIA device is visible \(cudaErrorNoDevice\).*CUDA_VISIBLE_DEVICES/s },
    env: { CUDA_VISIBLE_DEVICES: '' },
  }),
);
await part('left with calls in flight', async () => {
  const wrong = [await leave('end', 0), await leave('exit', 7), await leave('terminate', 3)].flat();
  return { outcome: wrong.length === 0 ? 'passed' : 'FAILED', detail: wrong.join('; ') || 'end, exit, terminate' };
});
await part('out of memory', () => abuse('out-of-memory', ['20'], 60));
await part('200 calls from 8 threads', () => abuse('concurrent', [], 60));
await part('10 000 uploads, disposed', () => abuse('cycles', ['10000'], 90));
await Promise.all(TOOLS.map((tool) => part(`compute-sanitizer ${tool}`, () => sanitize(tool))));
await part('soak', soak);

writeFileSync(values.out, `${JSON.stringify({ date: new Date().toISOString(), parts }, null, 1)}\n`);
const failed = parts.filter(({ outcome }) => outcome === 'FAILED').length;
const undone = parts.filter(({ outcome }) => outcome === 'not done').length;
process.stdout.write(`${parts.length - failed - undone} passed, ${failed} failed, ${undone} not done\n`);
process.exitCode = failed > 0 ? 1 : 0;

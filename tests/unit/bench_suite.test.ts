// samebits bench --suite as a user meets it: what it prints and records, what it refuses, and a wrong bit in it.

import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { type WeightForm, weightForm } from '../../core/forms.js';
import type { DecodeLinear } from '../../node/bench/decode_step.js';
import { parseGpuStates } from '../../node/bench/gpu_state.js';
import { commitOf } from '../../node/bench/provenance.js';
import { formatShapes, runShapes, type ShapesReport } from '../../node/bench/shapes.js';
import { registerBench } from '../../node/commands/bench.js';
import { openAvailable } from '../../node/open_available.js';
import { version } from '../../package.json';
import { type Impostor, ImpostorBackend } from './impostor_backend.js';

vi.mock('../../node/open_available.js');
vi.mock('../../node/bench/decode_step.js', async (original) => ({
  ...(await original<object>()),
  decodeLinears: (layers: number, _divisor: number, form?: WeightForm): readonly DecodeLinear[] => {
    const ofForm = form ? { form } : {};
    return [
      { name: 'layer 0 q', layer: 0, n: 256, k: 256, xFrom: null, outputType: 'bf16', ...ofForm },
      { name: `head after ${layers}`, layer: null, n: 100, k: 256, xFrom: 0, outputType: 'f32', ...ofForm },
    ];
  },
}));

let out = '';

beforeEach(() => {
  out = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
  process.exitCode = undefined;
});

async function run(impostors: readonly Impostor[], ...argv: string[]) {
  const backends = impostors.map((how) => new ImpostorBackend(how));
  vi.mocked(openAvailable).mockResolvedValue({ backends, unavailable: [{ name: 'webgpu', reason: 'not here' }] });
  const program = new Command().exitOverride();
  registerBench(program.configureOutput({ writeErr: () => {} }));
  await program.parseAsync(['bench', ...argv], { from: 'user' });
  return process.exitCode;
}

/** Every path of a JSON value, arrays as their first element. */
function paths(value: unknown, prefix = ''): string[] {
  if (Array.isArray(value)) return value.length > 0 ? paths(value[0], `${prefix}[]`) : [prefix];
  if (typeof value !== 'object' || value === null) return [prefix];
  return Object.entries(value).flatMap(([key, inner]) => paths(inner, prefix ? `${prefix}.${key}` : key));
}

const PROVENANCE = [
  'suite',
  'samebits',
  'commit',
  'cudaSourcesSha256',
  'shaderSourcesSha256',
  'node',
  'command',
  'date',
];
const SPREAD = ['medianUs', 'minUs', 'maxUs', 'samples'];
const under = (prefix: string, keys: readonly string[]) => keys.map((key) => `${prefix}.${key}`);

describe('--suite gemma4-31b', () => {
  test('prints every kernel, the roof and the ratios, and what is not here', async () => {
    expect(await run([{}], '--suite', 'gemma4-31b', '--replays', '4')).toBeUndefined();
    expect(out).toMatch(/^suite gemma4-31b, M = 1/);
    expect(out).toMatch(/cuda on Impostor: software, on the CPU\. These timings say nothing about a GPU\./);
    expect(out).toMatch(/read roof, measured in this run: 1\.000 GB\/s/);
    expect(out).toMatch(
      /16 outputs, of every linear, were compared with the reference, and all outputs of the kernels/,
    );
    for (const table of ['decode step', 'head alone']) expect(out).toContain(table);
    expect(out.match(/^\(a\) \[nGroups, N\] .* 1\.00x/gm)).toHaveLength(2);
    expect(out.match(/^\(b\) \[N, nGroups\], plain .* 1\.00x/gm)).toHaveLength(2);
    expect(out.match(/^\(c\) samebits +0\.100 /gm)).toHaveLength(2);
    expect(out).toMatch(/^webgpu: SKIPPED \(not here\)$/m);
  });

  test('records in JSON what it ran on, with all samples', async () => {
    await run([{}], '--suite', 'gemma4-31b', '--replays', '4', '--layers', '7', '--json');
    const record = JSON.parse(out);
    const kernel = [
      'kernel',
      ...under('step', [...SPREAD, 'bandwidthGBps', 'percentOfRoof', 'stepsPerSecond']),
      ...under('wall', SPREAD),
      ...under('latency', SPREAD),
      ...under('head', [...SPREAD, 'bandwidthGBps', 'percentOfRoof']),
    ];
    const report = [
      ...['backend', 'device.name', 'device.isSoftware', 'driver', 'clocks', 'layers', 'divisor', 'linears'],
      ...['weightBytes', 'roof.bandwidthGBps', 'roof.measuredOn', 'readingsGBps[]', 'verifiedOutputs'],
      ...under('kernels[]', kernel),
      ...under('ratios.step', ['nativeToSamebits', 'plainToSamebits']),
      ...under('ratios.head', ['nativeToSamebits', 'plainToSamebits']),
      ...['toCuda', 'skipped', 'difference'],
    ];
    const expected = [...PROVENANCE, ...under('reports[]', report), ...under('unavailable[]', ['name', 'reason'])];
    expect(paths(record).sort()).toEqual(expected.sort());
    expect(record).toMatchObject({ suite: 'gemma4-31b', samebits: version, node: process.version });
    expect(record.command).toMatch(/^samebits/);
    expect(new Date(record.date).toISOString()).toBe(record.date);
    expect(record.reports[0].kernels.map((timed: { kernel: string }) => timed.kernel)).toEqual([
      'native',
      'plain',
      'samebits',
    ]);
  });

  test('with one wrong bit times nothing, names the kernel and the linear, and exits 1', async () => {
    const impostor: Impostor = { fault: { kernel: 'plain', n: 100 } };
    expect(await run([impostor], '--suite', 'gemma4-31b', '--layers', '3')).toBe(1);
    expect(out).toMatch(/NOT TIMED, the bits of \(b\) \[N, nGroups\], plain are wrong: head after 3: y\[m=0, n=0\]/);
    expect(out).not.toMatch(/% of roof|steps\/s/);
  });
});

describe('--suite shapes', () => {
  test('times every kernel with M = 1, 2, 3, 4 and relates them', async () => {
    const report = await runShapes(new ImpostorBackend(), 4, () => {}, [['tiny', 96, 64]]);
    expect(report.measurements.map(({ m }) => m)).toEqual([1, 2, 3, 4]);
    for (const { timings, difference } of report.measurements) {
      expect(difference).toBeNull();
      expect(timings.map(({ kernel, layout }) => `${kernel} ${layout}`)).toEqual([
        'native native',
        'plain coalesced',
        'samebits coalesced',
      ]);
    }
    expect(formatShapes(report)).toMatch(/^96x64 tiny +\(b\) \[N, nGroups\], plain +4 .* 1\.00x +1\.00x$/m);
  });

  test('compares an H200, and nothing else, with the published figures of llama.cpp', () => {
    const [report] = JSON.parse(readFileSync('benchmarks/shapes-nvidia-h200.json', 'utf8')).reports as [ShapesReport];
    const head = report.measurements.find(({ label, m }) => label === 'head' && m === 1);
    const ours = head?.timings.find(({ kernel }) => kernel === 'samebits')?.medianUs ?? 0;
    const ratio = (us: number) => `${us} = ${(us / ours).toFixed(2)}x`;
    const lines = formatShapes(report)
      .split('\n')
      .map((line) => line.replace(/ +/g, ' '));
    const compared = lines.filter((line) => line.endsWith(` ${ratio(293.7)} ${ratio(384.8)}`));
    expect(compared).toEqual([expect.stringMatching(/^262144x5376 head \(c\).* 1 /)]);
    expect(lines.filter((line) => /\d = \d/.test(line))).toHaveLength(5);
    const other = { ...report, device: { ...report.device, name: 'NVIDIA H100' } };
    expect(formatShapes(other)).not.toMatch(/llama/);
  });

  test('does not time wrong bits', async () => {
    const impostor = new ImpostorBackend({ fault: { kernel: 'native', n: 96 } });
    const report = await runShapes(impostor, 4, () => {}, [['tiny', 96, 64]]);
    expect(report.measurements.flatMap(({ timings }) => timings)).toEqual([]);
    expect(formatShapes(report)).toMatch(/96x64, M = 4: NOT TIMED, the bits are wrong: y\[m=0, n=0\]/);
  });

  test('records in JSON what it ran on, with all samples', async () => {
    await run([{}], '--suite', 'shapes', '--replays', '1', '--json');
    const found = paths(JSON.parse(out));
    expect(found).toEqual(expect.arrayContaining(PROVENANCE));
    expect(found).toEqual(
      expect.arrayContaining([
        ...under('reports[]', ['backend', 'device.name', 'driver', 'clocks', 'roofGBps']),
        ...under('reports[].measurements[]', ['n', 'k', 'groupSize', 'm', 'copies', 'verifiedRows', 'difference']),
        ...under('reports[].measurements[].timings[]', [
          'kernel',
          'layout',
          ...SPREAD,
          'bandwidthGBps',
          'percentOfRoof',
        ]),
      ]),
    );
  });
});

describe('--form', () => {
  test.each([
    ['zero', 'f16', 'zero, f16'],
    ['offset', 'bf16', 'offset, bf16'],
    ['nested-zero', 'f16', 'nested-zero'],
    ['nested-offset', 'f16', 'nested-offset'],
  ] as const)('%s of %s times the kernel in use alone, on the bytes of that form', async (kind, dtype, named) => {
    const argv = ['--suite', 'gemma4-31b', '--replays', '4', '--form', kind, '--dtype', dtype];
    await run([{}], ...argv);
    expect(out).toMatch(new RegExp(`^suite gemma4-31b, M = 1, group size 32, ${named}\n`));
    out = '';
    await run([{}], ...argv, '--json');
    const { form, reports } = JSON.parse(out);
    expect(form).toBe(named);
    expect(reports[0].kernels.map(({ kernel }: { kernel: string }) => kernel)).toEqual(['samebits']);
    const bitsOfWeight = kind.startsWith('nested') ? 4.625 : 5;
    expect(reports[0].weightBytes).toBe((bitsOfWeight / 8) * 356 * 256);
  });

  test('shapes are rated by the bytes of the form', async () => {
    const form = weightForm('nested-offset', 'f16', 0);
    const { measurements } = await runShapes(new ImpostorBackend(), 4, () => {}, [['tiny', 96, 256]], form);
    for (const { m, timings } of measurements) {
      expect(timings.map(({ kernel }) => kernel)).toEqual(['samebits']);
      const { bandwidthGBps, medianUs } = timings[0]!;
      expect(bandwidthGBps * medianUs * 1000).toBeCloseTo((4.625 / 8) * 96 * 256 + m * (256 * 2 + 96 * 4), 6);
    }
  });

  test('that names the default one is a run as without it', async () => {
    await run([{}], '--suite', 'gemma4-31b', '--replays', '4', '--form', 'zero', '--dtype', 'bf16', '--json');
    const record = JSON.parse(out);
    expect(record).not.toHaveProperty('form');
    expect(record.reports[0].kernels).toHaveLength(3);
  });

  test.each([
    ['ARGUMENT_INVALID', ['--form', 'offset']],
    ['ARGUMENT_INVALID', ['--dtype', 'f16']],
    ['FORM_UNKNOWN', ['--suite', 'shapes', '--form', 'nested-zero', '--dtype', 'bf16']],
    ['commander.invalidArgument', ['--suite', 'shapes', '--form', 'affine']],
  ])('%s: %j', async (code, argv) => {
    await expect(run([{}], ...argv)).rejects.toThrow(expect.objectContaining({ code }));
    expect(out).toBe('');
  });
});

describe('what a suite cannot take is refused', () => {
  const invalid = expect.objectContaining({ code: 'ARGUMENT_INVALID' });

  test.each([
    ['--shapes', ['--suite', 'gemma4-31b', '--shapes', '64x64']],
    ['--rows', ['--suite', 'shapes', '--rows', '1']],
    ['--group-size', ['--suite', 'shapes', '--group-size', '32']],
    ['--layers', ['--suite', 'shapes', '--layers', '3']],
    ['--layers', ['--layers', '3']],
  ])('%s in %j', async (option, argv) => {
    const call = run([{}], ...argv);
    await expect(call).rejects.toThrow(invalid);
    await expect(call).rejects.toThrow(new RegExp(`got ${option}`));
    expect(out).toBe('');
  });

  test('a run without a backend', async () => {
    await expect(run([], '--suite', 'shapes')).rejects.toThrow(
      expect.objectContaining({ code: 'BACKEND_UNAVAILABLE' }),
    );
    expect(vi.mocked(openAvailable)).toHaveBeenLastCalledWith(['cuda', 'webgpu'], false);
  });

  test.each([
    ['--suite', 'nope'],
    ['--suite', ''],
    ['--suite', 'gemma4-31b', '--layers', '61'],
    ['--suite', 'gemma4-31b', '--layers', '-1'],
  ])('%s %j %s %s, a usage error', async (...argv) => {
    await expect(run([{}], ...argv)).rejects.toThrow(expect.objectContaining({ code: 'commander.invalidArgument' }));
  });
});

describe('what is recorded of the machine', () => {
  test('every GPU of nvidia-smi, null for what it does not give', () => {
    const csv = 'NVIDIA H200, 580.159.04, 1980, 1980, 3201, 3201, 143000\nOld, 470.1, [N/A], 1000, [N/A], 2000, 10\n';
    expect(parseGpuStates(csv)).toEqual([
      {
        name: 'NVIDIA H200',
        driver: '580.159.04',
        smClockMHz: 1980,
        maxSmClockMHz: 1980,
        memoryClockMHz: 3201,
        maxMemoryClockMHz: 3201,
        freeMemoryBytes: 143_000 * 2 ** 20,
      },
      expect.objectContaining({ name: 'Old', smClockMHz: null, maxSmClockMHz: 1000, memoryClockMHz: null }),
    ]);
    expect(parseGpuStates('No devices were found\n')).toBeNull();
  });

  test('the commit of a clone, -dirty when it was changed, and null inside somebody else’s', () => {
    const folder = realpathSync(mkdtempSync(join(tmpdir(), 'samebits-commit-')));
    const git = (...args: string[]) =>
      execFileSync('git', ['-C', folder, '-c', 'user.name=a', '-c', 'user.email=a@b.c', ...args], { encoding: 'utf8' });
    try {
      expect(commitOf(folder)).toBeNull();
      git('init', '--quiet');
      writeFileSync(join(folder, 'file'), '1');
      git('add', '.');
      git('commit', '--quiet', '--message', 'first');
      const commit = git('rev-parse', 'HEAD').trim();
      expect(commitOf(folder)).toBe(commit);
      writeFileSync(join(folder, 'file'), '2');
      expect(commitOf(folder)).toBe(`${commit}-dirty`);
      const inside = join(folder, 'node_modules');
      mkdirSync(inside);
      expect(commitOf(inside)).toBeNull();
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

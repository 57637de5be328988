// verify and bench on a backend with one wrong bit: they must name it, refuse to time it, and exit 1.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { Command } from 'commander';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { CpuBackend, type DeviceBuffer, type DeviceWeight, type Plan, type PlanStep } from '../../core/index.js';
import { registerBench } from '../../node/commands/bench.js';
import { registerVerify } from '../../node/commands/verify.js';
import { convertFile } from '../../node/file_convert.js';
import { openAvailable } from '../../node/open_available.js';
import { FORMATS_FOLDER } from './format_fixtures.js';

vi.mock('../../node/open_available.js');

/** The reference under another name, which can get the last bit of its first output wrong. */
class ImpostorBackend extends CpuBackend {
  // biome-ignore lint/suspicious/noExplicitAny: the name is what a reader of the table sees
  override readonly name: any = 'webgpu';
  constructor(private readonly isFaulty: boolean) {
    super();
  }

  // biome-ignore lint/suspicious/noExplicitAny: the overloads are the base class's
  override async linear(x: any, weight: DeviceWeight, options?: any): Promise<any> {
    const y = await super.linear(x, weight, options);
    if (this.isFaulty && weight.n === 256) new Uint8Array(y.buffer, y.byteOffset)[4 * 3]! ^= 1;
    return y;
  }

  override async plan(steps: readonly PlanStep[]): Promise<Plan> {
    const plan = await super.plan(steps);
    if (!this.isFaulty) return plan;
    const run = plan.run.bind(plan);
    const flip = async (y: DeviceBuffer) => {
      const bytes = await y.read();
      bytes[0]! ^= 1;
      await y.write(bytes);
    };
    return Object.assign(plan, {
      run: async () => {
        await run();
        for (const { y } of steps) await flip(y);
      },
    });
  }
}

let folder: string;
let out = '';

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'samebits-cli-'));
  out = '';
  vi.spyOn(process.stdout, 'write').mockImplementation((text) => {
    out += String(text);
    return true;
  });
});

afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
  process.exitCode = undefined;
});

async function run(isFaulty: boolean, ...argv: string[]) {
  vi.mocked(openAvailable).mockResolvedValue({ backends: [new ImpostorBackend(isFaulty)], unavailable: [] });
  const program = new Command().exitOverride();
  registerVerify(program);
  registerBench(program);
  await program.parseAsync(argv, { from: 'user' });
  return process.exitCode;
}

describe('verify', () => {
  test('names the first differing element with both bit patterns, and exits 1', async () => {
    const packed = join(folder, 'model.safetensors');
    await convertFile(join(import.meta.dirname, '../data/gemma4-kjv-6m'), packed);
    expect(await run(true, 'verify', packed, '--rows', '1,2')).toBe(1);
    expect(out).toMatch(/DIFFERS/);
    expect(out).toMatch(
      /first difference: \S+ m1, f32 y\[m=0, n=3\]: expected 0x[0-9a-f]{8}, got 0x[0-9a-f]{8} \(1 element/,
    );
    expect(out).not.toMatch(/84 of 84/);
  });

  test('exits 0 and says so when every bit is equal', async () => {
    expect(await run(false, 'verify')).toBeUndefined();
    expect(out).toMatch(/webgpu \(.*\): (\d+) of \1 results equal the reference's, bit for bit\./);
  });

  test('takes several files, and names their weights by both', async () => {
    const paths = ['awq', 'mlx'].map((name) => join(folder, `${name}.safetensors`));
    for (const path of paths) await convertFile(join(FORMATS_FOLDER, basename(path, '.safetensors')), path);
    expect(await run(false, 'verify', ...paths, '--rows', '1,2')).toBeUndefined();
    for (const name of ['awq', 'mlx']) expect(out).toContain(`${name}.safetensors: m.weight m2 `);
    expect(out).toMatch(/4 of 4 results equal/);
    const again = run(false, 'verify', ...paths, join(folder, '../elsewhere/mlx.safetensors'));
    await expect(again).rejects.toMatchObject({ code: 'ARGUMENT_INVALID', got: 'mlx.safetensors twice' });
  });

  test('writes no record without CUDA', async () => {
    for (const what of [[], ['--decode']]) {
      const recording = run(false, 'verify', ...what, '--record', join(folder, 'r.json'));
      await expect(recording).rejects.toMatchObject({ code: 'BACKEND_UNAVAILABLE' });
    }
  });
});

describe('bench', () => {
  test('refuses to time wrong bits, and exits 1', async () => {
    expect(await run(true, 'bench', '--shapes', '64x64', '--replays', '4')).toBe(1);
    expect(out).toMatch(/64x64, M = 1: NOT TIMED, the bits are wrong: y\[m=0, n=0\]/);
    expect(out).not.toMatch(/64x64 +1 +\[/);
  });

  test('times right bits, and says that it ran in software', async () => {
    expect(await run(false, 'bench', '--shapes', '64x64', '--rows', '1,3', '--replays', '4')).toBeUndefined();
    expect(out).toMatch(/software, on the CPU\. These timings say nothing about a GPU/);
    expect(out).toMatch(/64x64 +1 +\[N, nGroups\]/);
    expect(out).toMatch(/64x64 +3 +\[N, nGroups\]/);
  });
});

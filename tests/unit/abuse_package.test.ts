// The package as npm would publish it: what is in it, and that it works with nothing but its own dependencies.

import { execFileSync, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { publint } from 'publint';
import { build } from 'vite';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { setUp } from '../../scripts/setup.mjs';

const root = resolve(import.meta.dirname, '../..');
const folder = mkdtempSync(join(tmpdir(), 'samebits-package-'));
/** An empty project with the package installed, outside this repository, so that nothing else can be found. */
const project = join(folder, 'project');
const installed = join(project, 'node_modules/samebits');
let tarball = '';
let packed: readonly string[] = [];

interface Locked {
  readonly version?: string;
  readonly dev?: boolean;
  readonly optional?: boolean;
  readonly peer?: boolean;
  readonly hasInstallScript?: boolean;
}
const lockfile: { readonly packages: Readonly<Record<string, Locked>> } = JSON.parse(
  readFileSync(join(root, 'package-lock.json'), 'utf8'),
);
/** What `npm install samebits` installs besides samebits. */
const dependencies = Object.entries(lockfile.packages).filter(
  ([path, { dev, optional, peer }]) => path !== '' && !dev && !optional && !peer,
);

beforeAll(async () => {
  await setUp(() => {});
  const json = execFileSync('npm', ['pack', '--json', '--pack-destination', folder], { cwd: root, encoding: 'utf8' });
  const [pack]: { filename: string; files: { path: string }[] }[] = JSON.parse(json);
  tarball = join(folder, pack!.filename);
  packed = pack!.files.map(({ path }) => path).sort();
  mkdirSync(installed, { recursive: true });
  execFileSync('tar', ['-xzf', tarball, '-C', installed, '--strip-components=1']);
  for (const [path] of dependencies) cpSync(join(root, path), join(project, path), { recursive: true });
  writeFileSync(join(project, 'package.json'), '{ "type": "module" }');
}, 300_000);

afterAll(() => rmSync(folder, { recursive: true }));

/** Runs a module in the project; gives what it printed. */
function run(...args: string[]) {
  const env = { ...process.env, NODE_PATH: '', SAMEBITS_CUDA_ADDON: join(folder, 'no_addon.node') };
  const { status, stdout, stderr } = spawnSync(process.execPath, args, { cwd: project, env, encoding: 'utf8' });
  return { status, stdout, stderr };
}

describe('contents', () => {
  const ALLOWED = [
    /^(LICENSE|README\.md|package\.json)$/,
    /^dist\/(core|shaders|web)\/index\.js(\.map)?$/,
    /^dist\/node\/(index|cli|soak_worker|convert_worker)\.js(\.map)?$/,
    /^dist\/[\w]+-[\w-]{8}\.js(\.map)?$/,
    /^dist\/cuda\/samebits_cuda\.node$/,
    /^dist\/types\/(core|shaders|node|web)\/[\w/]+\.d\.ts$/,
  ];
  const REQUIRED = [
    ...['LICENSE', 'README.md', 'package.json', 'dist/node/cli.js', 'dist/node/soak_worker.js'],
    ...['core', 'shaders', 'node', 'web'].flatMap((entry) => [
      `dist/${entry}/index.js`,
      `dist/types/${entry}/index.d.ts`,
    ]),
  ];

  test('are what the package needs, and nothing else', () => {
    expect(packed.filter((path) => !ALLOWED.some((pattern) => pattern.test(path)))).toEqual([]);
    expect(REQUIRED.filter((path) => !packed.includes(path))).toEqual([]);
    expect(packed.includes('dist/cuda/samebits_cuda.node')).toBe(
      existsSync(join(root, 'dist/cuda/samebits_cuda.node')),
    );
  });

  test('hold the place where they were made nowhere', () => {
    const telling = packed
      .filter((path) => !path.endsWith('.node'))
      .filter((path) => {
        const text = readFileSync(join(installed, path), 'utf8');
        return text.includes(root) || text.includes(folder);
      });
    expect(telling).toEqual([]);
  });

  test('every chunk that an entry imports is there', () => {
    const missing = packed
      .filter((path) => path.endsWith('.js'))
      .flatMap((path) =>
        [...readFileSync(join(installed, path), 'utf8').matchAll(/(?:from|import)\s*"(\.[^"]+)"/g)]
          .map(([, specifier]) => join(path, '..', specifier!))
          .filter((target) => !packed.includes(target)),
      );
    expect(missing).toEqual([]);
  });
});

describe('installing', () => {
  test('runs no script, of the package or of what it depends on', () => {
    const { scripts = {} } = JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8'));
    for (const name of ['preinstall', 'install', 'postinstall', 'prepare', 'prepack'])
      expect(scripts[name]).toBeUndefined();
    expect(dependencies.filter(([, { hasInstallScript }]) => hasInstallScript)).toEqual([]);
    expect(existsSync(join(installed, 'binding.gyp'))).toBe(false);
  });

  test('brings few packages, and neither Dawn nor a compiler', () => {
    const names = dependencies.map(([path]) => path.replace(/^.*node_modules\//, ''));
    expect(names).toEqual(expect.arrayContaining(['@noble/hashes', 'cli-progress', 'commander']));
    expect(names.length).toBeLessThan(12);
    for (const name of ['webgpu', 'node-addon-api', 'vite', 'typescript']) expect(names).not.toContain(name);
  });

  test('the lockfile agrees with package.json', () => {
    const { status, stderr } = spawnSync('npm', ['ci', '--dry-run', '--ignore-scripts', '--offline', '--no-audit'], {
      ...{ cwd: root, encoding: 'utf8', env: { ...process.env, npm_config_loglevel: 'error' } },
    });
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
  });
});

describe('in an empty project, with no GPU, no compiler, no optional dependency', () => {
  test('the three entries are imported and compute', () => {
    writeFileSync(
      join(project, 'use.js'),
      `import { CoalescedInt4Tensor, openBackend, quantizeInt4 } from 'samebits';
       import { int4PlainMM } from 'samebits/core';
       import { WebGPUBackend } from 'samebits/shaders';
       const values = Float32Array.from({ length: 96 * 64 }, (_, i) => Math.sin(i));
       const weight = CoalescedInt4Tensor.fromInt4Tensor(quantizeInt4(values, { n: 96, k: 64, groupSize: 32 }));
       const x = Uint16Array.from({ length: 128 }, (_, i) => 0x3f00 + i);
       const backend = await openBackend('auto');
       const y = await backend.linear(x, await backend.upload(weight));
       const isSame = Buffer.compare(Buffer.from(y.buffer), Buffer.from(int4PlainMM(x, weight).buffer)) === 0;
       const webgpu = await openBackend('webgpu').catch(({ code, got, fix }) => ({ code, got, fix }));
       const cuda = await openBackend('cuda').catch(({ code, got }) => ({ code, got }));
       const kind = typeof WebGPUBackend.create;
       console.log(JSON.stringify({ name: backend.name, passedOver: backend.passedOver, isSame, webgpu, cuda, kind }));`,
    );
    const { status, stdout, stderr } = run('use.js');
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(JSON.parse(stdout)).toEqual({
      name: 'cpu',
      isSame: true,
      kind: 'function',
      passedOver: [
        { name: 'cuda', reason: expect.stringContaining('no_addon.node') },
        { name: 'webgpu', reason: "the 'webgpu' package is not installed" },
      ],
      webgpu: {
        code: 'BACKEND_UNAVAILABLE',
        got: "the 'webgpu' package is not installed",
        fix: "Run 'npm install webgpu'.",
      },
      cuda: { code: 'BACKEND_UNAVAILABLE', got: expect.stringContaining('no_addon.node') },
    });
  });

  test('the command runs, and says what is not there', () => {
    const cli = 'node_modules/samebits/dist/node/cli.js';
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    expect(run(cli, '--version')).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
    expect(run(cli, 'doctor')).toMatchObject({ status: 0, stdout: expect.stringContaining("'webgpu' package is not") });
    expect(run(cli, 'verify')).toMatchObject({
      status: 3,
      stdout: '',
      stderr: expect.stringMatching(/^samebits: [^\n]+\n$/),
    });
  });

  test.each(['nodenext', 'bundler'])('its types compile under strict without skipLibCheck (%s)', (resolution) => {
    writeFileSync(
      join(project, 'use.ts'),
      `import { type Backend, CoalescedInt4Tensor, openBackend, quantizeInt4 } from 'samebits';
       const native = quantizeInt4(new Float32Array(128), { n: 4, k: 32, groupSize: 32 });
       const backend: Backend = await openBackend('auto');
       const weight = await backend.upload(CoalescedInt4Tensor.fromInt4Tensor(native));
       export const y: Float32Array = await backend.linear(new Float32Array(32), weight);
       // @ts-expect-error an Int4Tensor cannot be uploaded
       await backend.upload(native);`,
    );
    const modules = resolution === 'bundler' ? 'esnext' : resolution;
    const args = ['--noEmit', '--strict', '--target', 'es2023', '--lib', 'es2023,dom', '--module', modules];
    const tsc = join(root, 'node_modules/typescript/bin/tsc');
    expect(run(tsc, ...args, '--moduleResolution', resolution, 'use.ts')).toMatchObject({ status: 0, stdout: '' });
  });
});

test('a browser bundle has neither Node nor native code in it', async () => {
  writeFileSync(join(project, 'page.ts'), `import * as samebits from 'samebits';\nconsole.log(samebits);\n`);
  writeFileSync(join(project, 'index.html'), '<script type="module" src="./page.ts"></script>');
  const warnings: string[] = [];
  const output = await build({
    root: project,
    configFile: false,
    logLevel: 'silent',
    build: {
      write: false,
      minify: true, // without comments, in which packages may say anything
      rolldownOptions: {
        onwarn: ({ message }: { readonly message?: string }) => warnings.push(message ?? 'a warning'),
      },
    },
  });
  if (!('output' in output)) throw new Error('one bundle was expected');
  expect(warnings).toEqual([]);
  const code = output.output.map((chunk) => (chunk.type === 'chunk' ? chunk.code : '')).join('\n');
  expect(code).toContain('createShaderModule');
  const foreign =
    /node:|samebits_cuda|\.node["']|createRequire|dlopen|__dirname|\bprocess\.|\bBuffer\.(?:from|alloc|concat)/;
  expect(foreign.exec(code)?.[0]).toBeUndefined();
  expect(output.output.map(({ fileName }) => fileName).filter((name) => name.endsWith('.node'))).toEqual([]);
  const modules = output.output.flatMap((chunk) => (chunk.type === 'chunk' ? chunk.moduleIds : []));
  const ours = modules.filter((id) => id.startsWith(installed)).map((id) => id.slice(installed.length + 1));
  expect(ours).toContain('dist/web/index.js');
  expect(ours.filter((id) => id.startsWith('dist/node/'))).toEqual([]);
});

describe('linters of packages', () => {
  test('publint has nothing to say', async () => {
    const { messages } = await publint({ pkgDir: installed, pack: false, strict: true });
    expect(messages).toEqual([]);
  });

  test('the types are right for ESM, under Node and bundlers', () => {
    const attw = join(root, 'node_modules/@arethetypeswrong/cli/dist/index.js');
    const { status, stdout, stderr } = run(attw, tarball, '--profile', 'esm-only', '--no-color', '--no-emoji');
    expect({ status, stderr, stdout: status === 0 ? '' : stdout }).toEqual({ status: 0, stderr: '', stdout: '' });
    expect(stdout.match(/ OK \(ESM\) /g)).toHaveLength(3);
  });
});

// samebits doctor: what is here, what is missing, why, and the command that would fix it.

import { existsSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Command } from 'commander';
import { type BackendName, type DeviceInfo, SamebitsError } from '../../core/index.js';
import { version } from '../../package.json';
import { probeCuda } from '../cuda_addon.js';
import { BACKEND_ORDER, openBackend } from '../open_backend.js';

interface Finding {
  readonly what: string;
  readonly status: 'ok' | 'missing' | 'software';
  readonly detail: string;
  /** Empty when there is nothing to fix. */
  readonly fix: string;
  readonly device?: DeviceInfo;
  /** Of the CUDA addon, which may be there without a device. */
  readonly addon?: Readonly<Record<string, string>>;
}

export function registerDoctor(program: Command): void {
  program
    .command('doctor')
    .description('what is here, what is missing, why, and the command that would fix it')
    .option('--json', 'print the findings as JSON')
    .action(doctor);
}

async function doctor(options: { readonly json?: true }): Promise<void> {
  const findings: Finding[] = [
    { what: 'samebits', status: 'ok', detail: version, fix: '' },
    nodeFinding(),
    ...(await Promise.all(BACKEND_ORDER.map((name) => (name === 'cuda' ? cudaFinding() : backendFinding(name))))),
    nvccFinding(),
  ];
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ findings }, null, 1)}\n`);
    return;
  }
  const width = Math.max(...findings.map(({ what }) => what.length));
  for (const { what, status, detail, fix, device, addon } of findings) {
    process.stdout.write(`${what.padEnd(width)}  ${status.padEnd(8)}  ${detail}\n`);
    for (const [key, value] of Object.entries({ ...device?.details, ...addon })) {
      process.stdout.write(`${' '.repeat(width + 12)}${key}: ${value}\n`);
    }
    if (fix) process.stdout.write(`${' '.repeat(width + 12)}fix: ${fix}\n`);
  }
}

function nodeFinding(): Finding {
  const [major = 0, minor = 0] = process.versions.node.split('.').map(Number);
  const isSupported = major > 20 || (major === 20 && minor >= 19);
  return {
    what: 'node',
    status: isSupported ? 'ok' : 'missing',
    detail: `${process.version} on ${process.platform} ${process.arch}`,
    fix: isSupported ? '' : 'Install Node 20.19 or newer.',
  };
}

async function backendFinding(name: BackendName): Promise<Finding> {
  try {
    const backend = await openBackend(name);
    const { device } = backend;
    await backend.dispose();
    const isSoftware = device.isSoftware && name !== 'cpu';
    return {
      what: name,
      status: isSoftware ? 'software' : 'ok',
      detail: isSoftware ? `${device.name}: right bits, but its speed says nothing about a GPU` : device.name,
      fix: isSoftware ? 'Install a Vulkan driver for a GPU, if this machine has one.' : '',
      device,
    };
  } catch (error) {
    if (!(error instanceof SamebitsError)) throw error;
    return { what: name, status: 'missing', detail: error.got, fix: error.fix };
  }
}

/** The backend, and what its addon says without opening a device. */
async function cudaFinding(): Promise<Finding> {
  const finding = await backendFinding('cuda');
  const { addonPath, sourcesSha256, devices } = await probeCuda();
  if (addonPath === null) return finding;
  const isCurrent = sourcesSha256 === __CUDA_SOURCES_SHA256__;
  const addon = {
    addon: isCurrent ? addonPath : `${addonPath}, built from other kernels than this version's`,
    visibleDevices: devices.map(({ name, computeCapability }) => `${name} (${computeCapability})`).join(', ') || 'none',
  };
  return {
    ...finding,
    fix: finding.fix || (isCurrent ? '' : "Run 'npm run build' in the clone that the addon is from."),
    addon,
  };
}

/** The compiler is needed only to build the addon from a clone. */
function nvccFinding(): Finding {
  const folders = [
    ...(process.env['PATH'] ?? '').split(delimiter),
    ...(process.env['CUDA_HOME'] ? [join(process.env['CUDA_HOME'], 'bin')] : []),
    '/usr/local/cuda/bin',
  ];
  const found = folders.map((folder) => join(folder, 'nvcc')).find((path) => existsSync(path));
  return {
    what: 'nvcc',
    status: found ? 'ok' : 'missing',
    detail: found ?? 'not on PATH, in CUDA_HOME or in /usr/local/cuda/bin; needed only to build the CUDA addon',
    fix: found ? '' : "Install the CUDA toolkit (12.3 or newer) and run 'npm run build'.",
  };
}

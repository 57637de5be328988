// samebits matvec: one linear, from files to a file, for scripts.

import { readFile } from 'node:fs/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { type OutputType, SamebitsError } from '../../core/index.js';
import { parseBackendName } from '../backend_option.js';
import { fileUnreadableError } from '../file_errors.js';
import { writeFileWhole } from '../file_sink.js';
import { BACKEND_ORDER, openBackend } from '../open_backend.js';
import { withSamebitsFile } from '../packed_file.js';

interface MatvecOptions {
  readonly input: string;
  readonly rows: number;
  readonly backend: string;
  readonly output: string;
  readonly outputType: OutputType;
  readonly json?: true;
}

export function registerMatvec(program: Command): void {
  program
    .command('matvec')
    .description('multiply activations by one packed weight: y = x · wᵀ')
    .argument('<file>', 'a samebits checkpoint')
    .argument('<tensor>', "name of a packed weight, as 'samebits inspect' lists it")
    .requiredOption('--input <x.bin>', 'activations: raw little-endian bf16[M, K]')
    .requiredOption('--rows <M>', 'rows of activations', parseRowCount)
    .addOption(new Option('--backend <name>', 'what computes').choices(['auto', ...BACKEND_ORDER]).default('auto'))
    .requiredOption('--output <y.bin>', 'written only on success: raw little-endian [M, N]')
    .addOption(new Option('--output-type <type>', 'element type of the output').choices(['f32', 'bf16']).default('f32'))
    .option('--json', 'describe what ran, as JSON on stdout')
    .action(matvec);
}

function parseRowCount(text: string): number {
  const m = Number(text);
  if (Number.isInteger(m) && m > 0) return m;
  throw new InvalidArgumentError('Expected a positive integer.');
}

async function matvec(file: string, tensor: string, options: MatvecOptions): Promise<void> {
  const input = await readFile(options.input).catch((error: unknown) => {
    throw fileUnreadableError(options.input, error);
  });
  const weight = await withSamebitsFile(file, (packed) => packed.readWeight(tensor));
  const expectedBytes = options.rows * weight.k * 2;
  if (input.byteLength !== expectedBytes) {
    throw new SamebitsError('INPUT_LENGTH_MISMATCH', {
      rule: 'the input file must hold exactly bf16[M, K]',
      expected: `${expectedBytes} bytes for M = ${options.rows}, K = ${weight.k}`,
      got: `${input.byteLength} bytes in ${options.input}`,
      fix: 'Write raw little-endian bf16, without a header, and pass the number of rows with --rows.',
    });
  }
  const x = new Uint16Array(input.buffer.slice(input.byteOffset, input.byteOffset + input.byteLength));
  const backend = await openBackend(options.backend === 'auto' ? 'auto' : parseBackendName(options.backend));
  try {
    const handle = await backend.upload(weight);
    const y = await backend.linear(x, handle, { outputType: options.outputType });
    handle.dispose();
    await writeFileWhole(options.output, new Uint8Array(y.buffer, y.byteOffset, y.byteLength));
    if (options.json) {
      const { name, device, passedOver } = backend;
      const shape = { m: options.rows, n: weight.n, k: weight.k, groupSize: weight.groupSize };
      process.stdout.write(`${JSON.stringify({ backend: name, device, passedOver, tensor, ...shape })}\n`);
    }
  } finally {
    await backend.dispose();
  }
}

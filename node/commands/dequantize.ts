// samebits dequantize: one tensor of any readable checkpoint as raw f32, for checking by other tools.

import { type Command, Option } from 'commander';
import { LAYOUTS, type Layout } from '../../core/index.js';
import { dequantizeFile } from '../file_dequantize.js';
import { interruptible } from '../interruption.js';

interface DequantizeOptions {
  readonly output: string;
  readonly layout?: Layout;
  readonly assumeZeroOffset?: true;
  readonly force?: true;
  readonly json?: true;
}

export function registerDequantize(program: Command): void {
  program
    .command('dequantize')
    .description('write one tensor of any readable checkpoint as raw little-endian f32 [N, K]')
    .argument('<source>', "a checkpoint: .safetensors, an index of shards, .gguf, or a model's folder")
    .argument('<tensor>', 'a tensor or a 4-bit weight, as samebits inspect names it')
    .requiredOption('--output <file>', 'the file to write')
    .addOption(
      new Option('--layout <name>', 'what the file cannot say of itself; asked for where needed').choices(LAYOUTS),
    )
    .option('--assume-zero-offset', 'read zero points of asymmetric GPTQ v1 as stored + 1')
    .option('--force', 'replace the output if it exists')
    .option('--json', 'print what was written as JSON')
    .action(dequantize);
}

async function dequantize(source: string, tensor: string, options: DequantizeOptions): Promise<void> {
  await interruptible(async (signal) => {
    const { output, force, json, ...importOptions } = options;
    const report = await dequantizeFile(source, tensor, output, {
      ...importOptions,
      overwrite: force ?? false,
      signal,
    });
    const line = json
      ? JSON.stringify({ source, tensor, output, ...report })
      : `wrote ${output}: f32 [${report.shape.join(', ')}] from ${report.format}, ${report.outputBytes} bytes`;
    process.stdout.write(`${line}\n`);
  });
}

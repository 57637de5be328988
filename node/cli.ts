#!/usr/bin/env node
// The samebits command: parses, runs a verb, prints one clear message and sets the exit code when it fails.

import { Command, CommanderError } from 'commander';
import { SamebitsError } from '../core/index.js';
import { version } from '../package.json';
import { registerBench } from './commands/bench.js';
import { registerConvert } from './commands/convert.js';
import { registerDequantize } from './commands/dequantize.js';
import { registerDoctor } from './commands/doctor.js';
import { registerGenerate } from './commands/generate.js';
import { registerInspect } from './commands/inspect.js';
import { registerMatvec } from './commands/matvec.js';
import { registerVerify } from './commands/verify.js';
import { EXIT, exitCodeOf } from './exit_codes.js';
import { watchOutput } from './output_errors.js';

watchOutput();

const program = new Command('samebits')
  .description('One int4 matvec for decoding language models: the same bits on CUDA, WebGPU and the CPU.')
  .version(version)
  .showHelpAfterError("Run 'samebits help' for the verbs and their options.")
  .addHelpText('after', '\nExit codes: 0 fine, 1 mismatch or failure, 2 usage or bad input, 3 backend unavailable.')
  .exitOverride();

for (const register of [
  registerDoctor,
  registerVerify,
  registerBench,
  registerConvert,
  registerDequantize,
  registerInspect,
  registerGenerate,
  registerMatvec,
]) {
  register(program);
}
try {
  await program.parseAsync();
} catch (error) {
  if (error instanceof CommanderError) {
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  } else if (error instanceof SamebitsError) {
    process.stderr.write(`samebits: ${error.message}\n`);
    process.exitCode = exitCodeOf(error);
  } else {
    process.stderr.write(`samebits: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}\n`);
    process.exitCode = EXIT.failure;
  }
}

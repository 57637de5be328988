// samebits bench --suite gemma4-31b --decode: whole steps of the 31B shape, from token to token.

import type { WeightForm } from '../../core/forms.js';
import { decoder31b } from '../bench/decoder_31b.js';
import { type DecoderReport, measureDecoder } from '../bench/decoder_measure.js';
import { differingContexts, formatDecoder } from '../bench/decoder_report.js';
import { provenance } from '../bench/provenance.js';
import { warmUp } from '../bench/roof.js';
import { EXIT } from '../exit_codes.js';
import type { Available } from '../open_available.js';
import { terminalProgress } from '../progress.js';
import { formField } from './bench_form.js';

const HARDWARE = { contexts: [512, 8192], replays: 64, layers: 60, divisor: 1 };
/** Five sliding layers and a full one, every width but that of a head divided. */
const SOFTWARE = { contexts: [8, 40], replays: 2, layers: 6, divisor: 8 };

export interface BenchDecoderOptions {
  readonly layers?: number;
  readonly replays?: number;
  readonly json?: true;
}

/**
 * Runs every backend in turn, CUDA first, and prints what each showed.
 * @param form of the weights, where it is not the default one
 */
export async function benchDecoder(
  { backends, unavailable }: Available,
  options: BenchDecoderOptions,
  form?: WeightForm,
): Promise<void> {
  const progress = terminalProgress();
  const { date, ...from } = provenance();
  const reports: DecoderReport[] = [];
  let isWrong = false;
  try {
    for (const backend of backends) {
      const sizes = backend.device.isSoftware ? SOFTWARE : HARDWARE;
      await warmUp(backend);
      const report = await measureDecoder(backend, {
        config: decoder31b(options.layers ?? sizes.layers, sizes.divisor, form),
        ...(form ? { form } : {}),
        contexts: sizes.contexts,
        replays: options.replays ?? sizes.replays,
        onProgress: progress.update,
      });
      progress.clear();
      isWrong ||= differingContexts(report, reports).length > 0;
      if (!options.json) process.stdout.write(`${formatDecoder(report, reports)}\n`);
      reports.push(report);
    }
  } finally {
    progress.clear();
  }
  if (options.json) {
    process.stdout.write(
      `${JSON.stringify({ suite: 'gemma4-31b --decode', ...formField(form), ...from, date, reports, unavailable }, null, 1)}\n`,
    );
  } else {
    for (const { name, reason } of unavailable) process.stdout.write(`${name}: SKIPPED (${reason})\n`);
  }
  if (isWrong) process.exitCode = EXIT.failure;
}

// The table of `samebits convert --report`: signal to noise of every linear, and what they come to together.

import { printable } from '../core/checkpoint/tensor_error.js';
import {
  ACCURACY_SETTINGS,
  type LinearAccuracy,
  measureAccuracy,
  openModelCheckpoint,
  type SelectionOptions,
} from '../core/index.js';
import { locateModel } from './file_source.js';
import { formatTable } from './table.js';

export interface AccuracyReportOptions extends SelectionOptions {
  readonly signal?: AbortSignal;
}

/**
 * Measures a model on disk; writes nothing.
 * @throws SamebitsError those of openModelCheckpoint and measureAccuracy
 */
export async function reportAccuracy(
  sourcePath: string,
  options: AccuracyReportOptions = {},
): Promise<readonly LinearAccuracy[]> {
  const { folder, entry } = await locateModel(sourcePath);
  const model = await openModelCheckpoint(folder, entry);
  try {
    const linears: LinearAccuracy[] = [];
    for await (const linear of measureAccuracy(model, options)) {
      options.signal?.throwIfAborted();
      linears.push(linear);
    }
    return linears;
  } finally {
    await model.close();
  }
}

/** One row a linear, `weights / product` in dB for each setting, then the mean and the least over all linears. */
export function formatAccuracy(linears: readonly LinearAccuracy[]): string {
  const titles = ACCURACY_SETTINGS.map(({ groupSize, symmetric }) => `${groupSize} ${symmetric ? 'sym' : 'asym'}`);
  const rows = linears.map(({ name, n, k, settings }) => [
    printable(name),
    `${n} x ${k}`,
    ...settings.map(({ weightSnrDb, productSnrDb }) => cell(weightSnrDb, productSnrDb)),
  ]);
  const over = (combine: (values: readonly number[]) => number) =>
    ACCURACY_SETTINGS.map((_, i) => {
      const values = (of: 'weightSnrDb' | 'productSnrDb') =>
        linears.flatMap(({ settings }) => settings[i]?.[of] ?? []).filter(Number.isFinite);
      return cell(combine(values('weightSnrDb')), combine(values('productSnrDb')));
    });
  const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
  return formatTable(
    [
      { title: 'linear' },
      { title: 'N x K', align: 'right' },
      ...titles.map((title) => ({ title, align: 'right' as const })),
    ],
    [...rows, ['mean', '', ...over(mean)], ['least', '', ...over((values) => Math.min(...values))]],
  );
}

function cell(weightSnrDb: number | undefined, productSnrDb: number | undefined): string {
  return weightSnrDb === undefined || productSnrDb === undefined
    ? '-'
    : `${weightSnrDb.toFixed(1)} / ${productSnrDb.toFixed(1)}`;
}

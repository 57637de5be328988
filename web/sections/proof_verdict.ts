// What the results of a run say, in one sentence.

import { formatDifference, type ParityResult } from '../../core/index.js';
import { type CudaRecord, recordedDigest } from '../records.js';

/** How the results stand against one recorded CUDA run. */
export interface RecordStanding {
  readonly device: string;
  /** Inputs that the record holds, and those of them that gave its digest. */
  readonly compared: number;
  readonly equal: number;
}

export interface Verdict {
  readonly state: 'equal' | 'different';
  readonly sentence: string;
  /** Position of the first result that is not equal everywhere. */
  readonly firstDifferent?: number;
  readonly records: readonly RecordStanding[];
}

/** Whether every backend gave the reference's bits. */
export function isEqual(result: ParityResult): boolean {
  return result.outcomes.every(({ difference }) => difference === null);
}

/** Whether a record holds other bits for this input; the reference's digest is the device's when `isEqual`. */
function differsFrom(record: CudaRecord, result: ParityResult): boolean {
  const digest = recordedDigest(record, result.name);
  return digest !== undefined && digest !== result.sha256;
}

/** @param device where WebGPU ran, for the sentence */
export function judge(results: readonly ParityResult[], device: string, records: readonly CudaRecord[]): Verdict {
  const standings = records
    .map((record) => {
      const held = results.filter(({ name }) => recordedDigest(record, name) !== undefined);
      const equal = held.filter((result) => isEqual(result) && !differsFrom(record, result)).length;
      return { device: record.device, compared: held.length, equal };
    })
    .filter(({ compared }) => compared > 0);
  const differing = results.filter((result) => !isEqual(result));
  const inputs = (count: number) => `${count} ${count === 1 ? 'input' : 'inputs'}`;

  const first = differing[0];
  const difference = first?.outcomes.find((outcome) => outcome.difference)?.difference;
  if (first && difference) {
    return {
      state: 'different',
      sentence:
        `${inputs(differing.length)} of ${results.length} gave other bits than the reference. ` +
        `The first: ${first.name}, ${difference.outputType} ${formatDifference(difference)}.`,
      firstDifferent: results.indexOf(first),
      records: standings,
    };
  }
  for (const record of records) {
    const other = results.findIndex((result) => differsFrom(record, result));
    if (other < 0) continue;
    return {
      state: 'different',
      sentence: `The reference and ${device} agree, but the run recorded on ${record.device} gave other bits for ${results[other]!.name}.`,
      firstDifferent: other,
      records: standings,
    };
  }
  return { state: 'equal', sentence: equalSentence(results, device, standings), records: standings };
}

function equalSentence(results: readonly ParityResult[], device: string, standings: readonly RecordStanding[]): string {
  const bits = results.reduce((sum, { m, n }) => sum + m * n * (32 + 16), 0).toLocaleString('en');
  const recorded = standings.map(({ device: where, compared }) =>
    compared === results.length ? where : `${where} (${compared} of ${results.length} inputs)`,
  );
  const also = recorded.length === 0 ? '' : `, and the bits recorded on ${recorded.join(' and ')}`;
  return `All ${bits} output bits of ${results.length} inputs on ${device} are the bits of the CPU reference${also}.`;
}
